//! The parts that need no network; the whole is made in `tests/images.rs`.

use super::*;

#[test]
fn devices_set_id_bits_and_unreadable_files_do_not_survive() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar");
    let mut builder = tar::Builder::new(fs_err::File::create(&archive).unwrap());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        header.set_cksum();
        builder.append_data(&mut header, path, io::empty()).unwrap();
    };
    add("etc/", tar::EntryType::Directory, 0o700);
    add("etc/shadow", tar::EntryType::Regular, 0o600);
    add("etc/hostname", tar::EntryType::Regular, 0o644);
    add("su", tar::EntryType::Regular, 0o4755);
    add("dev/null", tar::EntryType::Char, 0o666);
    builder.finish().unwrap();
    drop(builder);

    let tree = dir.path().join("tree");
    unpack(&archive, &tree).unwrap();
    finish(&tree).unwrap();
    let mode = |path: &str| {
        fs_err::metadata(tree.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("su"), 0o755);
    assert_eq!(mode("etc"), 0o755);
    assert_eq!(mode("etc/shadow"), 0o644);
    assert!(!tree.join("dev/null").exists());
    for place in [container::PYTHON, container::SOCKET_DIR, "/proc", "/tmp"] {
        assert!(tree.join(&place[1..]).is_dir(), "{place}");
    }
    assert_eq!(
        fs_err::read_to_string(tree.join("etc/hostname")).unwrap(),
        "localhost\n"
    );
}
