//! `luthier predict`: rows in, predictions out, in whatever forms, a part at a time.

mod input;
mod output;

use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use luthier_data::Format;
use luthier_types::{Error, Result};
use tokio::sync::{mpsc, oneshot};

pub(crate) use input::read_row;

use crate::{
    client::{Client, text},
    models::{self, ModelName},
    output::note,
};

/// Predict the rows of a file.
#[derive(clap::Args)]
pub(crate) struct Predict {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// File of rows; `-` for standard input.
    #[arg(long)]
    input: PathBuf,
    /// Form of the input; by default what its name or its first bytes say.
    #[arg(long)]
    format: Option<input::Form>,
    /// File for the predictions, whole or not there at all; standard output without it.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Form of the output; by default what the name of `--output` says, else JSON lines.
    #[arg(long)]
    output_format: Option<output::Form>,
}

/// Requests underway: while the model predicts one part, the next is read.
const UNDERWAY: usize = 2;

/// Some rows as the body of a request.
struct Part {
    format: Format,
    body: Vec<u8>,
    /// Number of its first row in the input, from 0.
    first: u64,
    rows: u64,
}

/// Runs `luthier predict`.
pub(crate) async fn run(client: &Client, args: &Predict) -> Result<()> {
    let form = output::Form::choose(args.output_format, args.output.as_deref())?;
    let source = input::Source::open(&args.input, args.format)?;
    let model = models::model(client, &args.model).await?;
    let path = format!("/v1/models/{}/predict", text(&model, "id")?);
    let mut output = output::Output::open(args.output.as_deref(), form)?;

    let (send, parts) = mpsc::channel(UNDERWAY);
    let (tell, ended) = oneshot::channel();
    // A thread of its own: the program does not wait for it when standard input never ends.
    std::thread::spawn(move || {
        let _ = tell.send(source.read(&send));
    });
    let parts = futures::stream::unfold(parts, async |mut parts| {
        let part: Part = parts.recv().await?;
        Some((part, parts))
    });
    let mut answers = std::pin::pin!(
        parts
            .map(|part| predict(client, &path, part, form))
            .buffered(UNDERWAY)
    );
    while let Some(answer) = answers.try_next().await? {
        output.write(answer)?;
    }
    // What was read before the input broke off has been predicted, and is kept back all the same.
    ended
        .await
        .map_err(|e| Error::internal("reading the input", e))??;
    output.finish()
}

async fn predict(client: &Client, path: &str, part: Part, form: output::Form) -> Result<Bytes> {
    let (first, rows) = (part.first, part.rows);
    let sent = part.format.media_type();
    let wanted = form.asked().media_type();
    let answer = client.exchange(path, sent, wanted, part.body).await;
    if answer.is_err() && first > 0 {
        // Errors count rows from the first of their request.
        note(format!(
            "in the part of the input that begins with row {first} and has {rows} rows:"
        ));
    }
    answer
}
