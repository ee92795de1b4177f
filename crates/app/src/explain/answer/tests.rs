//! Tests of answers.

use serde_json::json;

use super::*;

fn receipt() -> Receipt {
    Receipt {
        seed: 0,
        method: "SHAP".to_owned(),
        parameters: json!({}),
        revision: None,
        row: Digest::of("row"),
        reference: None,
        model_rows: 0,
    }
}

#[test]
fn a_receipts_question_is_everything_but_the_seed() {
    let outputs = ["y".to_owned()];
    let base = receipt().question(&outputs);
    let seeded = Receipt {
        seed: 5,
        ..receipt()
    };
    assert_eq!(seeded.question(&outputs), base);
    for other in [
        Receipt {
            method: "PERMUTE".to_owned(),
            ..receipt()
        },
        Receipt {
            parameters: json!({ "n": 1 }),
            ..receipt()
        },
        Receipt {
            revision: Some(RevisionId::new()),
            ..receipt()
        },
        Receipt {
            row: Digest::of("other"),
            ..receipt()
        },
        Receipt {
            reference: Some(Digest::of("r")),
            ..receipt()
        },
    ] {
        assert_ne!(other.question(&outputs), base);
    }
    assert_ne!(receipt().question(&["z".to_owned()]), base);
}

#[test]
fn parameters_are_the_methods_without_its_name() {
    let method = Method::Permute {
        num_permutations: 7,
    };
    assert_eq!(
        parameters(&method).unwrap(),
        json!({ "num_permutations": 7 })
    );
    assert_eq!(parameters(&Method::Shap).unwrap(), json!({}));
}

#[test]
fn hooks_that_return_something_else_are_refused() {
    for hook in [
        json!([]),
        json!({ "explanations_by_output": {} }),
        json!({ "explanations_by_output": [], "extras_by_output": {} }),
    ] {
        let error = of_hook("Tree Shap", hook, receipt()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidPrediction);
        assert!(error.message().contains("Tree Shap"));
    }
}
