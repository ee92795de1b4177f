"""Two models with conflicting dependencies, deployed, predicted and explained by the stock client.

    python main_job.py [--project NAME]

Reads LUTHIER_URL and LUTHIER_TOKEN. `examples/*/model.pkl`, `data.csv` and `direct.json` must be there
(`scripts/train-examples` makes them). Prints what it did; exits with an error at the first thing that
does not hold.
"""

import argparse
import json
import logging
import math
import os
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import fiddler as fdl
import pandas as pd
from fiddler import exceptions as fiddler_exceptions

EXAMPLES = Path(__file__).parent


@dataclass
class Example:
    """One model package and what is known of it."""

    name: str
    image_uri: str
    task: str
    target: str
    outputs: list
    python: str
    sklearn: str
    model: object = field(default=None, repr=False)

    @property
    def directory(self) -> Path:
        return EXAMPLES / self.name

    def data(self) -> pd.DataFrame:
        return pd.read_csv(self.directory / "data.csv", float_precision="round_trip")

    def inputs(self) -> list:
        return [c for c in self.data().columns if c not in (*self.outputs, self.target)]

    def direct(self) -> dict:
        return json.loads((self.directory / "direct.json").read_text(encoding="utf-8"))


def examples() -> list:
    return [
        Example(
            name="breast-cancer",
            image_uri="md-base/python/python-39:2.0.2",
            task=fdl.ModelTask.BINARY_CLASSIFICATION,
            target="malignant",
            outputs=["probability_malignant"],
            python="3.9",
            sklearn="1.0.2",
        ),
        Example(
            name="wine",
            image_uri="md-base/python/python-311:1.0.0",
            task=fdl.ModelTask.MULTICLASS_CLASSIFICATION,
            target="cultivar",
            outputs=[f"probability_cultivar_{n}" for n in range(3)],
            python="3.11",
            sklearn="1.5.2",
        ),
    ]


def deploy(project, example: Example) -> float:
    """Makes the model, publishes its dataset, deploys; gives the seconds from add_artifact on."""
    data = example.data()
    model = fdl.Model.from_data(
        source=data,
        name=example.name.replace("-", "_"),
        project_id=project.id,
        spec=fdl.ModelSpec(
            inputs=example.inputs(), outputs=example.outputs, targets=[example.target]
        ),
        task=example.task,
    )
    model.create()
    job = model.publish(
        source=data, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name="reference"
    )
    job.wait(interval=1)
    started = time.monotonic()
    job = model.add_artifact(
        model_dir=example.directory,
        deployment_params=fdl.DeploymentParams(
            image_uri=example.image_uri, cpu=250, memory=512, replicas=1
        ),
    )
    job.wait(interval=1)
    seconds = time.monotonic() - started
    example.model = model
    return seconds


def check_predictions(example: Example) -> int:
    """Predictions through the server equal the model's own, bit for bit."""
    predicted = example.model.predict(df=example.data()[example.inputs()])
    direct = example.direct()["predictions"]
    assert sorted(predicted.columns) == sorted(example.outputs), list(predicted.columns)
    for name in example.outputs:
        mine = [float(value).hex() for value in predicted[name]]
        assert mine == direct[name], f"{example.name}: {name} differs from the direct prediction"
    return len(predicted)


def check_explanation(example: Example, method=fdl.ExplainMethod.FIDDLER_SHAP) -> list:
    """Attributions sum to prediction minus baseline; gives (output, prediction, baseline, top)."""
    row = example.data()[example.inputs()].iloc[0].to_dict()
    answer = example.model.explain(
        input_data_source=fdl.RowDataSource(row=row),
        ref_data_source=fdl.DatasetDataSource(
            env_type=fdl.EnvType.PRE_PRODUCTION, env_id=str(dataset_of(example).id)
        ),
        method=method,
    )
    explained = []
    assert sorted(answer.explanations) == sorted(example.outputs)
    for output, explanation in answer.explanations.items():
        contents = explanation["GEM"]["contents"]
        assert [item["feature-name"] for item in contents] == example.inputs()
        total = math.fsum(item["attribution"] for item in contents)
        difference = explanation["model_prediction"] - explanation["baseline_prediction"]
        assert math.isclose(total, difference, rel_tol=1e-9, abs_tol=1e-12), (total, difference)
        top = max(contents, key=lambda item: abs(item["attribution"]))
        explained.append(
            (output, explanation["model_prediction"], explanation["baseline_prediction"], top)
        )
    return explained


def dataset_of(example: Example):
    return fdl.Dataset.from_name(name="reference", model_id=example.model.id)


def running(model_id) -> list:
    """The replicas that run now, as each reports itself."""
    url = os.environ["LUTHIER_URL"].rstrip("/") + "/v1/deployments"
    request = urllib.request.Request(
        url, headers={"Authorization": "Bearer " + os.environ["LUTHIER_TOKEN"]}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        items = json.load(response)["data"]["items"]
    return next(item["running"] for item in items if item["model_id"] == str(model_id))


def check_running(example: Example) -> dict:
    """The one replica runs on its own Python with its own scikit-learn."""
    (replica,) = running(example.model.id)
    assert replica["python"].startswith(example.python + "."), replica["python"]
    assert replica["packages"]["scikit-learn"] == example.sklearn, replica["packages"]
    direct = example.direct()
    assert replica["python"] == direct["python"]
    assert replica["packages"]["pandas"] == direct["packages"]["pandas"]
    return replica


def main_job(project_name: str, say=print) -> list:
    """The whole of it; gives the examples with their models."""
    # With a handler of our own the client does not print every request.
    logging.getLogger().addHandler(logging.NullHandler())
    fdl.init(url=os.environ["LUTHIER_URL"], token=os.environ["LUTHIER_TOKEN"])
    say(f"fiddler-client {fdl.__version__} is connected to {os.environ['LUTHIER_URL']}")
    try:
        # What an earlier run left behind: its models, their containers and reservations.
        fdl.Project.from_name(project_name).delete()
    except fiddler_exceptions.NotFound:
        pass
    project = fdl.Project(name=project_name).create()
    done = examples()
    for example in done:
        seconds = deploy(project, example)
        say(f"{example.name}: deployed on {example.image_uri} in {seconds:.1f} s")
    for example in done:
        replica = check_running(example)
        packages = replica["packages"]
        say(
            f"{example.name}: its container reports Python {replica['python']}, scikit-learn "
            f"{packages['scikit-learn']}, pandas {packages['pandas']}, NumPy {packages['numpy']}"
        )
    for example in done:
        rows = check_predictions(example)
        say(f"{example.name}: {rows} predictions equal the model's own, bit for bit")
        for output, prediction, baseline, top in check_explanation(example):
            say(
                f"{example.name}: {output} = {prediction:.4f}, baseline {baseline:.4f}; most by "
                f"{top['feature-name']} ({top['attribution']:+.4f}); attributions sum to the difference"
            )
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", default="demo")
    main_job(parser.parse_args().project)
