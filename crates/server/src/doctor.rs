//! What this machine offers and what is wrong with a package, for `luthier doctor`.

pub mod package;

use std::path::Path;

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Short name, stable.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether models can run only with it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not there.
    pub hint: String,
}

/// Disk below which a server soon stops working: room for a few environments.
const LEAST_DISK: u64 = 5 << 30;

/// Looks at this machine. Changes nothing and uses no network.
pub async fn probe(data: &Path) -> Vec<Probe> {
    let mut probes: Vec<Probe> = luthier_runtime_oci::probe()
        .into_iter()
        .map(|found| Probe {
            name: found.name.to_owned(),
            ok: found.ok,
            // Without user namespaces containers run as an unprivileged user of the host.
            required: found.name != "user namespaces",
            detail: found.detail,
            hint: found.hint.to_owned(),
        })
        .collect();
    let images = luthier_images::probe(data).await;
    probes.push(Probe {
        name: "mmdebstrap".to_owned(),
        ok: images.mmdebstrap.is_some(),
        required: true,
        detail: images
            .mmdebstrap
            .map_or("not found".to_owned(), |p| p.display().to_string()),
        hint: "Install it with `apt install mmdebstrap`.".to_owned(),
    });
    probes.push(Probe {
        name: "uv".to_owned(),
        ok: images.uv.is_some(),
        required: true,
        detail: images.uv.map_or("not found".to_owned(), |(path, version)| {
            format!("{version}, {}", path.display())
        }),
        hint: "Install it with `pip install uv`, or name it in LUTHIER_UV.".to_owned(),
    });
    for (minor, found) in images.interpreters {
        probes.push(Probe {
            name: format!("Python {minor}"),
            ok: true,
            required: false,
            detail: found.map_or(
                "not installed; uv will fetch it".to_owned(),
                |(prefix, version)| format!("{version}, {}", prefix.display()),
            ),
            hint: String::new(),
        });
    }
    let free = images.free_disk;
    probes.push(Probe {
        name: "disk".to_owned(),
        ok: free.is_none_or(|bytes| bytes >= LEAST_DISK),
        required: false,
        detail: free.map_or("unknown".to_owned(), |b| format!("{} GiB free", b >> 30)),
        hint: "Free some space: each environment takes some hundred MiB.".to_owned(),
    });
    probes
}
