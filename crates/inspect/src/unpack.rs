//! Unpacks an archive that nobody vouches for.
//!
//! Nothing is written through a link: links are made after every file, and no member may lie below
//! one. Nothing is written twice. Owners, times and set-id bits are ignored.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use luthier_types::{Code, Digest, Error};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType, PaxExtensions};

use crate::{
    bounded::{Bounded, Watch},
    digest::{Member, Members, digest},
    names::{check_target, components, refuse},
};

/// Most bytes of an extended header (a long name and the like).
const MAX_HEADER: u64 = 64 * 1024;

/// What an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of all files together, unpacked.
    pub bytes: u64,
    /// Most members: files, directories and links.
    pub files: u64,
    /// Most bytes of a member's path.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 10 * 1024 * 1024 * 1024,
            files: 100_000,
            path_bytes: 1024,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Number of files.
    pub files: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Of paths, contents and executable bits; the same for the same tree, whatever the order and
    /// times in the archive.
    pub digest: Digest,
}

/// Unpacks a tar archive, gzipped or plain, into the new directory `dest`: directories with mode
/// 0755, files with 0644 or 0755, relative symbolic links that stay inside. `dest` is complete or,
/// on any error, absent.
///
/// # Errors
/// [`Code::InvalidPackage`] naming the member that is refused (an absolute path, `..`, a link that
/// leads out, a device, a pipe, a second member of the same name, a member below a link), or when
/// the archive is damaged, cut short or empty. [`Code::TooLarge`] past a limit. [`Code::Internal`]
/// when `dest` exists, cannot be written, or `archive` itself fails.
pub fn unpack(archive: impl Read, dest: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    fs_err::create_dir(dest).map_err(unwritable)?;
    let unpacked = unpack_into(archive, dest, limits);
    if unpacked.is_err() {
        // The first error tells more than one of cleaning up could.
        let _ = fs_err::remove_dir_all(dest);
    }
    unpacked
}

fn unpack_into(archive: impl Read, dest: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    let (source, source_watch) = Bounded::new(archive, u64::MAX);
    let mut source = BufReader::with_capacity(64 * 1024, source);
    let gzipped = source
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(&[0x1f, 0x8b]);
    let plain: Box<dyn Read + '_> = if gzipped {
        Box::new(MultiGzDecoder::new(source))
    } else {
        Box::new(source)
    };
    // Each member takes a header, its padding and perhaps extended headers besides its bytes.
    let all = limits
        .bytes
        .saturating_add(limits.files.saturating_mul(8192))
        .saturating_add(1 << 20);
    let (stream, watch) = Bounded::new(plain, all);
    let mut job = Job {
        dest,
        limits,
        members: Members::new(),
        left: limits.bytes,
        entries: 0,
        files: 0,
    };
    let mut archive = Archive::new(stream);
    let done = job.members(&mut archive).and_then(|()| {
        // What follows the last member is read as well: it holds the checksum of the content.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
        job.finish()
    });
    done.map_err(|e| blame(e, &source_watch, &watch, limits))
}

/// Says whose fault an error while reading was.
fn blame(error: Error, source: &Watch, stream: &Watch, limits: &Limits) -> Error {
    if source.failed() {
        return unreadable(error);
    }
    if stream.exceeded() {
        too_large(limits)
    } else {
        error
    }
}

struct Job<'a> {
    dest: &'a Path,
    limits: &'a Limits,
    members: Members,
    /// Bytes that may still be written.
    left: u64,
    entries: u64,
    files: u64,
}

/// The extended headers that precede a member.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

// === impl Job ===

impl Job<'_> {
    fn members<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), Error> {
        let mut extended = Extended::default();
        // Raw: extended headers come as members, so that their size can be bounded here.
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            self.entries += 1;
            if self.entries > self.limits.files.saturating_mul(3) {
                return Err(too_many(self.limits));
            }
            let header = entry.header().clone();
            let kind = header.entry_type();
            let size = header.size().map_err(damaged)?;
            match kind {
                EntryType::XGlobalHeader => {
                    read_header(&mut entry, size)?;
                    continue;
                }
                EntryType::XHeader => {
                    extended.pax(&read_header(&mut entry, size)?)?;
                    continue;
                }
                EntryType::GNULongName => {
                    extended.name = Some(cut_at_nul(read_header(&mut entry, size)?));
                    continue;
                }
                EntryType::GNULongLink => {
                    extended.target = Some(cut_at_nul(read_header(&mut entry, size)?));
                    continue;
                }
                _ => {}
            }
            let Extended { name, target } = std::mem::take(&mut extended);
            let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
            let target = || {
                target
                    .or_else(|| header.link_name_bytes().map(|t| t.into_owned()))
                    .unwrap_or_default()
            };
            let parts = components(&name, self.limits.path_bytes)?;
            let Some((last, parents)) = parts.split_last() else {
                if kind != EntryType::Directory {
                    return Err(refuse(".", "is not a directory", "Make the archive again."));
                }
                continue;
            };
            let path = parts.join("/");
            self.parents(parents, last)?;
            match kind {
                EntryType::Directory => self.directory(&path)?,
                EntryType::Regular | EntryType::Continuous => {
                    let executable = header.mode().map_err(damaged)? & 0o111 != 0;
                    self.file(&path, &mut entry, size, executable)?;
                }
                EntryType::Symlink => self.link(&path, &target(), parents.len())?,
                EntryType::Link => self.hard_link(&path, &target())?,
                other => {
                    let what = match other {
                        EntryType::Char | EntryType::Block => "is a device",
                        EntryType::Fifo => "is a named pipe",
                        EntryType::GNUSparse => "is a sparse file",
                        _ => "is neither a file, a directory nor a link",
                    };
                    let hint = "Leave it out of the package, or archive without special features.";
                    return Err(refuse(&path, what, hint));
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the directories above a member are directories.
    fn parents(&mut self, parents: &[String], last: &str) -> Result<(), Error> {
        for depth in 1..=parents.len() {
            let path = parents[..depth].join("/");
            match self.members.get(&path) {
                None | Some(Member::Directory) => self.directory(&path)?,
                Some(_) => {
                    let member = format!("{}/{last}", parents.join("/"));
                    let why = format!("lies below `{path}`, which is not a directory");
                    return Err(refuse(
                        &member,
                        &why,
                        "Make the archive again from the directory.",
                    ));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, member: Member) -> Result<(), Error> {
        if self.members.len() as u64 >= self.limits.files {
            return Err(too_many(self.limits));
        }
        if self.members.contains_key(path) {
            let hint = "Make the archive again, with every file once.";
            return Err(refuse(path, "is there twice", hint));
        }
        self.members.insert(path.to_owned(), member);
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<(), Error> {
        if self.members.get(path) == Some(&Member::Directory) {
            return Ok(());
        }
        self.add(path, Member::Directory)?;
        let full = self.dest.join(path);
        fs_err::create_dir(&full).map_err(unwritable)?;
        set_mode(&full, 0o755)
    }

    fn file(
        &mut self,
        path: &str,
        content: &mut impl Read,
        size: u64,
        executable: bool,
    ) -> Result<(), Error> {
        if size > self.left {
            return Err(too_large(self.limits));
        }
        // The place is taken before anything is written, and filled in when the content is known.
        self.add(
            path,
            Member::File {
                executable,
                digest: Digest::of(""),
            },
        )?;
        let full = self.dest.join(path);
        let mut file = fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&full)
            .map_err(unwritable)?;
        let (mut hasher, mut buffer, mut written) = (Sha256::new(), vec![0; 64 * 1024], 0_u64);
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(damaged(e)),
            };
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(unwritable)?;
            written += read as u64;
        }
        if written != size {
            return Err(damaged(format!(
                "{path} ends after {written} of {size} bytes"
            )));
        }
        set_mode(&full, if executable { 0o755 } else { 0o644 })?;
        self.left -= written;
        self.files += 1;
        let digest = Digest::from_sha256(hasher.finalize().into());
        self.members
            .insert(path.to_owned(), Member::File { executable, digest });
        Ok(())
    }

    fn link(&mut self, path: &str, target: &[u8], depth: usize) -> Result<(), Error> {
        let Ok(target) = std::str::from_utf8(target) else {
            return Err(refuse(
                path,
                "is a link whose target is not UTF-8",
                "Rename the target.",
            ));
        };
        if target.len() > self.limits.path_bytes {
            return Err(refuse(
                path,
                "is a link with too long a target",
                "Shorten the path.",
            ));
        }
        check_target(path, target, depth)?;
        self.add(path, Member::Link(target.to_owned()))
    }

    /// A second name of a file that is already unpacked.
    fn hard_link(&mut self, path: &str, target: &[u8]) -> Result<(), Error> {
        let target = components(target, self.limits.path_bytes)?.join("/");
        let Some(member @ Member::File { .. }) = self.members.get(&target).cloned() else {
            let why = format!(
                "is a hard link to `{target}`, which is not a file before it in the archive"
            );
            return Err(refuse(path, &why, "Archive with `tar --hard-dereference`."));
        };
        self.add(path, member)?;
        fs_err::hard_link(self.dest.join(&target), self.dest.join(path)).map_err(unwritable)?;
        self.files += 1;
        Ok(())
    }

    /// Makes the links, now that nothing more is written.
    fn finish(self) -> Result<Unpacked, Error> {
        if self.members.is_empty() {
            return Err(Error::new(Code::InvalidPackage, "the archive is empty")
                .hint("Archive the directory that holds package.py."));
        }
        for (path, member) in &self.members {
            if let Member::Link(target) = member {
                fs_err::os::unix::fs::symlink(target, self.dest.join(path)).map_err(unwritable)?;
            }
        }
        set_mode(self.dest, 0o755)?;
        Ok(Unpacked {
            files: self.files,
            bytes: self.limits.bytes - self.left,
            digest: digest(&self.members),
        })
    }
}

impl Extended {
    /// Takes the records of a PAX header that matter.
    fn pax(&mut self, header: &[u8]) -> Result<(), Error> {
        for record in PaxExtensions::new(header) {
            let record = record.map_err(damaged)?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.target = Some(record.value_bytes().to_vec()),
                // Either changes how the content is to be read, for the sake of files of over 8 GiB
                // or with holes.
                b"size" => {
                    let hint = "Files of over 8 GiB cannot be archived; split the file.";
                    return Err(refuse("", "has an extended size", hint));
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(refuse(
                        "",
                        "is a sparse file",
                        "Archive without `--sparse`.",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_header(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, Error> {
    if size > MAX_HEADER {
        return Err(damaged(format!("an extended header of {size} bytes")));
    }
    let mut bytes = vec![];
    entry.read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 != size {
        return Err(damaged("it ends within an extended header"));
    }
    Ok(bytes)
}

fn cut_at_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(unwritable)
}

fn damaged(error: impl fmt::Display) -> Error {
    Error::new(Code::InvalidPackage, format!("the archive is damaged or not a tar archive: {error}"))
        .hint("Send a tar archive, plain or gzipped, of the package directory; if it is one, the upload may have been cut short.")
}

fn too_large(limits: &Limits) -> Error {
    let mib = limits.bytes / (1024 * 1024);
    Error::new(
        Code::TooLarge,
        format!(
            "the package is larger than {} bytes ({mib} MiB) when unpacked",
            limits.bytes
        ),
    )
    .hint("Leave out what the model does not need, for example training data.")
}

fn too_many(limits: &Limits) -> Error {
    Error::new(
        Code::TooLarge,
        format!("the package has more than {} members", limits.files),
    )
    .hint("Leave out what the model does not need, for example a virtual environment or .git.")
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("reading an archive", error)
}

fn unwritable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("unpacking an archive", error)
}

#[cfg(test)]
mod tests;
