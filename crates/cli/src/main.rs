//! The `luthier` binary: the server and the commands of its users. Standard output carries data,
//! standard error the rest; the exit status is 0, 1 for a failure, 2 for wrong usage.

#![forbid(unsafe_code)]

mod audit;
mod client;
mod deploy;
mod doctor;
mod envs;
mod explain;
mod export;
mod failures;
mod history;
mod images;
mod jobs;
mod logs;
mod manual;
mod models;
mod output;
mod predict;
mod purge;
mod run;
mod scale;
mod serve;
mod size;
mod status;
mod traces;
mod upkeep;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use client::{Client, Connection};
use luthier_types::{Error, Result};
use traces::Traces;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Runs every machine-learning model in its own container with its own dependencies, and explains its
/// predictions.
#[derive(Parser)]
#[command(name = "luthier", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Deploy(Remote<deploy::Deploy>),
    Predict(Remote<predict::Predict>),
    Explain(Remote<explain::Explain>),
    Ps(Remote<status::Ps>),
    Scale(Remote<scale::Scale>),
    Activate(Remote<scale::Activate>),
    Deactivate(Remote<scale::Deactivate>),
    Jobs(Remote<jobs::Jobs>),
    Failures(Remote<failures::Failures>),
    Size(Remote<size::Size>),
    History(Remote<history::History>),
    Rollback(Remote<history::Rollback>),
    Approve(Remote<history::Approve>),
    Limits(Remote<history::SetLimits>),
    RunnerAddress(Remote<manual::RunnerAddress>),
    Logs(Remote<logs::Logs>),
    Audit(Remote<audit::Audit>),
    Images(images::Images),
    Envs(envs::Envs),
    Run(run::Run),
    Export(Remote<export::Export>),
    Push(Remote<export::Push>),
    Doctor(doctor::Doctor),
    Purge(purge::Purge),
    /// Keeps one container; the server starts it.
    #[command(hide = true)]
    Shim {
        /// Directory of the container.
        dir: PathBuf,
    },
}

// A command that calls a server. (A doc comment here would stand in for that of each command.)
#[derive(clap::Args)]
struct Remote<T: clap::Args> {
    #[command(flatten)]
    args: T,
    #[command(flatten)]
    connection: Connection,
}

impl<T: clap::Args> Remote<T> {
    fn client(&self) -> Result<Client> {
        Client::new(&self.connection)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The shim forks, which only a process with a single thread may do safely.
    if let Command::Shim { dir } = &cli.command {
        return luthier_runtime_oci::shim_main(dir);
    }
    match run_command(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!(chain = error.chain(), "failed");
            output::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run_command(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Error::internal("starting", e))?;
    let traces = match &cli.command {
        Command::Serve(_) => Traces::from_env(runtime.handle())?,
        _ => None,
    };
    start_log(traces.as_ref());
    runtime.block_on(dispatch(cli))
}

async fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Deploy(c) => deploy::run(&c.client()?, &c.args).await,
        Command::Predict(c) => predict::run(&c.client()?, &c.args).await,
        Command::Explain(c) => explain::run(&c.client()?, &c.args).await,
        Command::Ps(c) => status::ps(&c.client()?, &c.args).await,
        Command::Scale(c) => scale::scale(&c.client()?, &c.args).await,
        Command::Activate(c) => scale::activate(&c.client()?, &c.args).await,
        Command::Deactivate(c) => scale::deactivate(&c.client()?, &c.args).await,
        Command::Jobs(c) => jobs::run(&c.client()?, &c.args).await,
        Command::Failures(c) => failures::run(&c.client()?, &c.args).await,
        Command::Size(c) => size::run(&c.client()?, &c.args).await,
        Command::History(c) => history::history(&c.client()?, &c.args).await,
        Command::Rollback(c) => history::roll_back(&c.client()?, &c.args).await,
        Command::Approve(c) => history::approve(&c.client()?, &c.args).await,
        Command::Limits(c) => history::limits(&c.client()?, &c.args).await,
        Command::RunnerAddress(c) => manual::run(&c.client()?, &c.args).await,
        Command::Logs(c) => logs::run(&c.client()?, &c.args).await,
        Command::Audit(c) => audit::run(&c.client()?, &c.args).await,
        Command::Images(args) => images::run(&args).await,
        Command::Envs(args) => envs::run(&args).await,
        Command::Run(args) => run::run(&args).await,
        Command::Export(c) => export::export(&c.client()?, &c.args).await,
        Command::Push(c) => export::push(&c.client()?, &c.args).await,
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Purge(args) => purge::run(&args).await,
        Command::Shim { .. } => Ok(()),
    }
}

/// The log goes to standard error; `RUST_LOG` chooses what. Traces are of our own spans.
fn start_log(traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(output::is_watched())
        .with_filter(filter);
    let traces = traces.map(|traces| {
        let ours = |metadata: &Metadata<'_>| {
            metadata.is_span() && metadata.target().starts_with("luthier")
        };
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_filter(filter_fn(ours))
    });
    tracing_subscriber::registry().with(traces).with(log).init();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_says_what_it_does_itself() {
        let command = Cli::command();
        command.clone().debug_assert();
        let shown: Vec<String> = command
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(|c| c.get_about().map(ToString::to_string).unwrap_or_default())
            .collect();
        let distinct: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len(), "{shown:#?}");
    }
}
