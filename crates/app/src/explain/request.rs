//! What an explain request may say.

use std::time::{Duration, Instant};

use luthier_explain::Method;
use luthier_types::{Code, DatasetId, EnvType, Error, ModelId, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{bad, run::Allowance};

/// Coalitions per game, or draws per feature, unless the request says otherwise.
const NUM_PERMUTATIONS: u64 = 300;
/// Most that may be asked for.
const MAX_PERMUTATIONS: u64 = 10_000;
/// Confidence level unless the request says otherwise.
const CI_LEVEL: f64 = 0.95;
/// Reference rows unless the request says otherwise.
const NUM_SAMPLES: u64 = 200;
/// Most that may be asked for.
pub(crate) const MAX_SAMPLES: u64 = 1_000_000;

/// The body of an explain request.
#[derive(Clone, Debug, Deserialize)]
pub struct ExplainRequest {
    /// The model.
    pub model_id: ModelId,
    /// The row to explain.
    pub input_data_source: Value,
    /// What it is compared with.
    #[serde(default)]
    pub ref_data_source: Option<Value>,
    /// The method's name.
    #[serde(default)]
    pub explanation_type: Option<String>,
    /// Coalitions per game, or draws per feature.
    #[serde(default)]
    pub num_permutations: Option<u64>,
    /// Confidence level of the uncertainties.
    #[serde(default)]
    pub ci_level: Option<f64>,
    /// How many classes to explain.
    #[serde(default)]
    pub top_n_class: Option<u64>,
    /// Seconds after which the answer tells what is known by then.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// Most rows that the model is asked about.
    #[serde(default)]
    pub max_model_rows: Option<u64>,
}

/// The method asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// One of ours.
    Method(Method),
    /// One of the package's.
    Custom(String),
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Row {
        row: Map<String, Value>,
    },
    Event {
        event_id: String,
        env_type: EnvType,
        env_id: Option<DatasetId>,
    },
    Environment {
        env_type: EnvType,
        env_id: Option<DatasetId>,
        num_samples: Option<u64>,
    },
}

// === impl Asked ===

impl Asked {
    /// The method of a request to a model with these `xai_params`.
    pub(crate) fn new(request: &ExplainRequest, xai_params: Option<&Value>) -> Result<Self> {
        let num_permutations = number(
            "num_permutations",
            request.num_permutations,
            NUM_PERMUTATIONS,
            MAX_PERMUTATIONS,
        )?;
        let ci_level = ci_level(request.ci_level)?;
        let custom: Vec<&str> = xai_params
            .and_then(|x| x["custom_explain_methods"].as_array())
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let default = xai_params.and_then(|x| x["default_explain_method"].as_str());
        let name = request
            .explanation_type
            .as_deref()
            .or(default)
            .unwrap_or("FIDDLER_SHAP");
        Ok(Self::Method(match name {
            custom_name if custom.contains(&custom_name) => {
                return Ok(Self::Custom(custom_name.to_owned()));
            }
            "FIDDLER_SHAP" => Method::FiddlerShap {
                num_permutations,
                ci_level,
            },
            "SHAP" => Method::Shap,
            "PERMUTE" => Method::Permute { num_permutations },
            "ZERO_RESET" => Method::ZeroReset,
            "MEAN_RESET" => Method::MeanReset,
            "IG" => {
                return Err(Error::new(
                    Code::NotSupported,
                    "integrated gradients are not served yet",
                )
                .hint("Use FIDDLER_SHAP, SHAP, PERMUTE, ZERO_RESET or MEAN_RESET."));
            }
            other => {
                let mut known = vec![
                    "FIDDLER_SHAP",
                    "SHAP",
                    "PERMUTE",
                    "ZERO_RESET",
                    "MEAN_RESET",
                ];
                known.extend(custom);
                return Err(bad(
                    &format!("there is no explanation_type `{other}`"),
                    &format!(
                        "Use one of {}; a package's own method must be listed in the model's \
                         xai_params.custom_explain_methods.",
                        known.join(", ")
                    ),
                ));
            }
        }))
    }
}

// === impl Source ===

/// A data source before it is known which kind it is.
#[derive(Deserialize)]
struct Raw {
    source_type: String,
    #[serde(default)]
    row: Option<Map<String, Value>>,
    #[serde(default)]
    event_id: Option<Value>,
    #[serde(default, alias = "dataset_id")]
    env_id: Option<DatasetId>,
    #[serde(default)]
    env_type: Option<EnvType>,
    #[serde(default)]
    num_samples: Option<u64>,
}

impl Source {
    /// Reads the data source in the request's `field`.
    pub(crate) fn parse(value: Value, field: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_value(value).map_err(|e| {
            bad(
                &format!("{field} is not a data source: {e}"),
                "Send an object with a source_type of ROW, EVENT_ID or ENVIRONMENT.",
            )
        })?;
        let lacks = |what: &str| {
            bad(
                &format!("{field} of type {} lacks `{what}`", raw.source_type),
                "Send it.",
            )
        };
        match raw.source_type.to_ascii_uppercase().as_str() {
            "ROW" => Ok(Self::Row {
                row: raw.row.ok_or_else(|| lacks("row"))?,
            }),
            "EVENT_ID" => Ok(Self::Event {
                event_id: match raw.event_id {
                    Some(Value::String(id)) => id,
                    Some(Value::Number(id)) => id.to_string(),
                    _ => return Err(lacks("event_id")),
                },
                env_type: raw.env_type.unwrap_or(EnvType::Production),
                env_id: raw.env_id,
            }),
            "ENVIRONMENT" => Ok(Self::Environment {
                env_type: raw.env_type.unwrap_or(EnvType::PreProduction),
                env_id: raw.env_id,
                num_samples: raw.num_samples,
            }),
            "SQL_SLICE_QUERY" | "FQL" => Err(Error::new(
                Code::NotSupported,
                format!(
                    "data sources of type {} are not served yet",
                    raw.source_type
                ),
            )
            .hint("Use ROW, EVENT_ID or ENVIRONMENT.")),
            other => Err(bad(
                &format!("{field} has the unknown source_type `{other}`"),
                "Use ROW, EVENT_ID or ENVIRONMENT.",
            )),
        }
    }
}

/// What a request allows, and the time that there is for any.
pub(crate) fn allowance(
    max_seconds: Option<f64>,
    max_model_rows: Option<u64>,
    longest: Duration,
) -> Result<Allowance> {
    let time = match max_seconds {
        None => longest,
        Some(seconds) => {
            let asked = Duration::try_from_secs_f64(seconds).ok();
            let asked = asked.filter(|time| !time.is_zero()).ok_or_else(|| {
                bad(
                    &format!("max_seconds is {seconds}, and must be more than 0"),
                    "Give the seconds that the answer may take, or leave it out.",
                )
            })?;
            asked.min(longest)
        }
    };
    if max_model_rows == Some(0) {
        return Err(bad(
            "max_model_rows is 0",
            "Give at least the rows of one reference: 4 times the inputs, and 2; or leave it out.",
        ));
    }
    Ok(Allowance {
        deadline: Instant::now() + time,
        time,
        rows: max_model_rows.unwrap_or(u64::MAX),
    })
}

/// How many reference rows to take.
pub(crate) fn samples(source: Option<&Source>) -> Result<usize> {
    let asked = match source {
        Some(Source::Environment { num_samples, .. }) => *num_samples,
        _ => None,
    };
    number("num_samples", asked, NUM_SAMPLES, MAX_SAMPLES)
}

/// A number of a request called `name`, from 1 to `most`; `usual` when it was not given.
pub(crate) fn number(name: &str, asked: Option<u64>, usual: u64, most: u64) -> Result<usize> {
    let value = asked.unwrap_or(usual);
    if (1..=most).contains(&value) {
        return Ok(usize::try_from(value).unwrap_or(usize::MAX));
    }
    Err(bad(
        &format!("{name} is {value}, outside 1 to {most}"),
        &format!("{usual} is a good start."),
    ))
}

/// The confidence level of a request.
pub(crate) fn ci_level(asked: Option<f64>) -> Result<f64> {
    let ci_level = asked.unwrap_or(CI_LEVEL);
    if (0.0..1.0).contains(&ci_level) {
        return Ok(ci_level);
    }
    Err(bad(
        &format!("ci_level is {ci_level}, and must be at least 0 and less than 1"),
        "0.95 is usual.",
    ))
}

#[cfg(test)]
mod tests;
