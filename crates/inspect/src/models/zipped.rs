//! Models that are zip archives: PyTorch, Keras 3, H2O's MOJO, skops, NumPy's `.npz`.

use std::io::{BufReader, Read, Seek};

use zip::ZipArchive;

use super::{Found, npy, sklearn, versions};

/// Most members that are looked at, and most bytes of a text among them.
const MOST: usize = 1000;
const MAX_TEXT: u64 = 16 << 20;

pub(super) fn look(file: impl Read + Seek, found: &mut Found) {
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else {
        return;
    };
    for at in 0..archive.len().min(MOST) {
        let Ok(member) = archive.by_index(at) else {
            continue;
        };
        let name = member.name().to_owned();
        let base = name.rsplit('/').next().unwrap_or(&name);
        if base.ends_with(".pkl") || base.ends_with(".pickle") {
            found.pickles(BufReader::new(member));
            if let Ok(member) = archive.by_index(at) {
                sklearn(member, found);
            }
        } else if base.ends_with(".npy") {
            // What cannot be read says nothing.
            let _ = npy(BufReader::new(member), found);
        } else if matches!(base, "model.ini" | "metadata.json" | "schema.json") {
            let mut text = vec![];
            if member.take(MAX_TEXT).read_to_end(&mut text).is_ok() {
                found.recorded.extend(match base {
                    "model.ini" => versions::h2o(&text).map(|v| ("h2o", v)),
                    "metadata.json" => versions::keras_zip(&text).map(|v| ("keras", v)),
                    _ => versions::skops_sklearn(&text).map(|v| ("scikit-learn", v)),
                });
            }
        }
    }
}
