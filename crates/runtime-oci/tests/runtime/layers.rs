//! Mounts in a container, and the root put together for it.

use std::os::unix::fs::MetadataExt as _;

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

fn listing() -> Vec<std::ffi::OsString> {
    let mut all = vec![];
    for dir in ["", "opt", "opt/image"] {
        let entries = fs_err::read_dir(rootfs().join(dir)).unwrap();
        all.extend(entries.map(|e| e.unwrap().file_name()));
    }
    all.sort();
    all
}
