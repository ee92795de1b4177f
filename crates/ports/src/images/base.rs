//! What an image of a registry, taken as the base of a user's own, brings along.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use luthier_types::Digest;
use serde::{Deserialize, Serialize};

use super::ResolvedImage;
use crate::normalised;

/// What an image of a registry has that a catalogue image has not: a Python and libraries of its
/// own, which are used where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// An interpreter of ours of the same minor version. It stands in for the image's on the host,
    /// where nothing of the image is ever run: to resolve, to install and to compile.
    pub stand_in: Digest,
    /// Directory of its Python program in a container.
    pub home: PathBuf,
    /// Minor version of its C library: 36 for glibc 2.36.
    pub glibc: u32,
    /// Directories of its libraries, which are searched after the environment's.
    pub paths: Vec<PathBuf>,
    /// The distributions in them.
    pub provided: Vec<Provided>,
    /// Environment variables that it sets.
    pub variables: BTreeMap<String, String>,
}

/// A distribution that an image has installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it requires, as its metadata says.
    #[serde(default)]
    pub requires: Vec<String>,
    /// The extras it has.
    #[serde(default)]
    pub extras: Vec<String>,
}

impl Provided {
    /// `name==version`.
    pub fn pin(&self) -> String {
        format!("{}=={}", self.name, self.version)
    }
}

impl Base {
    /// The distributions that `names` (normalised) does not name.
    pub fn kept<'a>(&'a self, names: &'a BTreeSet<String>) -> impl Iterator<Item = &'a Provided> {
        self.provided
            .iter()
            .filter(|provided| !names.contains(&normalised(&provided.name)))
    }
}

impl ResolvedImage {
    /// The interpreter that runs on the host, where no code of anybody's runs: the image's own when
    /// it is of the catalogue, else the one that stands in for it.
    pub fn host_interpreter(&self) -> &Digest {
        self.base
            .as_ref()
            .map_or(&self.interpreter, |base| &base.stand_in)
    }

    /// Environment variables that the image sets.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let base = self.base.as_ref();
        base.map(|base| base.variables.clone()).unwrap_or_default()
    }

    /// The versions of its own libraries by normalised name, as far as they are used where they are.
    pub fn provided(&self) -> BTreeMap<String, String> {
        let base = self.base.iter().flat_map(|base| &base.provided);
        base.map(|p| (normalised(&p.name), p.version.clone()))
            .collect()
    }
}
