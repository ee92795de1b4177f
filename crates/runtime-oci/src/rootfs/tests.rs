//! Which mount points are allowed and what the skeleton holds.

use super::*;

fn bind(source: &Path, target: &str) -> Bind {
    Bind {
        source: source.to_owned(),
        target: relative(Path::new(target)).unwrap(),
        read_only: true,
    }
}

#[test]
fn only_what_the_image_lacks_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path();
    fs_err::create_dir_all(rootfs.join("opt/there")).unwrap();
    symlink("opt", rootfs.join("link")).unwrap();

    let binds = [
        bind(rootfs, "/opt/there"),
        bind(rootfs, "/new/deep"),
        bind(rootfs, "/new/deep/inner"),
    ];
    let skeleton = Skeleton::plan(rootfs, &binds).unwrap();
    assert_eq!(skeleton.points, [(PathBuf::from("new/deep"), true)]);
    let split: Vec<_> = skeleton.split.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(split, ["", "new"], "opt is bound whole");

    let through_link = [bind(rootfs, "/link/x")];
    let error = Skeleton::plan(rootfs, &through_link).unwrap_err();
    assert!(error.contains("symbolic link"), "{error}");
}

#[test]
fn bad_targets_are_refused() {
    for target in [
        "relative", "/", "/a/../b", "/proc/x", "/dev/x", "/tmp/x", "/sys",
    ] {
        assert!(relative(Path::new(target)).is_err(), "{target}");
    }
    assert_eq!(relative(Path::new("/a/b")).unwrap(), Path::new("a/b"));
}

#[test]
fn the_place_hides_nothing_in_use() {
    let first = place(&[]).unwrap();
    let used = first.join("data");
    let second = place(&[&used]).unwrap();
    assert_ne!(first, second);
}
