//! Containers are closed by default. Each test fails when the protection it names is taken away.

use std::{collections::BTreeSet, fs::Permissions, os::unix::fs::PermissionsExt as _};

use crate::world::{World, mount, spec};

/// The lines of a script that must succeed.
async fn output(script: &str) -> Vec<String> {
    let world = World::new();
    let (exit, lines) = world.run(script).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    world.finish().await;
    lines
}

#[tokio::test]
async fn no_network_but_loopback() {
    let lines = output(
        "readlink /proc/self/ns/net
         tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
         ifconfig lo
         httpd -p 127.0.0.1:7000 -h /etc
         wget -q -O - http://127.0.0.1:7000/origin
         nc 192.0.2.1 80 2>&1 </dev/null || true",
    )
    .await;
    let host = fs_err::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(lines[0], host.to_string_lossy());
    let devices: Vec<_> = lines[1..]
        .iter()
        .take_while(|l| !l.contains("Link"))
        .collect();
    assert_eq!(devices, ["lo"], "{lines:#?}");
    let text = lines.join("\n");
    assert!(text.contains("127.0.0.1") && text.contains("UP"), "{text}");
    assert!(
        lines.iter().any(|l| l == "image"),
        "loopback carries data: {text}"
    );
    assert!(text.contains("unreachable"), "{text}");
}

#[tokio::test]
async fn every_namespace_is_its_own() {
    let kinds = ["user", "pid", "ipc", "uts", "mnt", "cgroup", "net"];
    let script = format!(
        "for n in {}; do readlink /proc/self/ns/$n; done",
        kinds.join(" ")
    );
    let lines = output(&script).await;
    for (kind, inside) in kinds.iter().zip(&lines) {
        let host = fs_err::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(inside.starts_with(kind), "{lines:#?}");
        assert_ne!(*inside, host.to_string_lossy(), "{kind}");
    }
}

#[tokio::test]
async fn no_root_no_capabilities_no_new_privileges_and_a_filter() {
    let lines =
        output("cat /proc/self/status; echo map; cat /proc/self/uid_map /proc/self/gid_map").await;
    let field = |name: &str| {
        let line = lines.iter().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("Uid:"), "1000 1000 1000 1000");
    assert_eq!(field("Gid:"), "1000 1000 1000 1000");
    assert_eq!(field("Groups:"), "", "no group of the server's");
    let map = lines.iter().position(|l| l == "map").unwrap();
    for line in &lines[map + 1..] {
        let ids: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            ids,
            ["0", "100000", "65536"],
            "the host's root is not in it"
        );
    }
}

#[tokio::test]
async fn without_a_user_namespace_it_is_still_nobody() {
    let world = World::with(|options| options.user_namespaces = false);
    let (exit, lines) = world.run("cat /proc/self/status").await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    let uid = lines.iter().find(|l| l.starts_with("Uid:")).unwrap();
    let uid: Vec<_> = uid.split_whitespace().skip(1).collect();
    assert_eq!(uid, ["101000"; 4]);
    for line in lines.iter().filter(|l| l.starts_with("Cap")) {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_filter_refuses_what_the_kernel_would_allow() {
    // Anyone may make a user namespace, but not through the filter.
    let lines = output(
        "unshare -U true 2>&1 && echo made
         true",
    )
    .await;
    assert!(lines[0].contains("Operation not permitted"), "{lines:#?}");
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn everything_is_read_only_but_scratch_and_what_was_asked_for() {
    let world = World::new();
    // Open to all on the host, so that only the mount can refuse.
    let (sealed, open) = (
        world.dir.path().join("sealed"),
        world.dir.path().join("open"),
    );
    for dir in [&sealed, &open] {
        fs_err::create_dir(dir).unwrap();
        fs_err::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    }
    let mut spec = spec(
        "sealed",
        "for f in /x /etc/x /bin/x /new/x /new/sealed/x; do touch $f 2>&1; done
         touch /tmp/x /dev/shm/x /new/open/x && echo written
         cat /proc/self/mountinfo | cut -d' ' -f5,6",
    );
    spec.mounts = vec![
        mount(&sealed, "/new/sealed", true),
        mount(&open, "/new/open", false),
    ];
    let (exit, lines) = world.run_spec(&spec).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    for line in &lines[..5] {
        assert!(line.contains("Read-only file system"), "{lines:#?}");
    }
    assert_eq!(lines[5], "written");
    assert!(open.join("x").exists() && !sealed.join("x").exists());

    // What the kernel says of every mount there is; nothing of the host's is among them.
    let mut seen = BTreeSet::new();
    for line in &lines[6..] {
        let (point, options) = line.split_once(' ').unwrap();
        seen.insert(point);
        let writable = ["/proc", "/dev", "/dev/shm", "/tmp", "/new/open"].contains(&point)
            || ["null", "zero", "full", "random", "urandom", "tty"]
                .iter()
                .any(|name| point == format!("/dev/{name}"))
            // A masked file is the null device.
            || (point.starts_with("/proc/") && !options.starts_with("ro,"));
        assert!(writable || options.starts_with("ro,"), "{line}");
        assert!(
            options.contains("nosuid") || point.starts_with("/dev/") || point.starts_with("/proc/"),
            "{line}"
        );
    }
    assert!(
        lines.iter().any(|line| line.starts_with("/proc/sys ro,")),
        "the kernel's settings: {lines:#?}"
    );
    let strangers: Vec<_> = seen
        .iter()
        .filter(|point| {
            let known = ["/", "/bin", "/etc", "/opt", "/usr", "/var", "/tmp"].contains(*point);
            let below = ["/dev", "/proc", "/new"]
                .iter()
                .any(|dir| point.starts_with(dir));
            !known && !below
        })
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    world.finish().await;
}

#[tokio::test]
async fn the_kernels_tables_are_masked() {
    let lines = output(
        "stat -c %t:%T /proc/kcore /proc/keys /proc/timer_list
         ls -A /proc/acpi /proc/scsi 2>/dev/null | grep -v :
         for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do echo x 2>&1 > $f; done
         true",
    )
    .await;
    let (masked, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|l| *l == "1:3");
    let there = ["/proc/kcore", "/proc/keys", "/proc/timer_list"]
        .iter()
        .filter(|path| std::path::Path::new(path).exists())
        .count();
    assert!(there > 0);
    assert_eq!(masked.len(), there, "the null device: {lines:#?}");
    for line in rest
        .iter()
        .filter(|l| !l.is_empty() && !l.contains("No such file"))
    {
        let refused = ["Read-only", "Permission denied", "nonexistent"];
        assert!(refused.iter().any(|why| line.contains(why)), "{lines:#?}");
    }
}

#[tokio::test]
async fn no_process_of_the_host_is_seen_and_nothing_of_the_server_is_inherited() {
    let world = World::new();
    let mut spec = spec(
        "alone",
        "ls /proc | grep -c '^[0-9]'
         hostname
         ls -A /sys | wc -l
         ls /proc/self/fd | wc -l
         env | cut -d= -f1 | sort",
    );
    spec.env = [("GIVEN".to_owned(), "1".to_owned())].into();
    let (_, lines) = world.run_spec(&spec).await;
    // The shell, `ls` and `grep`, and a shell forked for the pipe.
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "{lines:#?}");
    assert_eq!(lines[1], "alone");
    assert_eq!(lines[2], "0", "no /sys");
    assert_eq!(
        lines[3], "4",
        "standard streams, and the directory being listed"
    );
    let variables: BTreeSet<_> = lines[4..].iter().map(String::as_str).collect();
    assert!(variables.contains("GIVEN"));
    for name in variables {
        let known = ["GIVEN", "HOME", "PATH", "PWD", "SHLVL", "_"];
        assert!(known.contains(&name), "{name}");
    }
    world.finish().await;
}
