//! Which image a package runs on: the one asked for, else the one in use, else one chosen for what
//! the package needs. Pure: the job tries what is proposed here.

use std::{cmp::Reverse, collections::BTreeSet};

use luthier_ports::{
    AllowedRegistries, ImageInfo, ImageStatus, names_registry, normalised, unknown_image,
};
use luthier_types::{Code, DeploymentParams, Error, RequirementFiles, Result, logical_lines};

/// The image of packages that name none and could run on any.
pub const DEFAULT_IMAGE: &str = "md-base/python/python-311:1.0.0";

/// The image that is named: the one asked for, else the one in use.
pub(crate) fn named<'a>(params: &'a DeploymentParams, current: Option<&'a str>) -> Option<&'a str> {
    params.image_uri.as_deref().or(current)
}

/// The image to try first: the default, or what replaces it.
pub(crate) fn default_image(images: &[ImageInfo]) -> Option<&ImageInfo> {
    let default = find(images, DEFAULT_IMAGE)?;
    match &default.status {
        ImageStatus::Deprecated { replaced_by } => find(images, replaced_by).or(Some(default)),
        ImageStatus::Current => Some(default),
    }
}

/// The images to try for a package that names none, in order. `needs` are the distributions and
/// modules it names, `versions` is how many versions its model has.
///
/// First those that bring, beside Python libraries, a system (Java, R) for a library the package
/// names: the library alone may well resolve elsewhere, and not run. Then the default, then the
/// others by the version of their Python, the newest first. Of each name only the newest tag.
pub(crate) fn candidates<'a>(
    images: &'a [ImageInfo],
    needs: &BTreeSet<String>,
    versions: u64,
) -> Vec<&'a ImageInfo> {
    let common: BTreeSet<String> = default_image(images).map(libraries).unwrap_or_default();
    let wanted = |image: &&ImageInfo| {
        let own = libraries(image);
        own.difference(&common)
            .any(|library| needs.contains(library))
    };
    let (plain, special): (Vec<_>, Vec<_>) = ordered(images)
        .into_iter()
        .filter(|image| versions <= 1 || !image.single_version)
        .partition(|image| image.debian.is_empty());
    let special = special.into_iter().filter(wanted);
    special.chain(plain).collect()
}

/// The other images a package on `uri` could be moved to, the best first, with their Python.
pub fn alternatives(images: &[ImageInfo], uri: &str) -> Vec<(String, String)> {
    ordered(images)
        .into_iter()
        .filter(|image| image.uri != uri)
        .map(|image| (image.uri.clone(), image.python.clone()))
        .collect()
}

/// The images to choose from: the default, then by the version of their Python, then those that
/// bring a system.
fn ordered(images: &[ImageInfo]) -> Vec<&ImageInfo> {
    let default = default_image(images);
    let other = |image: &&ImageInfo| default.is_none_or(|d| d.uri != image.uri);
    let mut others: Vec<&ImageInfo> = newest(images).filter(other).collect();
    others.sort_by_key(|image| {
        let system = !image.debian.is_empty();
        (system, Reverse(python(image)), Reverse(&image.released))
    });
    default.into_iter().chain(others).collect()
}

/// The names of what a package asks for: distributions of its requirements and modules it imports,
/// both as PEP 503 compares names.
pub(crate) fn needs(
    requirements: &RequirementFiles,
    imports: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut needs: BTreeSet<String> = imports.iter().map(|module| normalised(module)).collect();
    for text in requirements.0.values() {
        for (_, line) in logical_lines(text) {
            let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
            let name = &line[..end.unwrap_or(line.len())];
            if name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                needs.insert(normalised(name));
            }
        }
    }
    needs
}

/// What is to be said of an image that should no longer be chosen.
pub(crate) fn notice(image: &ImageInfo) -> Option<String> {
    match &image.status {
        ImageStatus::Current => None,
        ImageStatus::Deprecated { replaced_by } => Some(format!(
            "the image {} is deprecated; {replaced_by} replaces it",
            image.uri
        )),
    }
}

/// What replaces an image that should no longer be chosen.
pub(crate) fn replaced_by(image: &ImageInfo) -> Option<&str> {
    match &image.status {
        ImageStatus::Current => None,
        ImageStatus::Deprecated { replaced_by } => Some(replaced_by),
    }
}

/// Refuses an image that serves single versions to a model that has several.
pub(crate) fn check_versions(
    images: &[ImageInfo],
    image: &ImageInfo,
    model: &str,
    versions: u64,
) -> Result<()> {
    if versions <= 1 || !image.single_version {
        return Ok(());
    }
    let error = Error::new(
        Code::BadRequest,
        format!(
            "the image {} serves only models that have a single version, and {model} has {versions}",
            image.uri
        ),
    );
    Err(match successor(images, image) {
        Some(other) => error.hint(format!("Set image_uri to `{}`.", other.uri)),
        None => error.hint("Choose another image; `luthier images` lists them."),
    })
}

/// The image that serves several versions in the place of one that does not: what replaces it, else
/// the newest tag of its name, else the newest image with its Python.
fn successor<'a>(images: &'a [ImageInfo], image: &ImageInfo) -> Option<&'a ImageInfo> {
    let serves = |other: &&ImageInfo| !other.single_version;
    let replacing = replaced_by(image).and_then(|uri| find(images, uri));
    replacing
        .filter(serves)
        .or_else(|| {
            newest(images)
                .filter(serves)
                .find(|i| name(i) == name(image))
        })
        .or_else(|| {
            newest(images)
                .filter(serves)
                .find(|i| i.python == image.python)
        })
}

/// Refuses a name that no catalogue image has, naming the image that would do. A name that starts
/// with the host of a registry is looked up by the job, if images may come from there.
pub(crate) fn check_name(
    images: &[ImageInfo],
    registries: &AllowedRegistries,
    uri: &str,
) -> Result<()> {
    if find(images, uri).is_some() {
        return Ok(());
    }
    if names_registry(uri) {
        return registries.check(uri);
    }
    Err(unknown_image(uri, images))
}

/// The newest tag of each name that is to be chosen, in catalogue order.
fn newest(images: &[ImageInfo]) -> impl Iterator<Item = &ImageInfo> {
    let current = |image: &&ImageInfo| image.status == ImageStatus::Current;
    images.iter().enumerate().filter_map(move |(at, image)| {
        let later = images.get(at + 1..).unwrap_or_default();
        let newer = later.iter().filter(current).any(|l| name(l) == name(image));
        (current(&image) && !newer).then_some(image)
    })
}

/// The catalogue's image of this name and tag.
pub(crate) fn find<'a>(images: &'a [ImageInfo], uri: &str) -> Option<&'a ImageInfo> {
    images.iter().find(|image| image.uri == uri)
}

/// An image's name without its tag.
fn name(image: &ImageInfo) -> &str {
    image
        .uri
        .rsplit_once(':')
        .map_or(&image.uri, |(name, _)| name)
}

/// The preinstalled libraries' names.
fn libraries(image: &ImageInfo) -> BTreeSet<String> {
    let name = |pin: &String| normalised(pin.split("==").next().unwrap_or(pin).trim());
    image.libraries.iter().map(name).collect()
}

/// An image's Python as numbers that compare.
fn python(image: &ImageInfo) -> (u32, u32) {
    let mut numbers = image.python.split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;
