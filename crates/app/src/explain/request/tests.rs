//! Tests of reading explain requests.

use serde_json::json;

use super::*;

fn request(fields: Value) -> ExplainRequest {
    let mut body = json!({ "model_id": ModelId::new(), "input_data_source": {} });
    for (key, value) in fields.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    serde_json::from_value(body).unwrap()
}

#[test]
fn the_default_is_fiddler_shap_with_300_permutations() {
    let method = Method::FiddlerShap {
        num_permutations: 300,
        ci_level: 0.95,
    };
    let nulls = json!({ "explanation_type": null, "num_permutations": null, "ci_level": null });
    for fields in [json!({}), nulls] {
        let asked = Asked::new(&request(fields), None).unwrap();
        assert_eq!(asked, Asked::Method(method.clone()));
    }
}

#[test]
fn the_models_own_default_and_methods_come_first() {
    let xai =
        json!({ "custom_explain_methods": ["Tree Shap"], "default_explain_method": "Tree Shap" });
    let custom = Asked::Custom("Tree Shap".to_owned());
    assert_eq!(Asked::new(&request(json!({})), Some(&xai)).unwrap(), custom);
    let named = request(json!({ "explanation_type": "Tree Shap" }));
    assert_eq!(Asked::new(&named, Some(&xai)).unwrap(), custom);
    assert_eq!(
        Asked::new(&named, None).unwrap_err().code(),
        Code::BadRequest
    );
    let shap = request(json!({ "explanation_type": "SHAP" }));
    assert_eq!(
        Asked::new(&shap, Some(&xai)).unwrap(),
        Asked::Method(Method::Shap)
    );
}

#[test]
fn samples_have_a_default_and_a_range() {
    let source = |n: Value| {
        let value = json!({ "source_type": "ENVIRONMENT", "num_samples": n });
        Source::parse(value, "ref_data_source").unwrap()
    };
    assert_eq!(samples(None).unwrap(), 200);
    assert_eq!(samples(Some(&source(Value::Null))).unwrap(), 200);
    assert_eq!(samples(Some(&source(json!(1_000_000)))).unwrap(), 1_000_000);
    assert!(samples(Some(&source(json!(1_000_001)))).is_err());
}

#[test]
fn event_ids_may_be_numbers() {
    let value = json!({ "source_type": "EVENT_ID", "event_id": 7, "env_type": "PRODUCTION" });
    let Source::Event { event_id, .. } = Source::parse(value, "x").unwrap() else {
        panic!("another kind");
    };
    assert_eq!(event_id, "7");
}
