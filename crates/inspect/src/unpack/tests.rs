//! Tests of unpacking: each refusal with an archive made for it.

use std::{io::Cursor, os::unix::fs::MetadataExt as _, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;

/// One member as it stands in the archive, names unchecked.
#[derive(Clone, Debug)]
struct Raw {
    name: Vec<u8>,
    kind: EntryType,
    target: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    /// What the header says, if not the truth.
    size: Option<u64>,
}

fn raw(name: &str, kind: EntryType, target: &str, content: &[u8]) -> Raw {
    Raw {
        name: name.into(),
        kind,
        target: target.into(),
        content: content.into(),
        mode: 0o600,
        size: None,
    }
}

fn file(name: &str, content: &str) -> Raw {
    raw(name, EntryType::Regular, "", content.as_bytes())
}

fn dir(name: &str) -> Raw {
    raw(name, EntryType::Directory, "", b"")
}

fn link(name: &str, target: &str) -> Raw {
    raw(name, EntryType::Symlink, target, b"")
}

fn tar(members: &[Raw]) -> Vec<u8> {
    let mut builder = Builder::new(vec![]);
    for member in members {
        let mut header = Header::new_gnu();
        let place = |field: &mut [u8], value: &[u8]| {
            let n = value.len().min(field.len());
            field[..n].copy_from_slice(&value[..n]);
        };
        place(&mut header.as_old_mut().name, &member.name);
        place(&mut header.as_old_mut().linkname, &member.target);
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(4242);
        header.set_mtime(1);
        header.set_size(member.size.unwrap_or(member.content.len() as u64));
        header.set_cksum();
        builder
            .append(&header, Cursor::new(&member.content))
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Place {
    /// Holds `dest` and nothing else, so that anything beside it was written outside.
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn dest(&self) -> PathBuf {
        self.root.path().join("dest")
    }

    fn unpack(&self, archive: &[u8], limits: Limits) -> Result<Unpacked, Error> {
        let result = unpack(archive, &self.dest(), &limits);
        let beside = fs_err::read_dir(self.root.path()).unwrap().count();
        assert_eq!(
            beside,
            usize::from(result.is_ok()),
            "only dest, and only on success"
        );
        result
    }
}

fn limits() -> Limits {
    Limits {
        bytes: 1 << 20,
        files: 100,
        path_bytes: 200,
    }
}

#[track_caller]
fn refused(members: &[Raw], code: Code, words: &str) {
    for archive in [tar(members), gzip(&tar(members))] {
        let error = Place::new().unpack(&archive, limits()).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.message().contains(words), "{error}");
        assert!(error.next_step().is_some());
    }
}

#[test]
fn a_package_as_the_client_archives_it_is_unpacked() {
    let members = [
        dir("."),
        dir("./data/"),
        file("./package.py", "x = 1"),
        Raw {
            mode: 0o4750,
            ..file("./run.sh", "#!/bin/sh")
        },
        file("./data/model.pkl", "model"),
        file("deep/er/file", ""),
        link("./data/alias", "../package.py"),
        link("./latest", "data/model.pkl"),
        raw("./data/same.pkl", EntryType::Link, "./data/model.pkl", b""),
    ];
    let place = Place::new();
    let unpacked = place.unpack(&gzip(&tar(&members)), limits()).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes), (5, 19));
    let meta = |path: &str| fs_err::symlink_metadata(place.dest().join(path)).unwrap();
    for (path, mode) in [
        ("package.py", 0o644),
        ("run.sh", 0o755),
        ("data", 0o755),
        ("deep/er", 0o755),
        ("", 0o755),
    ] {
        assert_eq!(meta(path).mode() & 0o7777, mode, "{path}");
    }
    assert_ne!(meta("package.py").uid(), 4242);
    assert_eq!(
        fs_err::read(place.dest().join("data/alias")).unwrap(),
        b"x = 1"
    );
    assert_eq!(fs_err::read(place.dest().join("latest")).unwrap(), b"model");
    assert_eq!(
        fs_err::read(place.dest().join("data/same.pkl")).unwrap(),
        b"model"
    );
}

#[test]
fn members_that_leave_the_archive_are_refused() {
    use Code::InvalidPackage as Bad;
    refused(&[file("/etc/passwd", "x")], Bad, "absolute path");
    refused(&[file("../x", "x")], Bad, "leads out");
    refused(&[file("a/../../x", "x")], Bad, "leads out");
    refused(&[file("a/../x", "x")], Bad, "leads out");
    refused(&[dir("..")], Bad, "leads out");
    refused(
        &[
            file("a", "x"),
            raw("b", EntryType::Link, "/etc/passwd", b""),
        ],
        Bad,
        "absolute path",
    );
    refused(
        &[file("a", "x"), raw("b", EntryType::Link, "../a", b"")],
        Bad,
        "leads out",
    );
    refused(
        &[raw("b", EntryType::Link, "not-there", b"")],
        Bad,
        "hard link",
    );
    refused(
        &[link("l", "x"), raw("b", EntryType::Link, "l", b"")],
        Bad,
        "hard link",
    );
}

#[test]
fn links_that_lead_out_are_refused() {
    use Code::InvalidPackage as Bad;
    refused(&[link("l", "/etc/passwd")], Bad, "absolute");
    refused(&[link("l", "..")], Bad, "leads out");
    refused(&[link("d/l", "../../x")], Bad, "leads out");
    refused(&[link("l", "")], Bad, "link to nothing");
    // `up` leads to the root; by way of it `a/b/up/..` is above, although its words are not.
    refused(
        &[
            dir("a"),
            dir("a/b"),
            link("a/b/up", "../.."),
            link("m", "a/b/up/.."),
        ],
        Bad,
        "after a name",
    );
}

#[test]
fn nothing_is_written_through_a_link() {
    use Code::InvalidPackage as Bad;
    refused(
        &[dir("d"), link("l", "d"), file("l/x", "x")],
        Bad,
        "not a directory",
    );
    refused(
        &[dir("d"), link("l", "d"), dir("l/x")],
        Bad,
        "not a directory",
    );
    refused(&[link("l", "f"), file("l", "x")], Bad, "twice");
    refused(&[file("l", "x"), link("l", "f")], Bad, "twice");
    refused(&[link("l", "d"), dir("l")], Bad, "twice");
    refused(&[file("f", "x"), file("./f", "y")], Bad, "twice");
    refused(&[file("f", "x"), file("f/g", "y")], Bad, "not a directory");
    refused(&[dir("f"), file("f", "x")], Bad, "twice");
}

#[test]
fn special_members_are_refused() {
    for (kind, words) in [
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        // Without a map of its holes it does not even count as one.
        (EntryType::new(b'S'), ""),
        (EntryType::new(b'Z'), "neither"),
    ] {
        refused(
            &[raw("special", kind, "", b"")],
            Code::InvalidPackage,
            words,
        );
    }
    refused(&[file(".", "x")], Code::InvalidPackage, "not a directory");
    refused(
        &[Raw {
            name: b"\xff".to_vec(),
            ..file("", "")
        }],
        Code::InvalidPackage,
        "UTF-8",
    );
}

#[test]
fn limits_hold() {
    let big = "x".repeat(600_000);
    refused(
        &[file("a", &big), file("b", &big)],
        Code::TooLarge,
        "1048576 bytes",
    );
    let many: Vec<Raw> = (0..101).map(|i| file(&format!("f{i}"), "")).collect();
    refused(&many, Code::TooLarge, "100 members");
    assert!(Place::new().unpack(&tar(&many[..100]), limits()).is_ok());
    let long = "././@LongLink".to_owned();
    let name = [b"n/".repeat(150), b"x\0".to_vec()].concat();
    refused(
        &[raw(&long, EntryType::GNULongName, "", &name), file("n", "")],
        Code::InvalidPackage,
        "too long a path",
    );
    let name = [b"n".repeat(190), b"/".to_vec()].concat();
    assert!(
        Place::new()
            .unpack(
                &tar(&[raw(&long, EntryType::GNULongName, "", &name), dir("n")]),
                limits()
            )
            .is_ok()
    );
    let deep = Limits {
        path_bytes: 4096,
        ..limits()
    };
    let name = [b"n/".repeat(65), b"\0".to_vec()].concat();
    let archive = tar(&[raw(&long, EntryType::GNULongName, "", &name), dir("n")]);
    assert!(
        Place::new()
            .unpack(&archive, deep)
            .unwrap_err()
            .message()
            .contains("too deep")
    );
    let name = b"n".repeat(256);
    let archive = tar(&[raw(&long, EntryType::GNULongName, "", &name), dir("n")]);
    assert!(
        Place::new()
            .unpack(&archive, deep)
            .unwrap_err()
            .message()
            .contains("too long a name")
    );
}

#[test]
fn a_small_archive_cannot_fill_memory_or_disk() {
    // A header that claims more than there is.
    refused(
        &[Raw {
            size: Some(1 << 40),
            ..file("f", "x")
        }],
        Code::TooLarge,
        "larger",
    );
    refused(
        &[Raw {
            size: Some(1 << 30),
            ..raw("x", EntryType::XHeader, "", b"")
        }],
        Code::InvalidPackage,
        "extended header",
    );
    // Zeros without end after the last member: they are read for the checksum, but not for ever.
    let mut bomb = tar(&[file("f", "x")]);
    bomb.resize(8 << 20, 0);
    let error = Place::new().unpack(&gzip(&bomb), limits()).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    let headers: Vec<Raw> = (0..400)
        .map(|_| raw("g", EntryType::XGlobalHeader, "", b""))
        .collect();
    refused(&headers, Code::TooLarge, "members");
}

#[test]
fn extended_headers_are_heeded() {
    let record = |key: &str, value: &str| {
        let body = format!(" {key}={value}\n");
        let len = (1..)
            .find(|n: &usize| n.to_string().len() + body.len() == *n)
            .unwrap();
        format!("{len}{body}")
    };
    let pax = |key, value| raw("x", EntryType::XHeader, "", record(key, value).as_bytes());
    let place = Place::new();
    place
        .unpack(
            &tar(&[pax("path", "dir/näme"), file("n", "1"), file("n", "2")]),
            limits(),
        )
        .unwrap();
    assert_eq!(fs_err::read(place.dest().join("dir/näme")).unwrap(), b"1");
    assert_eq!(fs_err::read(place.dest().join("n")).unwrap(), b"2");
    refused(
        &[pax("path", "../x"), file("n", "1")],
        Code::InvalidPackage,
        "leads out",
    );
    refused(
        &[pax("linkpath", "/etc"), link("n", "ok")],
        Code::InvalidPackage,
        "absolute",
    );
    refused(
        &[pax("size", "3"), file("n", "1")],
        Code::InvalidPackage,
        "size",
    );
    refused(
        &[pax("GNU.sparse.major", "1"), file("n", "1")],
        Code::InvalidPackage,
        "sparse",
    );
}

#[test]
fn damaged_archives_are_refused() {
    let good = tar(&[file("a", &"x".repeat(5000)), file("b", "y")]);
    let packed = gzip(&good);
    let mut wrong_sum = packed.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    for archive in [
        &b""[..],
        b"not a tar archive at all, but long enough to hold a header if it were one"
            .repeat(20)
            .as_slice(),
        &good[..3000],
        &packed[..packed.len() / 2],
        &packed[..packed.len() - 4],
        &wrong_sum,
        &[0x1f, 0x8b],
    ] {
        let error = Place::new().unpack(archive, limits()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidPackage, "{error:?}");
    }
}

#[test]
fn a_failing_source_is_not_the_packages_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk"))
        }
    }
    let good = tar(&[file("a", &"x".repeat(200_000))]);
    let place = Place::new();
    let error = unpack(good[..100_000].chain(Failing), &place.dest(), &limits()).unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(!place.dest().exists());
}

#[test]
fn an_existing_directory_is_left_alone() {
    let place = Place::new();
    fs_err::create_dir(place.dest()).unwrap();
    let error = unpack(&tar(&[file("a", "")])[..], &place.dest(), &limits()).unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(place.dest().exists());
}

#[test]
fn the_digest_tells_trees_apart_and_nothing_else() {
    let of = |members: &[Raw]| Place::new().unpack(&tar(members), limits()).unwrap().digest;
    let base = of(&[dir("d"), file("d/a", "1"), file("b", "2")]);
    assert_eq!(
        base,
        of(&[file("./b", "2"), file("./d/a", "1"), dir("./d")])
    );
    assert_eq!(
        base,
        of(&[
            Raw {
                mode: 0o444,
                ..file("b", "2")
            },
            file("d/a", "1")
        ])
    );
    for other in [
        of(&[
            file("d/a", "1"),
            Raw {
                mode: 0o700,
                ..file("b", "2")
            },
        ]),
        of(&[file("d/a", "2"), file("b", "2")]),
        of(&[file("d/a", "1"), file("c", "2")]),
        of(&[file("d/a", "1"), file("b", "2"), dir("e")]),
        of(&[file("d/a", "1"), link("b", "2")]),
    ] {
        assert_ne!(base, other);
    }
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "l", "..", ".", "", "/"]),
        1..5,
    )
    .prop_map(|parts| parts.join("/"))
}

fn member() -> impl Strategy<Value = Raw> {
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::XHeader,
        EntryType::GNULongName,
        EntryType::Fifo,
    ]);
    (name(), kind, name(), "[a-c./]{0,6}").prop_map(|(n, k, t, c)| raw(&n, k, &t, c.as_bytes()))
}

proptest! {
    #[test]
    fn nothing_is_ever_written_outside(
        members in prop::collection::vec(member(), 0..8),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        let mut archive = tar(&members);
        for (place, value) in flips {
            let place = place.index(archive.len());
            archive[place] = value;
        }
        let place = Place::new();
        if place.unpack(&archive, limits()).is_ok() {
            let root = fs_err::canonicalize(place.dest()).unwrap();
            let mut open = vec![root.clone()];
            while let Some(dir) = open.pop() {
                for entry in fs_err::read_dir(dir).unwrap() {
                    let entry = entry.unwrap();
                    // A link may dangle, but where it leads must be inside.
                    if let Ok(real) = fs_err::canonicalize(entry.path()) {
                        prop_assert!(real.starts_with(&root), "{:?}", entry.path());
                    }
                    if entry.file_type().unwrap().is_dir() {
                        open.push(entry.path());
                    }
                }
            }
        }
    }
}
