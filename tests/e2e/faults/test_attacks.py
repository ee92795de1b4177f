"""A model that attacks from inside its container: nothing works."""

import json
import os
import socket
import tempfile
import uuid
from pathlib import Path

import fiddler as fdl
import pandas as pd
import pytest

import harness
import packages

PACKAGE = Path(__file__).parent / "attacker"
SAMPLE = pd.DataFrame({"attack": ["none"] * 3, "aim": ["{}"] * 3, "answer": ["{}"] * 3})


def attacking_model(project, name: str = "attacker"):
    """The model of `attacker/`, not deployed yet."""
    model = fdl.Model.from_data(
        source=SAMPLE,
        name=name,
        project_id=project.id,
        spec=fdl.ModelSpec(inputs=["attack", "aim"], outputs=["answer"]),
        task=fdl.ModelTask.NOT_SET,
    )
    model.create()
    return model


def attack(model, name: str, **aim) -> dict:
    """What came of each try."""
    frame = pd.DataFrame({"attack": [name], "aim": [json.dumps(aim)]})
    found = json.loads(model.predict(df=frame)["answer"][0])
    assert found.pop("control", "done") == "done", "the probe itself does not work"
    assert len(found) > 5, found
    return found


def done(found: dict) -> dict:
    """The tries that came off."""
    return {what: how for what, how in found.items() if how == "done"}


def attacker_and_other(client, name: str, directory: Path):
    """The attacker, and another model beside it as one of its aims, in a project of this name."""
    project = client.Project(name=name).create()
    other = packages.model(project, "other")
    packages.deploy(other, packages.write(directory))
    attacker = attacking_model(project)
    packages.deploy(attacker, PACKAGE)
    yield attacker, other
    project.delete()


@pytest.fixture(scope="module")
def models(server, client, tmp_path_factory):
    yield from attacker_and_other(client, "attacks", tmp_path_factory.mktemp("other"))


def replica_of(server, model) -> dict:
    items = server.get("/v1/deployments")["items"]
    (replica,) = next(i for i in items if i["model_id"] == str(model.id))["running"]
    return replica


def shims(server) -> list:
    files = (server.data / "containers").glob("*/shim.json")
    return [json.loads(file.read_text())["pid"] for file in files]


def sockets(server) -> list:
    return [str(path) for path in (server.data / "run").glob("*/s/runner.sock")]


def test_no_network(server, models):
    attacker, _ = models
    name = f"luthier-{uuid.uuid4()}"
    with (
        socket.create_server(("0.0.0.0", 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(type=socket.SOCK_DGRAM) as route,
    ):
        udp.bind(("0.0.0.0", 0))
        abstract.bind("\0" + name)
        abstract.listen()
        # No packet is sent: this only asks which address the machine has.
        route.connect(("192.0.2.1", 9))
        own = route.getsockname()[0]
        ports = [server.port, tcp.getsockname()[1]]
        addresses = ["127.0.0.1", own, "0.0.0.0"]
        aims = [(address, port) for address in addresses for port in ports]
        aims += [("169.254.169.254", 80), ("192.0.2.1", 80)]
        udp_port = udp.getsockname()[1]
        found = attack(
            attacker,
            "network",
            tcp=aims,
            udp=[("127.0.0.1", udp_port), (own, udp_port), ("192.0.2.1", 53)],
            unix=[*sockets(server), "/run/luthier/runner.sock", "/var/run/docker.sock"],
            abstract=name,
        )
        # Its own loopback takes what is sent to nobody.
        found.pop(f"udp {['127.0.0.1', udp_port]}")
        assert done(found) == {}, found
        for listening in (tcp, udp, abstract):
            listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            tcp.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)
        with pytest.raises(BlockingIOError):
            abstract.accept()


def test_nothing_of_others_is_read(server, models):
    attacker, victim = models
    shared = Path(tempfile.mkdtemp(prefix="luthier-secret-", dir="/var/tmp"))
    try:
        shared.chmod(0o755)
        marker = shared / "secret"
        marker.write_text("for nobody's eyes")
        assert (server.data / "luthier.db").exists()
        secrets = [str(marker), str(server.data / "luthier.db"), *sockets(server)]
        secrets += map(str, (server.data / "packages").glob("*/package.py"))
        secrets += map(str, (server.data / "containers").glob("*/spec.json"))
        pids = [server.process.pid, replica_of(server, victim)["pid"], *shims(server)]
        found = attack(attacker, "reading", secret=secrets, pids=pids)
        assert done(found) == {}, done(found)
    finally:
        marker.unlink()
        shared.rmdir()


def test_nothing_is_written_but_scratch(server, models):
    attacker, _ = models
    paths = [str(server.data), str(server.data / "run"), "/work", "/root"]
    before = sockets(server)
    found = attack(attacker, "writing", paths=paths)
    assert done(found) == {}, done(found)
    assert sockets(server) == before
    for path in before:
        directory = Path(path).parent
        assert [entry.name for entry in directory.iterdir()] == ["runner.sock"]
        assert Path(path).is_socket() and not Path(path).is_symlink()


def test_no_process_of_others_is_reached(server, models):
    attacker, victim = models
    pids = [server.process.pid, os.getpid(), replica_of(server, victim)["pid"], *shims(server)]
    found = attack(attacker, "processes", pids=pids)
    assert done(found) == {}, done(found)


def test_the_kernel_is_out_of_reach(server, models):
    found = attack(models[0], "kernel")
    refused = ("EPERM", "ENOSYS", "SIGSYS", "SIGSEGV", "refused")
    assert {what: how for what, how in found.items() if how not in refused} == {}


def test_nobody_else_is_become(server, models):
    found = attack(models[0], "privileges")
    assert done(found) == {}, done(found)


def test_both_models_are_unharmed(server, models):
    attacker, victim = models
    assert victim.predict(df=packages.DATA)["score"][0] == 2.0
    assert attacker.predict(df=SAMPLE)["answer"].tolist() == ["{}"] * 3
