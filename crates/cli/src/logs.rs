//! `luthier logs`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use luthier_types::{Code, Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::{Client, escape, text},
    jobs::word,
    models::{self, ModelName},
    output,
};

/// Show what a model's replicas write.
#[derive(clap::Args)]
pub(crate) struct Logs {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Go on as lines are written, also by replicas that start later.
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// Only of the replica with this id, or of those whose ids begin so; it may be gone.
    #[arg(long)]
    replica: Option<String>,
    /// Of replicas that are gone, oldest first.
    #[arg(long)]
    previous: bool,
    /// Only lines written since then: a time, or how long ago, such as 10m or 2h.
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// How many lines of each replica, before those that are followed.
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: u32,
    /// Begin each line with its time.
    #[arg(short, long)]
    timestamps: bool,
}

/// A line that is followed.
#[derive(Deserialize)]
struct Followed {
    replica: Option<String>,
    at: Option<String>,
    #[serde(default)]
    line: String,
    error: Option<String>,
}

/// Runs `luthier logs`.
pub(crate) async fn run(client: &Client, args: &Logs) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let path = format!("/v1/models/{}/logs", text(&model, "id")?);
    let mut query = format!("lines={}&previous={}", args.lines, args.previous);
    if let Some(since) = args.since {
        query.push_str(&format!("&since={}", escape(&since.to_string())));
    }
    if let Some(wanted) = &args.replica {
        let id = replica(client, &path, wanted).await?;
        query.push_str(&format!("&replica={id}"));
    }
    if args.follow {
        return follow(client, &format!("{path}?{query}&follow=true"), args).await;
    }
    let answer = client.get(&format!("{path}?{query}")).await?;
    let replicas = answer["items"].as_array().cloned().unwrap_or_default();
    if replicas.is_empty() {
        output::note(match args.previous {
            true => "no log of a replica that is gone is kept",
            false => "no replica is there; --previous shows those that are gone",
        });
    }
    for replica in &replicas {
        if replicas.len() > 1 || args.previous {
            output::note(heading(replica));
        }
        let items = |field: &str| replica[field].as_array().cloned().unwrap_or_default();
        for (at, line) in items("times").iter().zip(items("lines")) {
            output::data(stamped(args, at.as_str(), &word(&line)));
        }
    }
    Ok(())
}

/// What stands above the lines of a replica.
fn heading(replica: &Value) -> String {
    let exit = &replica["exit"];
    let end = match (&exit["code"], &exit["signal"], &exit["out_of_memory"]) {
        (_, _, Value::Bool(true)) => ", killed: out of memory".to_owned(),
        (Value::Number(code), ..) => format!(", exit status {code}"),
        (_, Value::Number(signal), _) => format!(", ended by signal {signal}"),
        _ => String::new(),
    };
    let at = match replica["ended_at"].as_str() {
        Some(at) => format!(", ended at {at}"),
        None => String::new(),
    };
    format!(
        "== {} ({}{end}{at})",
        word(&replica["id"]),
        word(&replica["state"])
    )
}

fn stamped(args: &Logs, at: Option<&str>, line: &str) -> String {
    match at {
        Some(at) if args.timestamps => format!("{at} {line}"),
        _ => line.to_owned(),
    }
}

/// The whole id of the replica whose id begins like this.
async fn replica(client: &Client, path: &str, wanted: &str) -> Result<String> {
    let mut found = BTreeSet::new();
    for previous in [false, true] {
        let answer = client
            .get(&format!("{path}?lines=0&previous={previous}"))
            .await?;
        let ids = answer["items"].as_array().into_iter().flatten();
        let ids = ids.map(|replica| word(&replica["id"]));
        found.extend(ids.filter(|id| id.starts_with(wanted)));
    }
    match (found.pop_first(), found.is_empty()) {
        (Some(id), true) => Ok(id),
        (None, _) => Err(
            Error::new(Code::NotFound, format!("the model has no replica {wanted}")).hint(
                "`luthier logs` and `luthier logs --previous` name those whose logs there are.",
            ),
        ),
        (Some(_), false) => Err(Error::new(
            Code::BadRequest,
            format!("several replicas have an id that begins with {wanted}"),
        )
        .hint("Give more of it.")),
    }
}

/// Prints lines as they come; each with its replica once there are several.
async fn follow(client: &Client, path: &str, args: &Logs) -> Result<()> {
    let mut response = client.stream(path).await?;
    let mut rest = Vec::new();
    let mut seen = BTreeSet::new();
    loop {
        let bytes = response
            .chunk()
            .await
            .map_err(|e| Error::new(Code::ModelUnavailable, "the server broke off").source(e))?;
        let Some(bytes) = bytes else {
            output::note("the server has ended the log");
            return Ok(());
        };
        rest.extend_from_slice(&bytes);
        let Some(end) = rest.iter().rposition(|b| *b == b'\n') else {
            continue;
        };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let lines = lines.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Followed> = lines
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|e| Error::internal("reading the server's answer", e))?;
        for line in &lines {
            seen.extend(line.replica.clone());
        }
        for line in lines {
            if let Some(error) = line.error {
                return Err(Error::new(Code::Internal, error));
            }
            let text = stamped(args, line.at.as_deref(), &line.line);
            match line.replica {
                Some(id) if seen.len() > 1 => output::data(format!("[{}] {text}", short(&id))),
                _ => output::data(text),
            }
        }
    }
}

/// The end of an id, in which those made at about the same time differ.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

/// A time, or how long ago.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wrong =
        || format!("`{text}` is neither a time, such as 2024-10-01T12:00:00Z, nor like 10m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Timestamp::now().checked_sub(span).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let at = since("2024-10-01T12:00:00Z").unwrap();
        assert_eq!(at.to_string(), "2024-10-01T12:00:00Z");
        let then = since("10m").unwrap();
        let ago = Timestamp::now().duration_since(then);
        assert!((600..660).contains(&ago.as_secs()), "{ago:?}");
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn the_heading_says_how_a_replica_ended() {
        let replica = serde_json::json!({
            "id": "r", "state": "gone", "ended_at": "T",
            "exit": { "code": null, "signal": 9, "out_of_memory": true },
        });
        assert_eq!(
            heading(&replica),
            "== r (gone, killed: out of memory, ended at T)"
        );
        let running = serde_json::json!({ "id": "r", "state": "running", "exit": null });
        assert_eq!(heading(&running), "== r (running)");
    }
}
