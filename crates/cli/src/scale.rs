//! `luthier scale`, `activate` and `deactivate`: changing how many replicas a deployment has and what
//! they may use.

use std::str::FromStr;

use luthier_types::{Code, Error, Result};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, text},
    images::model_name,
    jobs::{self, word},
    models::{self, ModelName},
    output,
};

/// Change how many replicas a model has and what each may use.
///
/// Others serve while replicas are added; those taken away finish what they have. What each may use
/// is changed while it runs where that can be done, else new replicas take the place of the old.
/// With fewest and most, the number follows the load; with 0 as the fewest, replicas stop when nobody
/// asks and the next request brings them back.
#[derive(clap::Args)]
pub(crate) struct Scale {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// How many replicas.
    #[arg(long, short = 'n')]
    replicas: Option<u32>,
    /// CPU reservation of each, in millicpu.
    #[arg(long)]
    cpu: Option<u32>,
    /// Memory limit of each, in MiB.
    #[arg(long)]
    memory: Option<u32>,
    /// The fewest replicas there may be: 0 lets them stop when nobody asks, `same` is as many as
    /// --replicas.
    #[arg(long, value_name = "N|same")]
    min_replicas: Option<Bound>,
    /// The most replicas there may be, `same` for as many as --replicas.
    #[arg(long, value_name = "N|same")]
    max_replicas: Option<Bound>,
    /// Seconds without a request after which replicas stop, if there may be none.
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u32>,
    /// Requests underway and waiting for each replica above which there are to be more.
    #[arg(long, value_name = "N")]
    target_concurrency: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Start the replicas of a model again as they were.
#[derive(clap::Args)]
pub(crate) struct Activate {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stop all replicas of a model and keep its settings.
#[derive(clap::Args)]
pub(crate) struct Deactivate {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The fewest or the most replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Same,
    Number(u32),
}

impl FromStr for Bound {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "same" => Ok(Self::Same),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_| "neither a number nor `same`".to_owned()),
        }
    }
}

impl From<Bound> for Value {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::Same => Self::Null,
            Bound::Number(n) => n.into(),
        }
    }
}

/// Runs `luthier scale`.
pub(crate) async fn scale(client: &Client, args: &Scale) -> Result<()> {
    let given: [(&str, Option<Value>); 7] = [
        ("replicas", args.replicas.map(Value::from)),
        ("cpu", args.cpu.map(Value::from)),
        ("memory", args.memory.map(Value::from)),
        ("min_replicas", args.min_replicas.map(Value::from)),
        ("max_replicas", args.max_replicas.map(Value::from)),
        ("idle_timeout", args.idle_timeout.map(Value::from)),
        (
            "target_concurrency",
            args.target_concurrency.map(Value::from),
        ),
    ];
    let body: Map<String, Value> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    if body.is_empty() {
        return Err(
            Error::new(Code::BadRequest, "nothing is to be changed").hint(
                "Give at least one of --replicas, --cpu, --memory, --min-replicas, --max-replicas, \
                 --idle-timeout and --target-concurrency.",
            ),
        );
    }
    change(client, &args.model, body.into(), args.json).await
}

/// Runs `luthier activate`.
pub(crate) async fn activate(client: &Client, args: &Activate) -> Result<()> {
    change(client, &args.model, json!({ "active": true }), args.json).await
}

/// Runs `luthier deactivate`.
pub(crate) async fn deactivate(client: &Client, args: &Deactivate) -> Result<()> {
    change(client, &args.model, json!({ "active": false }), args.json).await
}

/// Changes a deployment, waits for that and prints what it is now.
async fn change(client: &Client, name: &ModelName, body: Value, json: bool) -> Result<()> {
    let model = models::model(client, name).await?;
    let path = format!("/v1/models/{}/deployment", text(&model, "id")?);
    let answer = client.patch(&path, &body).await?;
    jobs::wait(client, &text(&answer["job"], "id")?).await?;
    let deployment = client.get(&path).await?;
    if json {
        output::data(deployment.to_string());
        return Ok(());
    }
    let heading = ["MODEL", "PHASE", "READY", "REPLICAS", "CPU", "MEMORY"];
    let row = vec![
        model_name(&json!({
            "project": deployment["project"]["name"],
            "model": deployment["model"]["name"],
            "version": deployment["model"]["version"],
        })),
        word(&deployment["phase"]),
        ready(&deployment),
        replicas(&deployment),
        word(&deployment["cpu"]),
        format!("{} MiB", word(&deployment["memory"])),
    ];
    output::table(&[heading.map(String::from).to_vec(), row]);
    Ok(())
}

/// Replicas that answer, of those that there are to be now.
pub(crate) fn ready(deployment: &Value) -> String {
    let wanted = match deployment["active"].as_bool() {
        Some(false) => &Value::from(0),
        _ => &deployment["target_replicas"],
    };
    format!("{}/{}", word(&deployment["ready_replicas"]), word(wanted))
}

/// How many replicas there are to be, with the range that it may move in by itself.
pub(crate) fn replicas(deployment: &Value) -> String {
    let replicas = word(&deployment["replicas"]);
    let bound = |field: &str| match &deployment[field] {
        Value::Null => replicas.clone(),
        bound => word(bound),
    };
    let (min, max) = (bound("min_replicas"), bound("max_replicas"));
    if min == max {
        replicas
    } else {
        format!("{replicas} ({min} to {max})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_where_there_is_one() {
        let shown = |min: Value, max: Value| {
            replicas(&json!({ "replicas": 2, "min_replicas": min, "max_replicas": max }))
        };
        assert_eq!(shown(Value::Null, Value::Null), "2");
        assert_eq!(shown(0.into(), Value::Null), "2 (0 to 2)");
        assert_eq!(shown(1.into(), 4.into()), "2 (1 to 4)");
    }

    #[test]
    fn a_bound_is_a_number_or_same() {
        assert_eq!("same".parse(), Ok(Bound::Same));
        assert_eq!("0".parse(), Ok(Bound::Number(0)));
        assert!("none".parse::<Bound>().is_err() && "-1".parse::<Bound>().is_err());
    }
}
