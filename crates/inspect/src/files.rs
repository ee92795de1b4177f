//! Reads files of a package, bounded.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use luthier_types::Error;

/// The content of a file that is there and no larger than `most`.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    match fs_err::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= most => read_start(path, most),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(e)),
    }
}

/// The first `most` bytes of a file that is there.
fn read_start(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut content = vec![];
    let read = |content: &mut Vec<u8>| fs_err::File::open(path)?.take(most).read_to_end(content);
    match read(&mut content) {
        Ok(_) => Ok(Some(content)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(e)),
    }
}

/// The regular files below `dir`, by path, sorted; links are left out.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let (mut files, mut open) = (vec![], vec![PathBuf::new()]);
    while let Some(below) = open.pop() {
        for entry in fs_err::read_dir(dir.join(&below)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                files.extend(path.to_str().map(str::to_owned));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::internal("reading a package", error)
}
