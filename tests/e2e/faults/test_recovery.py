"""Whatever is killed, the wanted state comes back without a hand, and nothing is left behind."""

import json
import random
import subprocess
import threading

import fiddler as fdl
import pytest

import harness
import packages
import whole
from test_under_load import Load


@pytest.fixture
def served(own_server, tmp_path):
    """A server of one's own with a model in two replicas."""
    server = own_server()
    model = packages.model(fdl.Project(name="recovery").create())
    packages.deploy(model, packages.write(tmp_path / "p"), replicas=2)
    return server, model, whole.settled(server, model, 2)


def answers(model):
    assert model.predict(df=packages.DATA)["score"].tolist() == [2.0, 5.0, 8.0, 11.0]


def test_the_server_killed(served):
    server, model, before = served
    for _ in range(3):
        server.kill()
        server.start()
        answers(model)
        assert whole.settled(server, model, 2) == before, "adopted as they run"


def test_a_shim_killed(served):
    server, model, before = served
    victim = whole.pids(server, "shim.json")[0]
    with Load(server, model) as load:
        whole.end(victim)
        load.more(200)
        after = whole.settled(server, model, 2)
        load.more(200)
    assert load.failures() == []
    assert len(set(after) & set(before)) == 1, "the other goes on"


@pytest.mark.long
def test_a_shim_killed_while_no_server_runs(served):
    server, model, before = served
    server.kill()
    whole.end(whole.pids(server, "shim.json")[0])
    server.start()
    answers(model)
    assert len(set(whole.settled(server, model, 2)) & set(before)) == 1


@pytest.mark.long
def test_both_replicas_killed(served):
    server, model, before = served
    whole.end(*(pid for _, pid in before))
    after = whole.settled(server, model, 2)
    assert not set(after) & set(before)
    answers(model)


def everything_killed(server):
    """The server, every shim and every container, as when their service is killed."""
    shims, inits = whole.pids(server, "shim.json"), whole.pids(server, "running.json")
    whole.end(server.process.pid, *shims, *inits)
    server.process.wait()


def test_everything_killed(served):
    server, model, before = served
    everything_killed(server)
    server.start()
    after = whole.settled(server, model, 2)
    assert not set(after) & set(before)
    answers(model)


def test_a_reboot(served):
    """The directory is kept; no process, cgroup or mount is there, and the numbers of processes
    belong to others."""
    server, model, _ = served
    everything_killed(server)
    whole.remove_cgroups(server)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        for name in server.containers():
            directory = server.data / "containers" / name
            shim = json.loads((directory / "shim.json").read_text())
            running = json.dumps({"pid": stranger.pid})
            booted = {"pid": stranger.pid, "boot": "00000000-0000-0000-0000-000000000000"}
            (directory / "shim.json").write_text(json.dumps({**shim, **booted}))
            (directory / "running.json").write_text(running)
        server.start()
        whole.settled(server, model, 2)
        answers(model)
        assert stranger.poll() is None, "another's process with a number of ours"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.long
def test_a_machine_that_lost_power_while_writing(served):
    """Files that were being written are empty or cut off."""
    server, model, _ = served
    everything_killed(server)
    whole.remove_cgroups(server)
    one, other = server.containers()
    (server.data / "containers" / one / "spec.json").write_bytes(b"")
    shim = server.data / "containers" / other / "shim.json"
    shim.write_bytes(shim.read_bytes()[:10])
    (server.data / "run" / "not-a-replica").mkdir()
    (server.data / "scratch" / "half").mkdir(parents=True)
    server.start()
    (server.data / "run" / "not-a-replica").rmdir()
    whole.settled(server, model, 2)
    answers(model)
    assert list((server.data / "scratch").iterdir()) == []


@pytest.mark.long
def test_the_server_killed_while_it_starts_replicas(served):
    server, model, _ = served
    deployment = fdl.ModelDeployment.of(model_id=model.id)
    deployment.replicas = 4
    deployment.update()
    harness.wait_for(lambda: len(server.containers()) > 2, "the first of the new")
    server.kill()
    server.start()
    whole.settled(server, model, 4)
    deployment.replicas = 1
    deployment.update()
    harness.wait_for(lambda: len(server.containers()) < 4, "the first to go")
    server.kill()
    server.start()
    whole.settled(server, model, 1)
    answers(model)


@pytest.mark.long
def test_deleted_while_the_server_is_down(served):
    """What was deleted and not yet removed goes after the start."""
    server, model, _ = served
    status, _ = server.call("DELETE", f"/v3/models/{model.id}")
    assert status == 202
    server.kill()
    server.start()
    harness.wait_for(lambda: not whole.leaked(server, 0), "every trace to go")


@pytest.mark.long
def test_anything_killed_at_any_time(served):
    """Twenty blows at random, some while the last is still being mended."""
    server, model, _ = served
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(20):
        blow = chance.choice(["server", "shim", "init", "all"])
        try:
            if blow == "server":
                server.kill()
            elif blow == "all":
                everything_killed(server)
            else:
                file = "shim.json" if blow == "shim" else "running.json"
                whole.end(chance.choice(whole.pids(server, file)))
        except (IndexError, FileNotFoundError):
            pass
        if server.process.poll() is not None:
            server.start()
        threading.Event().wait(chance.random() * 1.5)
    # After so many ends in a row the next start is put off.
    whole.settled(server, model, 2, 180)
    answers(model)
