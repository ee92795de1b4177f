"""Explanations that have less time, or fewer rows, than they need."""

import json

import fiddler as fdl
import pandas as pd

import packages

SLOW = """
    import time
    import pandas as pd

    class Model:
        def predict(self, df):
            time.sleep(0.02 * len(df))
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""
REFERENCES = 100
ROW = {"a": -1.5, "b": -2.0, "name": "z"}


def slow_model(project, tmp_path):
    """One that takes 14 s for an explanation: 7 rows for each of 100 references."""
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "slow", SLOW))
    data = pd.DataFrame(
        {
            "a": [float(n) for n in range(REFERENCES)],
            "b": [float(n % 7) for n in range(REFERENCES)],
            "name": ["x", "y"] * (REFERENCES // 2),
            "target": [0.0] * REFERENCES,
            "score": [0.0] * REFERENCES,
        }
    )
    environment = fdl.EnvType.PRE_PRODUCTION
    model.publish(source=data, environment=environment, dataset_name="base").wait(interval=1)
    return model


def asked(server, model, **limits):
    status, answer = server.call(
        "POST",
        "/v3/explain",
        {
            "model_id": str(model.id),
            "input_data_source": {"source_type": "ROW", "row": ROW},
            "explanation_type": "SHAP",
            **limits,
        },
    )
    assert status == 200, answer
    return answer.get("data", answer)


def test_an_explanation_answers_in_time_with_what_is_known(server, project, tmp_path):
    model = slow_model(project, tmp_path)
    answer = asked(server, model, max_seconds=3)
    done, of = answer["stopped"]["done"], answer["stopped"]["of"]
    assert of == REFERENCES and 1 < done < REFERENCES
    score = answer["explanations"]["score"]
    parts = {part["feature-name"]: part for part in score["GEM"]["contents"]}
    total = sum(part["attribution"] for part in parts.values())
    assert abs(total - (score["model_prediction"] - score["baseline_prediction"])) < 1e-9
    # All references give 2 * (-1.5 - 49.5).
    a = parts["a"]
    assert abs(a["attribution"] + 102.0) < 3 * a["attribution-uncertainty"] > 0.0
    assert parts["name"]["attribution"] == 0.0

    # The same rows of the model give the same numbers.
    rows = answer["receipt"]["model_rows"]
    again = asked(server, model, max_model_rows=rows)
    assert again == answer

    row = json.dumps(ROW)
    name = f"{project.name}/{model.name}"
    told = server.cli("explain", name, "--row", row, "--method", "SHAP", "--max-rows", "36")
    assert "stopped at 5 of 100, after 36 rows of the model" in told.stderr, told.stderr
    assert "±" in told.stdout


def test_impact_and_importance_over_a_dataset(project, tmp_path):
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path / "p"))
    (dataset,) = fdl.Dataset.list(model_id=model.id)
    source = fdl.DatasetDataSource(env_type=fdl.EnvType.PRE_PRODUCTION, env_id=dataset.id)
    impact = model.get_feature_impact(data_source=source, num_iterations=4000, ci_level=0.9)
    assert (impact.num_inputs, impact.num_refs, impact.ci_level) == (4, 4, 0.9)
    assert impact.feature_names == ["a", "b", "name"]
    assert impact.mean_prediction == 6.5
    # Rows and references are 0.5 to 3.5 and 1 to 4: two of them differ by 1.25 on average.
    a, b, name = impact.mean_abs_prediction_change_impact
    assert abs(a - 2.5) < 0.15 and abs(b - 1.25) < 0.1 and name == 0.0
    assert all(
        random >= fixed > 0.0
        for random, fixed in zip(impact.random_sample_ci[:2], impact.fixed_sample_ci)
    )

    importance = model.get_feature_importance(data_source=source, num_iterations=4000)
    assert importance.loss == "squared_error"
    assert (importance.total_input_samples, importance.valid_input_samples) == (4, 4)
    # Predictions are 2, 5, 8 and 11 for targets 1 to 4.
    assert abs(importance.mean_loss - (1 + 9 + 25 + 49) / 4) < 1e-9
    assert importance.mean_loss_increase_importance[2] == 0.0
    assert len(importance.mean_loss_increase_importance) == 3
