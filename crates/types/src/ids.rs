//! Ids as types of their own, so that a model's id cannot be passed where a file's is wanted.
//! All are UUID version 7: unique without coordination and ordered by creation time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids made later sort after it.
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// The organisation; a server has one.
    OrgId,
    /// A user of the server.
    UserId,
    /// A project: a named group of models.
    ProjectId,
    /// One version of a model.
    ModelId,
    /// An uploaded file.
    FileId,
    /// A job: finite work with a result that a user waits for.
    JobId,
    /// A dataset: what the stock client calls an environment of data.
    DatasetId,
    /// A baseline.
    BaselineId,
    /// The desired state of one model version.
    DeploymentId,
    /// An immutable revision of a deployment.
    RevisionId,
    /// One running container of a revision.
    ReplicaId,
    /// A runner that an operator keeps, under one address.
    OutsideId,
}
