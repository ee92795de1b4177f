//! A package made on the spot, for the tests of this crate.

use tempfile::TempDir;

/// A directory with these files in it, by their paths.
pub(crate) fn package<T: AsRef<[u8]> + ?Sized>(files: &[(&str, &T)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    dir
}
