"""A real model on every image of the catalogue: trained there, deployed there by the stock client, and
predicting, bit for bit, what it predicts when it is called directly there."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import fiddler as fdl
import pandas as pd
import pytest

import harness
import main_job
import packages

EXAMPLES = Path(main_job.__file__).parent
PACKAGES = Path(__file__).parent / "catalogue"


@dataclass(frozen=True)
class Package:
    """A package's sources and what is known of its model."""

    directory: Path
    task: str
    target: str
    outputs: tuple
    memory: int = 512
    train: tuple = ("python", "train.py", "/out")
    # Calls the model without `package.py`; `examples/direct.py` calls it through that.
    direct: tuple = None

    def inputs(self, data: pd.DataFrame) -> list:
        return [name for name in data if name not in (*self.outputs, self.target)]


CANCER = Package(
    EXAMPLES / "breast-cancer", "BINARY_CLASSIFICATION", "malignant", ("probability_malignant",)
)
WINE = Package(
    EXAMPLES / "wine",
    "MULTICLASS_CLASSIFICATION",
    "cultivar",
    tuple(f"probability_cultivar_{n}" for n in range(3)),
)
R = Package(
    EXAMPLES / "r-glm",
    "BINARY_CLASSIFICATION",
    "case",
    ("probability_case",),
    train=("Rscript", "train.R", "/out"),
    direct=("Rscript", "direct.R", "model.rds", "data.csv", "/out/direct.json"),
)
H2O = Package(
    EXAMPLES / "h2o-gbm",
    "BINARY_CLASSIFICATION",
    "CAPSULE",
    ("probability_penetrated",),
    memory=1024,
    direct=("python", "direct.py", "model.zip", "data.csv", "/out/direct.json"),
)
DIABETES = Package(PACKAGES / "diabetes", "REGRESSION", "target", ("predicted",))
BOOSTED = Package(
    PACKAGES / "boosted", "REGRESSION", "target", ("cat", "light", "extreme"), memory=1024
)
NEURAL = Package(PACKAGES / "neural", "REGRESSION", "mpg", ("by_keras", "by_torch"), memory=3072)

IMAGES = {
    "md-base/python/python-39:2.0.2": CANCER,
    "md-base/python/python-310:1.0.0": DIABETES,
    "md-base/python/python-311:1.0.0": WINE,
    "md-base/python/python-312:1.0.0": DIABETES,
    "md-base/python/python-313:1.0.0": DIABETES,
    "md-base/python/java:2.1.0": H2O,
    "md-base/python/rpy2:2.0.2": R,
    "md-base/python/python-39:1.4.0": DIABETES,
    "md-base/python/java:1.3.0": H2O,
    "md-base/python/rpy2:1.4.0": R,
    "md-base/python/machine-learning:1.4.0": BOOSTED,
    "md-base/python/machine-learning:1.0.1": BOOSTED,
    "md-base/python/deep-learning:1.4.0": NEURAL,
}

# Several gigabytes: `make test-images` deploys on them, `make test` does not.
LARGE = {"md-base/python/deep-learning:1.4.0"}


def catalogue(server) -> dict:
    """The entry of every image, by its uri."""
    return {entry["uri"]: entry for entry in server.get("/v1/images")["items"]}


def trained(package: Package, image: str, scratch: Path) -> Path:
    """The package with its model, trained on `image`, and with the direct predictions there."""
    home = [uri for uri, used in IMAGES.items() if used is package][0]
    if package.directory.parent == EXAMPLES and image == home:
        # `scripts/train-examples` did.
        return package.directory
    directory = scratch / package.directory.name
    ignored = shutil.ignore_patterns("model.*", "data.csv", "direct.json", "__pycache__")
    shutil.copytree(package.directory, directory, ignore=ignored)
    harness.run(directory, image, *package.train, memory=max(package.memory, 2048))
    direct = package.direct
    if direct is None:
        data = pd.read_csv(directory / "data.csv", nrows=1)
        direct = ("python", "/mnt/direct.py", ".", "data.csv", "/out/direct.json")
        direct += tuple(package.inputs(data))
    harness.run(directory, image, *direct, memory=max(package.memory, 2048), mount=EXAMPLES)
    return directory


def deployed(project, package: Package, directory: Path, image: str):
    data = pd.read_csv(directory / "data.csv", float_precision="round_trip")
    model = fdl.Model.from_data(
        source=data,
        name="model",
        project_id=project.id,
        spec=fdl.ModelSpec(
            inputs=package.inputs(data), outputs=list(package.outputs), targets=[package.target]
        ),
        task=fdl.ModelTask[package.task],
    )
    model.create()
    job = packages.deploy(model, directory, image_uri=image, cpu=1000, memory=package.memory)
    return model, data, job


def check(model, data, package: Package, directory: Path, entry: dict) -> None:
    """Predictions, Python and libraries are those that were called directly."""
    direct = json.loads((directory / "direct.json").read_text(encoding="utf-8"))
    predicted = model.predict(df=data[package.inputs(data)])
    assert len(predicted) == len(data)
    for output in package.outputs:
        # R leaves out the zeros at the end.
        mine = [float.fromhex(number) for number in direct["predictions"][output]]
        assert list(predicted[output]) == mine, f"{output} differs from the direct prediction"

    (replica,) = main_job.running(model.id)
    assert replica["python"].startswith(entry["python"] + ".")
    wanted = pins(entry["libraries"])
    requirements = directory / "requirements.txt"
    if requirements.exists():
        wanted.update(pins(requirements.read_text(encoding="utf-8").splitlines()))
    assert {name: replica["packages"].get(name) for name in wanted} == wanted
    for name, version in direct.get("packages", {}).items():
        assert replica["packages"][name.replace("_", "-").replace(".", "-")] == version


def pins(lines: list) -> dict:
    return dict(line.lower().split("==") for line in lines)


def said_to_be_deprecated(server, model, job, entry: dict) -> None:
    """The job and the deployment name what replaces a deprecated image, and of no other."""
    notice = f"the image {entry['uri']} is deprecated; {entry['replaced_by']} replaces it"
    deprecated = entry["status"] == "deprecated"
    assert (notice in json.dumps(server.get(f"/v1/jobs/{job.id}"))) == deprecated
    items = server.get("/v1/deployments")["items"]
    (deployment,) = [item for item in items if item["model_id"] == str(model.id)]
    assert deployment["image_replaced_by"] == entry["replaced_by"]


def test_every_image_of_the_catalogue_has_a_model_here(server):
    assert set(IMAGES) == set(catalogue(server))


@pytest.mark.parametrize("image", IMAGES)
def test_a_real_model_on(image, server, project, tmp_path):
    if image in LARGE and not os.environ.get("LUTHIER_TEST_LARGE_IMAGES"):
        pytest.skip("large: `make test-images` runs it")
    package, entry = IMAGES[image], catalogue(server)[image]
    directory = trained(package, image, tmp_path)
    model, data, job = deployed(project, package, directory, image)
    check(model, data, package, directory, entry)
    said_to_be_deprecated(server, model, job, entry)


@pytest.mark.parametrize("package", [R, H2O], ids=["R", "H2O"])
def test_a_model_in_another_language_is_explained(package, project, tmp_path):
    image = next(uri for uri, used in IMAGES.items() if used is package)
    model, data, _ = deployed(project, package, trained(package, image, tmp_path), image)
    model.publish(
        source=data, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name="reference"
    ).wait(interval=1)
    example = main_job.Example(
        name=package.directory.name,
        image_uri=image,
        task=package.task,
        target=package.target,
        outputs=list(package.outputs),
        python="3.9",
        sklearn="",
        model=model,
    )
    main_job.check_explanation(example)
