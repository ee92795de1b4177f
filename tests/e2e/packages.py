"""Small packages made on the spot, good ones and bad ones."""

import io
import tarfile
import textwrap
from pathlib import Path

import fiddler as fdl
import pandas as pd

IMAGE = "md-base/python/python-311:1.0.0"

GOOD = """
    import pandas as pd

    class Model:
        def predict(self, df):
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""

DATA = pd.DataFrame(
    {
        "a": [0.5, 1.5, 2.5, 3.5],
        "b": [1.0, 2.0, 3.0, 4.0],
        "name": ["x", "y", "x", "y"],
        "target": [1.0, 2.0, 3.0, 4.0],
        "score": [2.0, 5.0, 8.0, 11.0],
    }
)


def write(directory: Path, package: str = GOOD, requirements: str = None, **files: str) -> Path:
    """Writes a package directory."""
    directory.mkdir(parents=True, exist_ok=True)
    if package is not None:
        (directory / "package.py").write_text(textwrap.dedent(package))
    if requirements is not None:
        (directory / "requirements.txt").write_text(requirements)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(textwrap.dedent(text))
    return directory


def archive(directory: Path) -> bytes:
    """The directory as the client packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(directory, arcname=".")
    return buffer.getvalue()


def model(project, name: str = "model", publish: bool = False):
    """A small regression model with inputs a, b and name."""
    made = fdl.Model.from_data(
        source=DATA,
        name=name,
        project_id=project.id,
        spec=fdl.ModelSpec(inputs=["a", "b", "name"], outputs=["score"], targets=["target"]),
        task=fdl.ModelTask.REGRESSION,
    )
    made.create()
    if publish:
        made.publish(
            source=DATA, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name="reference"
        ).wait(interval=1)
    return made


def deploy(model, directory: Path, **params):
    """Deploys and waits; raises AsyncJobFailed when the job fails."""
    params = {"image_uri": IMAGE, "cpu": 100, "memory": 256, **params}
    job = model.add_artifact(
        model_dir=directory, deployment_params=fdl.DeploymentParams(**params)
    )
    job.wait(interval=1)
    return job
