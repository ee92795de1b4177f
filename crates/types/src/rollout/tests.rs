//! Limits hold what exceeds them and nothing else.

use super::*;

fn comparison() -> Comparison {
    Comparison {
        with: RevisionId(uuid::Uuid::nil()),
        dataset_rows: 100,
        recent_rows: 20,
        outputs: vec![OutputChange {
            name: "p".to_owned(),
            mean: Some(0.01),
            max: Some(0.25),
            correlation: Some(0.99),
            changed: 0.5,
            missing: 0,
        }],
        decisions: Some(0.125),
        latency: Some(LatencyChange {
            asked: 20,
            one_p50: [1.0, 2.0],
            one_p95: [1.5, 2.5],
            all: [10.0, 12.0],
        }),
        attributions: Some(AttributionChange {
            rows: 3,
            mean: 0.001,
            max: 0.2,
            most: vec![("age".to_owned(), 0.1)],
        }),
        omitted: vec![],
    }
}

#[test]
fn each_limit_holds_its_own_figure() {
    let found = comparison();
    let none = Limits::default();
    assert!(none.exceeded(&found).is_empty());
    for (limits, text) in [
        (
            Limits {
                max_prediction_change: Some(0.2),
                ..none
            },
            "`p` changes by up to 0.250, where 0.200 is allowed",
        ),
        (
            Limits {
                max_decision_change: Some(0.1),
                ..none
            },
            "12.5 % of the rows, where 10.0 %",
        ),
        (
            Limits {
                max_latency_ratio: Some(1.5),
                ..none
            },
            "1.999 times as long, where 1.500",
        ),
    ] {
        let over = limits.exceeded(&found);
        assert_eq!(over.len(), 1, "{over:?}");
        assert!(over[0].contains(text), "{over:?}");
    }
    let wide = Limits {
        max_prediction_change: Some(0.25),
        max_decision_change: Some(0.125),
        max_latency_ratio: Some(2.0),
        hold: false,
    };
    assert!(wide.exceeded(&found).is_empty());
}

#[test]
fn values_that_are_missing_or_no_numbers_are_past_any_limit() {
    let limits = Limits {
        max_prediction_change: Some(1e9),
        ..Limits::default()
    };
    let mut found = comparison();
    found.outputs[0].missing = 2;
    assert_eq!(limits.exceeded(&found).len(), 1);
    let mut found = comparison();
    (found.outputs[0].mean, found.outputs[0].max) = (None, None);
    assert_eq!(limits.exceeded(&found).len(), 1);
    found.outputs[0].changed = 0.0;
    assert!(limits.exceeded(&found).is_empty());
}

#[test]
fn limits_that_cannot_be_are_refused() {
    for text in [
        r#"{"max_prediction_change": -1}"#,
        r#"{"max_decision_change": 1.5}"#,
        r#"{"max_latency_ratio": -0.5}"#,
    ] {
        let limits: Limits = serde_json::from_str(text).unwrap();
        assert_eq!(limits.check().unwrap_err().code(), Code::BadRequest);
    }
    assert!(serde_json::from_str::<Limits>(r#"{"max": 1}"#).is_err());
}

#[test]
fn a_comparison_reads_well() {
    let lines = comparison().lines().join("\n");
    for text in [
        "100 rows of the dataset and 20 of recent requests",
        "`p` differs by 0.010 on average, 0.250 at most; 50.0 % of the values change",
        "class changes for 12.5 %",
        "one row takes 2.000 ms, before 1.000 ms",
        "differ by 1.00e-3 on average, 0.200 at most; most: `age` 0.100",
    ] {
        assert!(lines.contains(text), "{lines}");
    }
    let nil = RevisionId(uuid::Uuid::nil());
    let lines = Comparison::omitted(nil, "the inputs differ").lines();
    assert_eq!(lines, ["not compared: the inputs differ"]);
}
