//! Feature impact through the engine and the gateway, on a model that is known in closed form.

use std::sync::Arc;

use luthier_app::influence::{Influence, InfluenceRequest};
use luthier_testkit::World;
use luthier_types::{Code, Result};
use serde_json::{Value, json};

use crate::serving;

const ROWS: &str = "id,a,b,c,y\ne1,1,1,z,5\ne2,3,2,x,13\ne3,5,5,x,1\ne4,7,6,z,1\n";
const ONE: &str = "id,a,b,c,y\nr1,0,1,x,0\n";

async fn influence(world: &World, which: Influence, body: Value) -> Result<Value> {
    let request: InfluenceRequest = serde_json::from_value(body).unwrap();
    world.app.influence(which, request, &Arc::default()).await
}

#[tokio::test]
async fn impact_is_the_mean_change_and_draws_from_the_dataset_that_is_named() {
    let (world, model, runner) = serving().await;
    let rows = world.dataset(model, "rows", ROWS).await;
    let one = world.dataset(model, "one", ONE).await;
    let body = json!({
        "model_id": model, "ref_env_id": one, "num_iterations": 9,
        "data_source": {
            "source_type": "ENVIRONMENT", "env_type": "PRE_PRODUCTION", "dataset_id": rows,
        },
    });
    let before = runner.rows();
    let answer = influence(&world, Influence::Impact, body.clone())
        .await
        .unwrap();
    assert_eq!(answer["num_inputs"], 4);
    assert_eq!(answer["num_refs"], 1);
    assert_eq!(answer["num_iterations"], 8, "two cycles");
    assert_eq!(answer["feature_names"], json!(["a", "b", "c"]));
    assert_eq!(answer["model_task"], "REGRESSION");
    assert_eq!(answer["env_name"], "rows");
    assert_eq!(answer["stopped"], Value::Null);
    // f = 2a + 3b + [c is x]: a is replaced by 0, b by 1, c by x.
    let values: Vec<f64> =
        serde_json::from_value(answer["mean_abs_prediction_change_impact"].clone()).unwrap();
    for (value, expected) in values.iter().zip([8.0, 7.5, 0.5]) {
        assert!((value - expected).abs() < 1e-9, "{values:?}");
    }
    assert_eq!(answer["fixed_sample_ci"], json!([0.0, 0.0, 0.0]));
    assert!(answer["random_sample_ci"][0].as_f64().unwrap() > 0.0);
    assert_eq!(answer["receipt"]["model_rows"], runner.rows() - before);
    // As they are; each input from elsewhere where that differs, twice.
    assert_eq!(runner.rows() - before, 4 + 2 * (4 + 3 + 2));

    let again = influence(&world, Influence::Impact, body.clone())
        .await
        .unwrap();
    assert_eq!(again["receipt"], answer["receipt"]);

    let mut few = body;
    few["max_model_rows"] = json!(8);
    let answer = influence(&world, Influence::Impact, few).await.unwrap();
    assert_eq!(answer["stopped"]["of"], 4);
    assert_eq!(answer["num_inputs"], answer["stopped"]["done"]);
}

#[tokio::test]
async fn what_a_request_may_not_say() {
    let (world, model, _runner) = serving().await;
    let source = json!({ "source_type": "ENVIRONMENT", "env_type": "PRE_PRODUCTION" });
    let body = json!({ "model_id": model, "data_source": source });
    let refused = async |which, change: Value, code: Code, text: &str| {
        let mut body = body.clone();
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let error = influence(&world, which, body).await.unwrap_err();
        assert_eq!(error.code(), code, "{change}: {error}");
        assert!(error.message().contains(text), "{change}: {error}");
        assert!(error.next_step().is_some(), "{change}");
    };
    let (impact, bad) = (Influence::Impact, Code::BadRequest);
    refused(impact, json!({}), bad, "no dataset").await;
    world.dataset(model, "rows", ROWS).await;
    for (name, value) in [
        ("num_refs", json!(0)),
        ("num_iterations", json!(100_001)),
        ("ci_level", json!(1.0)),
        ("max_seconds", json!(0)),
        ("max_model_rows", json!(0)),
    ] {
        refused(impact, json!({ name: value }), bad, name).await;
    }
    let row = json!({ "source_type": "ROW", "row": {} });
    refused(impact, json!({ "data_source": row }), bad, "single row").await;
    refused(
        impact,
        json!({ "output_columns": ["z"] }),
        bad,
        "no output `z`",
    )
    .await;
    let production = json!({ "source_type": "ENVIRONMENT", "env_type": "PRODUCTION" });
    let not = Code::NotSupported;
    refused(
        impact,
        json!({ "data_source": production }),
        not,
        "production",
    )
    .await;
    refused(Influence::Importance, json!({}), bad, "0 targets").await;
    refused(
        impact,
        json!({ "ref_env_id": luthier_types::DatasetId::new() }),
        Code::NotFound,
        "",
    )
    .await;
}
