//! What was unpacked, as one digest that does not depend on the archive's order, times or owners.

use std::collections::BTreeMap;

use luthier_types::Digest;

/// One unpacked member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// A directory.
    Directory,
    /// A file, by its content.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Of the content.
        digest: Digest,
    },
    /// A symbolic link to this target.
    Link(String),
}

/// The members by path below the root.
pub(crate) type Members = BTreeMap<String, Member>;

/// The digest of all members.
pub(crate) fn digest(members: &Members) -> Digest {
    Digest::of_fields(members.iter().flat_map(|(path, member)| {
        let (kind, content) = match member {
            Member::Directory => ("directory", ""),
            Member::File {
                executable: false,
                digest,
            } => ("file", digest.as_str()),
            Member::File {
                executable: true,
                digest,
            } => ("program", digest.as_str()),
            Member::Link(target) => ("link", target.as_str()),
        };
        [kind, path.as_str(), content]
    }))
}
