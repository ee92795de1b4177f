//! Which member names and link targets of an archive are safe.

use luthier_types::{Code, Error};

/// Most components of a path.
const DEPTH: usize = 64;
/// Most bytes of one component, as Linux has it.
const COMPONENT: usize = 255;

/// A refusal of a member, which it names.
pub(crate) fn refuse(member: &str, why: &str, hint: &str) -> Error {
    let shown: String = member.chars().take(200).collect();
    Error::new(
        Code::InvalidPackage,
        format!("the archive member {shown:?} {why}"),
    )
    .hint(hint)
}

/// The components of a member's name, below the root: none for the root itself.
///
/// # Errors
/// [`Code::InvalidPackage`] when the name is absolute, leaves the archive, is too long or is not
/// text.
pub(crate) fn components(name: &[u8], longest: usize) -> Result<Vec<String>, Error> {
    let Ok(name) = std::str::from_utf8(name) else {
        let shown = String::from_utf8_lossy(name);
        return Err(refuse(
            &shown,
            "has a name that is not UTF-8",
            "Rename the file.",
        ));
    };
    if name.starts_with('/') {
        let hint = "Make the archive inside the package directory, for example `tar -C DIR -czf files.tar.gz .`.";
        return Err(refuse(name, "has an absolute path", hint));
    }
    if name.contains('\0') {
        return Err(refuse(name, "has a NUL in its name", "Rename the file."));
    }
    if name.len() > longest {
        return Err(refuse(
            name,
            "has too long a path",
            "Shorten the names of directories.",
        ));
    }
    let mut parts = vec![];
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let hint = "Make the archive inside the package directory, without `..` in names.";
                return Err(refuse(name, "leads out of the archive", hint));
            }
            _ if part.len() > COMPONENT => {
                return Err(refuse(name, "has too long a name", "Shorten the name."));
            }
            _ => parts.push(part.to_owned()),
        }
    }
    if parts.len() > DEPTH {
        return Err(refuse(
            name,
            "lies too deep",
            "Use fewer nested directories.",
        ));
    }
    Ok(parts)
}

/// Checks that a symbolic link that lies below `depth` real directories stays inside.
///
/// Only leading `..` are allowed: they go up real directories, so their number tells where they
/// end. A `..` after a name could go up from wherever another link leads.
///
/// # Errors
/// [`Code::InvalidPackage`] when it may lead out.
pub(crate) fn check_target(member: &str, target: &str, depth: usize) -> Result<(), Error> {
    let hint = "Replace the link by the file itself (`tar --dereference`), or link to a file inside the package with a relative path.";
    let bad = |why| Err(refuse(member, why, hint));
    if target.is_empty() || target.contains('\0') {
        return bad("is a link to nothing");
    }
    if target.starts_with('/') {
        return bad("is a link to an absolute path");
    }
    let (mut up, mut descended) = (0, false);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descended => return bad("is a link with `..` after a name"),
            ".." => up += 1,
            _ => descended = true,
        }
    }
    if up > depth {
        return bad("is a link that leads out of the archive");
    }
    Ok(())
}
