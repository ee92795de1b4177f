//! `luthier jobs`, and waiting for a job with its progress on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use luthier_types::{Code, Error, JobStatus, Result};
use serde_json::Value;

use crate::{client::Client, output};

/// List jobs, or show one with its steps, log and failure.
#[derive(clap::Args)]
pub(crate) struct Jobs {
    /// Id of a job.
    id: Option<String>,
    /// How many to list, newest first.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier jobs`.
pub(crate) async fn run(client: &Client, args: &Jobs) -> Result<()> {
    match &args.id {
        Some(id) => show(client, id, args.json).await,
        None => list(client, args).await,
    }
}

async fn list(client: &Client, args: &Jobs) -> Result<()> {
    let answer = client
        .get(&format!("/v1/jobs?limit={}", args.limit))
        .await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    let mut rows = vec![
        ["JOB", "NAME", "STATUS", "PROGRESS", "CREATED", "ERROR"]
            .map(String::from)
            .to_vec(),
    ];
    for job in answer["items"].as_array().into_iter().flatten() {
        rows.push(vec![
            word(&job["id"]),
            word(&job["name"]),
            word(&job["status"]),
            format!("{:.0}%", job["progress"].as_f64().unwrap_or(0.0)),
            word(&job["created_at"]),
            word(&job["error"]["code"]),
        ]);
    }
    output::table(&rows);
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> Result<()> {
    let job = client.get(&format!("/v1/jobs/{id}")).await?;
    if json {
        output::data(job.to_string());
        return Ok(());
    }
    output::data(format!(
        "{}  {}  {}",
        word(&job["id"]),
        word(&job["name"]),
        word(&job["status"])
    ));
    for step in job["steps"].as_array().into_iter().flatten() {
        output::data(format!(
            "  {:<12} {}",
            word(&step["name"]),
            word(&step["status"])
        ));
    }
    for line in job["log"].as_array().into_iter().flatten() {
        output::data(format!(
            "  {} | {}",
            word(&line["step"]),
            word(&line["line"])
        ));
    }
    if let Some(error) = error_of(&job) {
        output::failure(&error);
    }
    Ok(())
}

/// Waits until a job ends, showing its progress when a person watches.
///
/// # Errors
/// The job's own failure.
pub(crate) async fn wait(client: &Client, id: &str) -> Result<()> {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos:>3}%  {msg}") {
        bar.set_style(style);
    }
    if output::is_watched() {
        bar.enable_steady_tick(Duration::from_millis(120));
    } else {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    loop {
        let job = client.get(&format!("/v1/jobs/{id}")).await?;
        bar.set_position(job["progress"].as_f64().unwrap_or(0.0) as u64);
        let running = job["steps"]
            .as_array()
            .and_then(|steps| steps.iter().find(|s| s["status"] == "running"))
            .map(|step| word(&step["name"]));
        let line = job["log"]
            .as_array()
            .and_then(|log| log.last())
            .map(|l| word(&l["line"]));
        let step = running.unwrap_or_else(|| word(&job["name"]));
        bar.set_message(match line {
            Some(line) => format!("{step}: {}", line.chars().take(80).collect::<String>()),
            None => step,
        });
        let status: JobStatus = serde_json::from_value(job["status"].clone())
            .map_err(|e| Error::internal("reading the job's status", e))?;
        if status.is_final() {
            bar.finish_and_clear();
            return match status {
                JobStatus::Failure => Err(error_of(&job).unwrap_or_else(|| {
                    Error::new(Code::Internal, "the job failed and left no reason")
                })),
                JobStatus::Revoked => Err(Error::new(Code::Cancelled, "the job was cancelled")),
                _ => Ok(()),
            };
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn error_of(job: &Value) -> Option<Error> {
    serde_json::from_value(job["error"].clone()).ok()
}

/// A field as text for a table; empty when absent.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
