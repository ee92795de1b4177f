//! The runner layer is whole, readable and written once.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, thread};

use luthier_types::layout::CacheLayout;

use super::{FILES, digest, materialise};

#[test]
fn every_python_file_of_the_runner_is_in_the_layer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../runner/python");
    let there: BTreeSet<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".py"))
        .collect();
    let carried: BTreeSet<String> = FILES
        .iter()
        .map(|f| f.name.to_owned())
        .filter(|name| name.ends_with(".py"))
        .collect();
    assert_eq!(there, carried);
}

#[test]
fn written_once_by_many_and_complete() {
    let root = tempfile::tempdir().unwrap();
    let layout = CacheLayout::new(root.path());
    let places: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| materialise(&layout).unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(places.iter().all(|place| *place == layout.runner(digest())));
    let place = materialise(&layout).unwrap();
    let mode =
        |path: &std::path::Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o755);
    for file in &FILES {
        let path = place.join(file.name);
        assert_eq!(fs_err::read(&path).unwrap(), file.bytes);
        assert_eq!(mode(&path), file.mode);
    }
    assert_eq!(fs_err::read_dir(&place).unwrap().count(), FILES.len());
    assert_eq!(fs_err::read_dir(layout.staging()).unwrap().count(), 0);
}

#[test]
fn the_library_is_one() {
    let library = FILES.iter().find(|f| f.name.ends_with(".so")).unwrap();
    assert!(library.bytes.starts_with(b"\x7fELF") && library.bytes.len() > 100_000);
}
