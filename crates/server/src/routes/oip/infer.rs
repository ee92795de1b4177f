//! `infer`, with tensors in JSON or in binary form behind it.
//!
//! In the binary form the header `Inference-Header-Content-Length` says how long the JSON is; the
//! bytes of the tensors that have a `binary_data_size` follow it, one after the other.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use luthier_app::{App, infer::Inferred};
use luthier_data::tensor::{Datatype, Tensor, TensorData, Values, values};
use luthier_gateway::{Part, Timings};
use luthier_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Named;
use crate::{
    envelope::{Answer, timed},
    extract::{Body, Path},
    negotiate::check_encoding,
};

const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Vec<Wanted>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// The parameters that mean something here, of a request, an input or an output.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    classification: Option<u64>,
    shared_memory_region: Option<String>,
}

/// What is asked of the answer.
struct Asked {
    id: Option<String>,
    /// The outputs wanted; all when empty.
    outputs: Vec<Wanted>,
    binary: bool,
}

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    Body(body): Body,
) -> Response {
    let timings = Timings::default();
    let answer: Answer = async {
        check_encoding(&headers)?;
        let name = named.name.clone();
        let model = named.model()?;
        let parsing = timings.start(Part::Parse);
        let (tensors, asked) = read(&headers, &body)?;
        drop(parsing);
        let wanted: Vec<&str> = asked.outputs.iter().map(|o| o.name.as_str()).collect();
        let inferred = app.infer(&model, tensors, &wanted, &timings).await?;
        let _encoding = timings.start(Part::Encode);
        Ok(write(&name, &inferred, &asked)?)
    }
    .await;
    timed(&timings, answer)
}

/// The tensors of a request, and what is asked of the answer.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<(Vec<Tensor>, Asked)> {
    let length = match headers.get(JSON_LENGTH) {
        None => body.len(),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|length| *length <= body.len())
            .ok_or_else(|| {
                bad(format!(
                    "the header `{JSON_LENGTH}` is not the length of the body's JSON"
                ))
            })?,
    };
    let json = body.slice(..length);
    let request: Request<'_> = serde_json::from_slice(&json).map_err(|e| {
        bad(format!("the body is not an inference request: {e}")).hint(
            "Send {\"inputs\": [{\"name\": …, \"datatype\": …, \"shape\": […], \"data\": […]}, …]}.",
        )
    })?;
    let mut binary = body.slice(length..);
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        tensors.push(tensor(input, &json, &mut binary)?);
    }
    if !binary.is_empty() {
        let left = binary.len();
        return Err(bad(format!(
            "the body has {left} bytes more than its inputs say"
        )));
    }
    if request
        .outputs
        .iter()
        .any(|o| o.parameters.classification.is_some())
    {
        return Err(bad("outputs are not turned into classes here".to_owned())
            .hint("Leave `classification` out."));
    }
    let asked = Asked {
        id: request.id,
        outputs: request.outputs,
        binary: request.parameters.binary_data_output.unwrap_or(false),
    };
    Ok((tensors, asked))
}

/// One input; what it has in binary form is taken from the front of `binary`.
fn tensor(input: Input<'_>, json: &Bytes, binary: &mut Bytes) -> Result<Tensor> {
    let name = &input.name;
    if input.parameters.shared_memory_region.is_some() {
        return Err(
            bad(format!("the input `{name}` is in shared memory")).hint("Send the tensor itself.")
        );
    }
    let datatype = Datatype::named(&input.datatype).ok_or_else(|| {
        bad(format!(
            "the input `{name}` has the datatype {}",
            input.datatype
        ))
        .hint(format!("Send one of {}.", Datatype::names()))
    })?;
    let data = match (input.data, input.parameters.binary_data_size) {
        (None, Some(size)) if size <= binary.len() => TensorData::Binary(binary.split_to(size)),
        (Some(data), None) => TensorData::Json(json.slice_ref(data.get().as_bytes())),
        (None, Some(_)) => {
            return Err(bad(format!("the body ends within the input `{name}`")));
        }
        _ => {
            let hint = "Give either `data` or, with the bytes behind the JSON, the parameter \
                        `binary_data_size`.";
            return Err(bad(format!("the input `{name}` has no data, or two")).hint(hint));
        }
    };
    Ok(Tensor {
        name: input.name,
        datatype,
        shape: input.shape,
        data,
    })
}

#[derive(Serialize)]
struct Reply<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: [usize; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

fn write(name: &str, inferred: &Inferred, asked: &Asked) -> Result<Response> {
    let table = &inferred.table;
    let columns = inferred.outputs();
    let wanted: Vec<(&str, bool)> = if asked.outputs.is_empty() {
        columns
            .iter()
            .map(|c| (c.name.as_str(), asked.binary))
            .collect()
    } else {
        let form = |o: &Wanted| o.parameters.binary_data.unwrap_or(asked.binary);
        asked
            .outputs
            .iter()
            .map(|o| (o.name.as_str(), form(o)))
            .collect()
    };
    let mut outputs = Vec::with_capacity(wanted.len());
    let mut bytes = vec![];
    for (output, binary) in wanted {
        let declared = columns.iter().find(|c| c.name == output);
        let (Some(declared), Some(array)) = (declared, table.column_by_name(output)) else {
            return Err(Error::internal(
                "writing the answer",
                format!("no output {output}"),
            ));
        };
        let values = values(array, declared.data_type);
        let before = bytes.len();
        if binary {
            values.write_binary(&mut bytes);
        }
        outputs.push(Output {
            name: output,
            datatype: values.datatype().name(),
            shape: [table.num_rows()],
            parameters: binary.then(|| Size {
                binary_data_size: bytes.len() - before,
            }),
            data: (!binary).then_some(values),
        });
    }
    let is_binary = outputs.iter().any(|o| o.parameters.is_some());
    let reply = Reply {
        model_name: name,
        model_version: &inferred.model().version,
        id: asked.id.as_deref(),
        outputs,
    };
    let mut body =
        serde_json::to_vec(&reply).map_err(|e| Error::internal("writing the answer", e))?;
    if !is_binary {
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let length = HeaderValue::from(body.len());
    body.extend_from_slice(&bytes);
    let media_type = HeaderValue::from_static("application/octet-stream");
    Ok((
        [(JSON_LENGTH, length), (header::CONTENT_TYPE, media_type)],
        body,
    )
        .into_response())
}

fn bad(cause: String) -> Error {
    Error::new(Code::BadRequest, cause)
}
