//! Mounts in a container, and the root put together for it.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use luthier_ports::Network;

use crate::world::{World, mount, rootfs, spec};

#[tokio::test]
async fn layers_are_mounted_where_the_image_has_nothing() {
    let world = World::new();
    let layer = world.dir.path().join("layer");
    let socket = world.dir.path().join("socket");
    fs_err::create_dir_all(layer.join("sub")).unwrap();
    fs_err::create_dir_all(&socket).unwrap();
    fs_err::write(layer.join("sub/file"), "from the layer\n").unwrap();
    let before = listing();

    let mut spec = spec(
        "layers",
        "cat /opt/luthier/env/sub/file /opt/image/inner/sub/file /etc/origin
         ls /opt /opt/luthier
         echo out > /run/luthier/file",
    );
    spec.cwd = "/opt/luthier/env".into();
    spec.mounts = vec![
        mount(&socket, "/run/luthier", false),
        mount(&layer, "/opt/luthier/env", true),
        mount(&layer, "/opt/image/inner", true),
    ];
    let (exit, lines) = world.run_spec(&spec).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    assert_eq!(
        lines,
        [
            "from the layer",
            "from the layer",
            "image",
            "/opt:",
            "image",
            "luthier",
            "",
            "/opt/luthier:",
            "env"
        ]
    );
    let written = fs_err::metadata(socket.join("file")).unwrap();
    assert_eq!(written.uid(), world.runtime.host_uid());
    assert_eq!(
        listing(),
        before,
        "nothing is made in the shared root file system"
    );
    world.finish().await;
}

#[tokio::test]
async fn mounts_are_seen_by_nobody_else() {
    let world = World::new();
    let spec = spec("unseen", "echo ready; sleep 1000");
    // Where every mount is shared, as systemd makes them, only a private one stays unseen.
    let wrapper = ["unshare", "--mount", "--propagation", "shared"];
    let mut server = world.server(&wrapper, &spec);
    let mounts = fs_err::read_to_string(format!("/proc/{}/mountinfo", server.id())).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(
        mounts.contains(" / / rw") && mounts.contains("shared:"),
        "{mounts}"
    );
    let count = |text: &str| text.lines().count();
    let own = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(count(&mounts), count(&own), "{mounts}");
    world.line(&spec.id, "ready").await;
    world.finish().await;
}

#[tokio::test]
async fn a_builder_reaches_the_hosts_network_and_its_resolver() {
    let world = World::new();
    let mut spec = spec(
        "builder",
        "readlink /proc/self/ns/net; cat /etc/origin /etc/resolv.conf; grep CapEff /proc/self/status",
    );
    spec.network = Network::Host;
    let (exit, lines) = world.run_spec(&spec).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    let host = fs_err::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(lines[0], host.to_string_lossy());
    assert_eq!(lines[1], "image", "the rest of /etc is the image's");
    let resolver = fs_err::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(
        lines[2..lines.len() - 1],
        resolver.lines().collect::<Vec<_>>()
    );
    assert_eq!(lines.last().unwrap(), "CapEff:\t0000000000000000");
    world.finish().await;
}

#[tokio::test]
async fn an_ordinary_interpreter_runs() {
    let world = World::new();
    let python = host_python();
    let mut spec = spec("python", "");
    let script = "
import multiprocessing, os, socket, tempfile, threading, sqlite3, asyncio
def square(n): return n * n
if __name__ == '__main__':
    with multiprocessing.get_context('fork').Pool(2) as pool:
        print(pool.map(square, [1, 2, 3]))
    t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()
    with tempfile.TemporaryDirectory() as d:
        s = socket.socket(socket.AF_UNIX); s.bind(d + '/s'); s.close()
        sqlite3.connect(d + '/db').execute('create table t (x)')
    asyncio.run(asyncio.sleep(0))
    for family in (socket.AF_PACKET, 40):
        try: socket.socket(family, socket.SOCK_STREAM); print('open', family)
        except PermissionError: pass
    print(os.cpu_count() > 0, os.getpid())
";
    spec.args = vec![
        python.to_string_lossy().into_owned(),
        "-Sc".to_owned(),
        script.to_owned(),
    ];
    spec.memory = luthier_types::Mebibytes(256);
    let dirs = ["/usr", "/lib", "/lib64"].map(Path::new);
    let prefix = python.parent().and_then(Path::parent).unwrap();
    spec.mounts = dirs
        .into_iter()
        .filter(|dir| dir.is_dir())
        .chain((!prefix.starts_with("/usr")).then_some(prefix))
        .map(|dir| mount(dir, dir.to_str().unwrap(), true))
        .collect();
    let (exit, lines) = world.run_spec(&spec).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    assert_eq!(lines, ["[1, 4, 9]", "thread", "True 1"]);
    world.finish().await;
}

/// The host's interpreter, where it really lies.
fn host_python() -> PathBuf {
    let which = "import sys; print(sys.executable)";
    let output = std::process::Command::new("python3")
        .args(["-c", which])
        .output()
        .unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    fs_err::canonicalize(path.trim()).unwrap()
}

fn listing() -> Vec<std::ffi::OsString> {
    let mut all = vec![];
    for dir in ["", "opt", "opt/image"] {
        let entries = fs_err::read_dir(rootfs().join(dir)).unwrap();
        all.extend(entries.map(|e| e.unwrap().file_name()));
    }
    all.sort();
    all
}
