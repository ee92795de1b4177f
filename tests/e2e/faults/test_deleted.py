"""A model deleted in the middle of its deployment: nothing of it is left, whatever was going on."""

import threading

import fiddler as fdl
import pytest

import harness
import packages
import whole
from test_killed import STEPS

# The steps of the other half take as long and meet the same code.
QUICK = ("unpack", "publish")


def left(server) -> list:
    """The traces of models that are there: containers and packages."""
    return [*whole.leaked(server, 0), *map(str, (server.data / "packages").glob("*"))]


@pytest.mark.parametrize(
    "step", [step if step in QUICK else pytest.param(step, marks=pytest.mark.long) for step in STEPS]
)
def test_deleted_in_the_middle_of_a_step(own_server, tmp_path, step):
    server = own_server("--pause-after", f"deploy_artifact.{step}")
    model = packages.model(fdl.Project(name="deleted").create())
    job = model.add_artifact(
        model_dir=packages.write(tmp_path / "p"),
        deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE),
    )
    harness.wait_for(lambda: (server.data / "paused").exists(), f"the job to reach {step}", 300)
    status, answer = server.call("DELETE", f"/v3/models/{model.id}")
    assert status == 202, answer
    deletion = answer["data"]["job"]["id"]
    # The pause holds the job for good; what follows is the next server's.
    server.kill()
    server.start()
    ended = harness.wait_for(
        lambda: (seen := server.get(f"/v3/jobs/{deletion}"))["status"] in ("SUCCESS", "FAILURE")
        and seen,
        "the deletion to end",
        120,
    )
    assert ended["status"] == "SUCCESS", ended
    # It finds its model gone at its next step.
    harness.wait_for(
        lambda: server.get(f"/v3/jobs/{job.id}")["status"] in ("REVOKED", "FAILURE", "SUCCESS"),
        "the deployment to end",
        120,
    )
    assert server.call("GET", f"/v3/models/{model.id}")[0] == 404
    harness.wait_for(
        lambda: not left(server),
        "every trace to go",
        told=lambda: f"{left(server)}\n{server.log()[-6000:]}",
    )


@pytest.mark.long
def test_deleted_while_it_loads_and_while_it_serves(server, project, tmp_path):
    """The states of replicas: starting, loading, validating, serving, draining."""
    slow = packages.GOOD.replace("def get_model():", "def get_model():\n        time.sleep(1.5)")
    slow = slow.replace("import pandas as pd", "import time\n    import pandas as pd")
    before = set(server.containers())
    for number in range(4):
        model = packages.model(project, f"model_{number}")
        model.add_artifact(
            model_dir=packages.write(tmp_path / f"p{number}", slow),
            deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE, memory=256),
        )
        harness.wait_for(lambda: set(server.containers()) - before, "a container", 300)
        # Each time later in its life.
        threading.Event().wait(number * 0.7)
        model.delete().wait(interval=0.2)
        harness.wait_for(lambda: set(server.containers()) <= before, "the container to go")
