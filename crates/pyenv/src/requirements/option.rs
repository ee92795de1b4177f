//! One option line of a requirements file.

use std::collections::BTreeSet;

use luthier_ports::normalised;

use super::{Options, Refusal, address, line};

/// Most places that a package may name.
const ORIGINS: usize = 8;

const SERVER: &str = "Remove the line. How packages are fetched is a setting of the server; see \
     docs/requirements.md.";

/// Reads an option line into `options`.
pub(super) fn read(line: &str, options: &mut Options) -> Result<(), Refusal> {
    let (name, value) = split(line);
    match name {
        // The image's libraries are on the server's index, so that one stays and comes last.
        "-i" | "--index-url" | "--pypi-url" | "--extra-index-url" => {
            origin("--extra-index-url", value, options)
        }
        "-f" | "--find-links" => origin("--find-links", value, options),
        "--pre" => {
            options.pre = true;
            Ok(())
        }
        "--require-hashes" => {
            options.hashed = true;
            Ok(())
        }
        // Ready-made wheels are preferred in any case.
        "--prefer-binary" => Ok(()),
        "--only-binary" => {
            let (all, some) = names(value)?;
            options.only_wheels.all = all.unwrap_or(options.only_wheels.all);
            options.only_wheels.some.extend(some);
            Ok(())
        }
        "--no-binary" => {
            let (all, some) = names(value)?;
            if all == Some(true) {
                return Err((
                    "it asks to build everything from source".to_owned(),
                    "Name the packages that must be built: `--no-binary name,name`.",
                ));
            }
            options.from_source.extend(some);
            Ok(())
        }
        "-e" | "--editable" => Err((
            "it installs a directory in place (`-e`)".to_owned(),
            "Copy the code into the package, beside package.py, and remove the line: it is \
             imported from there. Or make a wheel of it (`pip wheel --no-deps DIRECTORY`) and put \
             that on a package index.",
        )),
        "--no-index" => Err((
            "it switches the server's package index off".to_owned(),
            SERVER,
        )),
        "--trusted-host" => Err((
            "it weakens the check of who answers (`--trusted-host`)".to_owned(),
            SERVER,
        )),
        other => Err((
            format!(
                "it is an option that is not for a package, `{}`",
                other.escape_debug()
            ),
            "Leave requirements, -r, -c, --index-url, --extra-index-url, --find-links, --pre, \
             --only-binary, --no-binary and --require-hashes.",
        )),
    }
}

/// The name of an option and its value.
fn split(line: &str) -> (&str, &str) {
    if let Some(short) = ["-i", "-f", "-e"].into_iter().find(|s| line.starts_with(s)) {
        let value = &line[short.len()..];
        return (short, value.trim_start_matches('=').trim());
    }
    match line.split_once(['=', ' ', '\t']) {
        Some((name, value)) => (name, value.trim_start_matches('=').trim()),
        None => (line, ""),
    }
}

fn origin(option: &str, value: &str, options: &mut Options) -> Result<(), Refusal> {
    address(value, true).map_err(|(why, hint)| match hint {
        "Use an https address." => (
            why,
            "Use an https address. A directory of wheels is a setting of the server \
             (LUTHIER_WHEELHOUSE).",
        ),
        other => (why, other),
    })?;
    let origin = format!("{option} {value}");
    if !options.origins.contains(&origin) {
        options.origins.push(origin);
    }
    if options.origins.len() > ORIGINS {
        return Err((
            format!("it is the {}th place to fetch from", ORIGINS + 1),
            "Name fewer.",
        ));
    }
    Ok(())
}

/// Names separated by commas; whether they are all (`:all:`) or begin anew (`:none:`).
fn names(value: &str) -> Result<(Option<bool>, BTreeSet<String>), Refusal> {
    let mut all = None;
    let mut some = BTreeSet::new();
    for word in value.split([',', ' ']).filter(|w| !w.is_empty()) {
        match word {
            ":all:" => all = Some(true),
            ":none:" => all = Some(false),
            name if line::name(name) == Some(name) => {
                some.insert(normalised(name));
            }
            other => {
                return Err((
                    format!("`{}` is no name of a package", other.escape_debug()),
                    "Write names separated by commas, or `:all:`.",
                ));
            }
        }
    }
    if all.is_none() && some.is_empty() {
        return Err((
            "it names no package".to_owned(),
            "Write names separated by commas, or `:all:`.",
        ));
    }
    Ok((all, some))
}
