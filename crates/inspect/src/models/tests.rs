//! Tests of model files that no library writes; real ones are in the corpus.

use proptest::prelude::*;

use super::*;
use crate::testing::package;

fn looked(name: &str, content: &[u8]) -> Found {
    let dir = package(&[(name, content)]);
    look_at(&dir.path().join(name), name).unwrap()
}

#[test]
fn a_file_that_is_not_there_in_full_is_damaged() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    assert_eq!(looked("m.pkl", pointer).damage, Some(Damage::Pointer));
    assert_eq!(looked("m.h5", pointer).damage, Some(Damage::Pointer));
    assert_eq!(looked("m.pkl", b"").damage, Some(Damage::Empty));
    assert_eq!(looked("m.pkl", b"\x80\x04N").damage, Some(Damage::Cut));
    for (name, content) in [
        ("m.txt", &b""[..]),
        ("m.bin", b"\x80\x04N"),
        ("m.pkl", b"hello"),
        ("m.pkl", b"\x80\x04N."),
    ] {
        assert_eq!(looked(name, content).damage, None, "{name}");
    }
}

#[test]
fn files_are_named_by_name_by_directory_or_by_pattern() {
    let names = |text: &str| Names(vec![text.to_owned()]);
    assert!(names("open('model.pkl')").has("model.pkl"));
    assert!(names("load('saved')").has("saved/saved_model.pb"));
    assert!(names("f'{name}.pkl'").has("x.pkl"));
    assert!(names("path.glob('*')").has("x.pkl"));
    assert!(!names("open('model.pkl')").has("old.pkl"));
}

#[test]
fn what_is_no_version_is_left() {
    for bytes in [
        &b"{\"learner\":{},\"version\":[1,2]}"[..],
        b"{\"learner\":{},\"version\":[1,2,99999]}",
        b"{\"version\":[1,2,3]}",
        b"{Llearnerversion[#i\x03i\x02i\x01",
        b"tree\nversion=v99\n",
        b"CBM1Branch: tags/vx",
    ] {
        assert_eq!(versions::of_bytes(bytes), None, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(
        head in prop::sample::select(vec![
            &b""[..], b"PK\x03\x04", b"\x89HDF\r\n\x1a\nkeras_version\0", b"\x93NUMPY\x01\0\x10\0'|O", b"{L", b"tree\n", b"CBM1",
            b"\x1f\x8b", b"\x78\x9c", b"BZh9", b"\xfd7zXZ\0", b"\x5d\0\0", b"\x04\x22\x4d\x18", b"{\"learner\"", b"\x80\x04"]),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        name in prop::sample::select(vec!["m.pkl", "m.gz", "saved_model.pb", "m"]),
    ) {
        let _ = looked(name, &[head, &tail].concat());
    }
}
