"""A server killed with SIGKILL: nothing that was acknowledged is lost, nothing is left behind, and
replicas keep running."""

import fcntl
import os
import subprocess

import fiddler as fdl
import pytest

import harness
import packages

STEPS = ["unpack", "inspect", "lock", "check", "build", "publish", "await_ready"]


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


EVENTS = packages.DATA.assign(id=["e1", "e2", "e3", "e4"])


def blobs(server) -> list:
    """The stored blobs; none may be half-written."""
    directory = server.data / "blobs"
    assert not list((directory / "staging").iterdir())
    return sorted(p.name for p in directory.glob("??/*"))


def rows(server) -> list:
    """The stored events: (id, a), in order."""
    with server.database() as db:
        return db.execute("SELECT event_id, row ->> 'a' FROM events ORDER BY seq").fetchall()


def with_events():
    """A model that tells events apart, and a dataset of its own."""
    model = packages.model(fdl.Project(name="killed").create(), publish=True)
    model.event_id_col = "id"
    model.update()
    return model


def killed_in(server, step: str, ask):
    """Asks for a job, kills the server after the effect of the step and starts it again. Gives the
    blobs before and after."""
    before = blobs(server)
    job = ask()
    harness.wait_for(lambda: (server.data / "paused").exists(), f"the job to reach {step}")
    server.kill()
    server.start()
    job.wait(interval=1)
    return before, blobs(server)


@pytest.mark.parametrize("step", ["convert", "record"])
def test_killed_while_publishing_a_dataset(own_server, step):
    server = own_server("--pause-after", f"publish_dataset.{step}")
    model = packages.model(fdl.Project(name="killed").create())
    before, after = killed_in(
        server,
        step,
        lambda: model.publish(
            source=packages.DATA, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name="reference"
        ),
    )
    (dataset,) = fdl.Dataset.list(model_id=model.id)
    assert (dataset.name, dataset.row_count) == ("reference", len(packages.DATA))
    assert len(after) - len(before) == 2, "the upload and its rows, once each"


def test_killed_while_publishing_events(own_server):
    server = own_server("--pause-after", "publish_events.store")
    model = with_events()
    killed_in(server, "store", lambda: model.publish(source=EVENTS))
    assert rows(server) == list(zip(EVENTS["id"], EVENTS["a"]))


def test_killed_while_deleting_events(own_server):
    server = own_server("--pause-after", "delete_events.delete")
    model = with_events()
    model.publish(source=EVENTS).wait(interval=1)
    killed_in(server, "delete", lambda: model.delete_events(event_ids=["e2", "e3"]))
    assert [event for event, _ in rows(server)] == ["e1", "e4"]


@pytest.mark.parametrize("step", ["delete", "release"])
def test_killed_while_deleting_a_model(own_server, step):
    server = own_server("--pause-after", f"delete_model.{step}")
    model = with_events()
    model.publish(source=EVENTS).wait(interval=1)
    before, after = killed_in(server, step, model.delete)
    assert not list(fdl.Model.list(project_id=model.project_id))
    assert rows(server) == []
    assert len(before) - len(after) == 1, "the rows of its dataset are gone"


def test_a_starting_server_removes_what_was_stored_and_never_mentioned(own_server):
    server = own_server()
    packages.model(fdl.Project(name="killed").create(), publish=True)
    mentioned = blobs(server)
    server.kill()
    stray = server.data / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"an upload that was cut off by the kill")
    server.start()
    harness.wait_for(lambda: blobs(server) == mentioned, "the stray blob to go")


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


def test_a_data_directory_has_one_server(own_server):
    server = own_server()
    command = [harness.BINARY, "serve", "--listen", "127.0.0.1:0", "--data", str(server.data)]
    other = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert other.returncode == 1, other.stderr
    assert "error[Conflict]: another server uses the data directory" in other.stderr


def test_what_a_killed_server_was_starting_holds_up_the_next_for_a_moment_only(own_server):
    server = own_server()
    server.kill()
    path = server.data / "server.lock"

    def is_held():
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    with subprocess.Popen(["flock", str(path), "sleep", "1"]) as holder:
        harness.wait_for(is_held, "the lock to be held")
        server.start()
        assert holder.wait() == 0
