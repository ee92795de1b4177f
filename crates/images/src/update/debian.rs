//! Debian packages of a root file system that have newer versions, asked of Debian's archive with
//! `apt` in a directory of its own: nothing of this machine's packages is read or changed.

use std::{path::Path, time::Duration};

use luthier_host::{Program, find_program};
use luthier_ports::LogSink;
use luthier_types::{Code, Error, Result};

use super::Change;

const LIMIT: Duration = Duration::from_secs(300);

/// The packages of the root file system at `rootfs` that would be upgraded today.
///
/// # Errors
/// `ImageUnavailable` when `apt` is missing or Debian's archive cannot be had.
pub(super) async fn updates(rootfs: &Path, scratch: &Path, log: &LogSink) -> Result<Vec<Change>> {
    log.line("asking Debian for updates");
    let apt = find_program("apt-get", &["/usr/bin".into()]).ok_or_else(|| {
        Error::new(
            Code::ImageUnavailable,
            "apt-get, which knows Debian's updates, is not installed",
        )
        .hint("Run this on a Debian or Ubuntu machine.")
    })?;
    for directory in ["lists/partial", "archives/partial"] {
        fs_err::create_dir_all(scratch.join(directory))
            .map_err(|e| Error::internal("making a scratch directory", e))?;
    }
    let settings: Vec<String> = [
        ("Dir::Etc::SourceList", rootfs.join("etc/apt/sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::State::Lists", scratch.join("lists")),
        ("Dir::State::status", rootfs.join("var/lib/dpkg/status")),
        ("Dir::Cache", scratch.to_owned()),
        ("Dir::Cache::archives", scratch.join("archives")),
        ("APT::Sandbox::User", "root".into()),
        ("Debug::NoLocking", "true".into()),
    ]
    .iter()
    .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={}", value.display())])
    .collect();
    let run = async |command: &[&str]| {
        let program = Program::new(&apt)
            .inherit(|name| {
                matches!(
                    name.to_ascii_lowercase().as_str(),
                    "path" | "http_proxy" | "https_proxy" | "no_proxy"
                )
            })
            .env("LANG", "C.UTF-8")
            .args(&settings)
            .args(command)
            .limit(LIMIT);
        let ended = program.run(&LogSink::none()).await?;
        if ended.success() {
            return Ok(ended.output);
        }
        Err(Error::new(
            Code::ImageUnavailable,
            "Debian's updates could not be asked for: apt-get failed",
        )
        .hint("The output tells why; usually Debian's mirror cannot be reached.")
        .evidence(ended.evidence()))
    };
    run(&["update", "--error-on=any"]).await?;
    Ok(upgrades(&run(&["--simulate", "dist-upgrade"]).await?))
}

/// The upgrades in what `apt-get --simulate` prints:
/// `Inst tzdata [2024a-0] (2024b-0 Debian:12/stable [all])`.
fn upgrades(output: &str) -> Vec<Change> {
    let mut found: Vec<Change> = output
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let (from, new) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once("] (")?,
                None => ("", rest.strip_prefix('(')?),
            };
            Some(Change {
                name: name.to_owned(),
                from: from.to_owned(),
                to: new.split(' ').next()?.to_owned(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_are_read_from_a_simulation() {
        let output = "Reading package lists...\n\
            Inst tzdata [2020a-0+deb12u1] (2026f-0+deb12u1 Debian-Security:12/oldstable [all])\n\
            Inst libnew (1.0-1 Debian:12/oldstable [amd64])\n\
            Conf tzdata (2026f-0+deb12u1 Debian-Security:12/oldstable [all])\nInst odd\n";
        let found = upgrades(output);
        let told: Vec<String> = found
            .iter()
            .map(|c| format!("{} {:?} {}", c.name, c.from, c.to))
            .collect();
        assert_eq!(
            told,
            [
                "libnew \"\" 1.0-1",
                "tzdata \"2020a-0+deb12u1\" 2026f-0+deb12u1"
            ]
        );
    }
}
