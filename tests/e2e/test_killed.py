"""A server killed with SIGKILL: nothing that was acknowledged is lost, nothing is left behind, and
replicas keep running."""

import os

import fiddler as fdl
import pytest

import harness
import packages

STEPS = ["unpack", "inspect", "lock", "build", "publish", "await_ready"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_of_a_step(own_server, tmp_path, step):
    server = own_server("--pause-after", f"deploy_artifact.{step}")
    model = packages.model(fdl.Project(name="killed").create())
    job = model.add_artifact(
        model_dir=packages.write(tmp_path / "p", requirements="humanize==4.9.0\n"),
        deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE),
    )
    harness.wait_for(lambda: (server.data / "paused").exists(), f"the job to reach {step}", 300)
    server.kill()
    server.start()
    job.wait(interval=1)
    assert model.predict(df=packages.DATA)["score"].tolist() == [2.0, 5.0, 8.0, 11.0]
    assert len(server.containers()) == 1, "exactly one replica runs"


def test_a_restarted_server_adopts_its_replicas(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="adopted").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    before = running(server)
    server.kill()
    server.start()
    assert model.predict(df=packages.DATA)["score"][0] == 2.0
    server.stop()
    server.start()
    assert model.predict(df=packages.DATA)["score"][0] == 2.0
    assert running(server) == before, "the same replica, not a new one"


def running(server) -> list:
    (deployment,) = server.get("/v1/deployments")["items"]
    return [(replica["id"], replica["pid"]) for replica in deployment["running"]]


def test_a_crashed_replica_is_started_again(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="crash").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    ((first, pid),) = running(server)
    os.kill(pid, 9)
    harness.wait_for(
        lambda: [r for r in running(server) if r[0] != first]
        and server.get("/v1/deployments")["items"][0]["ready_replicas"] == 1,
        "a new replica",
    )
    assert model.predict(df=packages.DATA)["score"][0] == 2.0
    failure = server.get("/v1/deployments")["items"][0]["failure"]
    assert failure is None or failure["code"] == "ModelServeError"
