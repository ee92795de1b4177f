//! What an image's layers take on disk.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use luthier_host::disk::usage;
use luthier_types::{Error, Result, layout::CacheLayout};

use crate::{base, catalogue::Entry, interpreter, rootfs::Recipe};

/// Layers never change, so each is measured once.
static MEASURED: Mutex<Option<HashMap<PathBuf, u64>>> = Mutex::new(None);

/// Bytes of the layers of `entry`, and of those that no other image has; `None` when it is not
/// made yet.
///
/// # Errors
/// `Internal` when a layer cannot be read.
pub(crate) async fn of(
    layout: &CacheLayout,
    entry: &Entry,
    others: &[&Entry],
) -> Result<Option<(u64, u64)>> {
    let Some(layers) = layers(layout, entry) else {
        return Ok(None);
    };
    let shared: HashSet<PathBuf> = others
        .iter()
        .filter_map(|other| layers_of(layout, other))
        .flatten()
        .collect();
    tokio::task::spawn_blocking(move || {
        let (mut all, mut alone) = (0, 0);
        for layer in layers {
            let bytes = measured(&layer)
                .map_err(|e| Error::internal(format!("measuring {}", layer.display()), e))?;
            all += bytes;
            alone += if shared.contains(&layer) { 0 } else { bytes };
        }
        Ok(Some((all, alone)))
    })
    .await
    .map_err(|e| Error::internal("measuring an image", e))?
}

/// As [`of`] for an image of a registry, which shares its file system with no other.
pub(crate) async fn of_base(layout: &CacheLayout, uri: &str) -> Result<Option<(u64, u64)>> {
    let Some(layer) = base::layers(layout, uri) else {
        return Ok(None);
    };
    let bytes = tokio::task::spawn_blocking(move || measured(&layer))
        .await
        .map_err(|e| Error::internal("measuring an image", e))?
        .map_err(|e| Error::internal(format!("measuring {uri}"), e))?;
    Ok(Some((bytes, bytes)))
}

/// The layers of an image, if all are there.
fn layers(layout: &CacheLayout, entry: &Entry) -> Option<[PathBuf; 2]> {
    layers_of(layout, entry).filter(|layers| layers.iter().all(|layer| layer.is_dir()))
}

fn layers_of(layout: &CacheLayout, entry: &Entry) -> Option<[PathBuf; 2]> {
    let interpreter = interpreter::made(layout, &entry.info.python)?;
    Some([
        layout.rootfs(&Recipe::of(&entry.tag).digest()),
        layout.interpreter(&interpreter),
    ])
}

fn measured(layer: &Path) -> io::Result<u64> {
    let known = |measured: &HashMap<PathBuf, u64>| measured.get(layer).copied();
    if let Ok(measured) = MEASURED.lock()
        && let Some(bytes) = measured.as_ref().and_then(known)
    {
        return Ok(bytes);
    }
    let bytes = usage(layer)?.bytes;
    if let Ok(mut measured) = MEASURED.lock() {
        measured
            .get_or_insert_default()
            .insert(layer.to_owned(), bytes);
    }
    Ok(bytes)
}
