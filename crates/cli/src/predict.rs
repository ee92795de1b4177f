//! `luthier predict`: rows in, predictions out.

use std::{io::Read as _, path::PathBuf};

use luthier_types::{Code, Error, Result};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, text},
    models::{self, ModelName},
    output,
};

/// Predict rows; one JSON object per row on standard output.
#[derive(clap::Args)]
pub(crate) struct Predict {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// CSV, JSON (an array of objects) or JSON lines; `-` for standard input.
    #[arg(long)]
    input: PathBuf,
}

/// Rows sent in one request.
const ROWS_PER_REQUEST: usize = 10_000;

/// Runs `luthier predict`.
pub(crate) async fn run(client: &Client, args: &Predict) -> Result<()> {
    let rows = read_rows(&read_input(&args.input)?)?;
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    for chunk in rows.chunks(ROWS_PER_REQUEST) {
        let answer = client
            .post("/v3/predict", &json!({"model_id": id, "data": chunk}))
            .await?;
        for prediction in answer["predictions"].as_array().into_iter().flatten() {
            output::data(prediction.to_string());
        }
    }
    Ok(())
}

fn read_input(path: &std::path::Path) -> Result<String> {
    let failed = |e: std::io::Error| {
        Error::new(
            Code::BadRequest,
            format!("cannot read {}: {e}", path.display()),
        )
        .source(e)
    };
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    fs_err::read_to_string(path).map_err(failed)
}

/// Rows of a CSV with a heading, a JSON array of objects, or JSON lines.
fn read_rows(input: &str) -> Result<Vec<Map<String, Value>>> {
    let wrong = |cause: String| {
        Error::new(Code::BadRequest, cause)
            .hint("Give CSV with a heading, a JSON array of objects, or one JSON object per line.")
    };
    let start = input.trim_start();
    if start.starts_with('[') {
        return serde_json::from_str(start)
            .map_err(|e| wrong(format!("the input is no array of rows: {e}")));
    }
    if start.starts_with('{') {
        return serde_json::Deserializer::from_str(start)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e| wrong(format!("the input is no list of rows: {e}")));
    }
    let mut reader = csv::Reader::from_reader(start.as_bytes());
    let heading = reader
        .headers()
        .map_err(|e| wrong(format!("the heading cannot be read: {e}")))?
        .clone();
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|e| wrong(format!("the CSV is broken: {e}")))?;
            let cell = |text: &str| {
                if text.is_empty() {
                    Value::Null
                } else {
                    text.into()
                }
            };
            Ok(heading
                .iter()
                .map(str::to_owned)
                .zip(record.iter().map(cell))
                .collect())
        })
        .collect()
}

/// The one row of `--row`.
pub(crate) fn read_row(text: &str) -> Result<Map<String, Value>> {
    let mut rows = read_rows(text)?;
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(Error::new(Code::BadRequest, "--row is not one row")
            .hint("Give one JSON object, for example '{\"age\": 41}'.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_json_and_json_lines_are_the_same_rows() {
        let json = read_rows(r#"[{"a": "1", "b": null}, {"a": "2", "b": "x"}]"#).unwrap();
        assert_eq!(read_rows("a,b\n1,\n2,x\n").unwrap(), json);
        assert_eq!(
            read_rows("{\"a\": \"1\", \"b\": null}\n{\"a\": \"2\", \"b\": \"x\"}\n").unwrap(),
            json
        );
    }

    #[test]
    fn ragged_csv_is_refused() {
        assert_eq!(read_rows("a,b\n1\n").unwrap_err().code(), Code::BadRequest);
    }

    #[test]
    fn a_row_is_exactly_one() {
        assert!(read_row("{\"a\": 1}").is_ok());
        assert!(read_row("[{\"a\": 1}, {\"a\": 2}]").is_err());
        assert!(read_row("[]").is_err());
    }
}
