"""A package that puts itself in the runner's place and answers as no runner would: the server takes
no more than a bounded amount of it, in bounded time, and other models notice nothing."""

import json
import os
import time
from pathlib import Path

import pytest

import harness
import packages
from test_attacks import attacker_and_other, replica_of

QUICK = ["huge", "headers", "short", "lie", "noise", "damaged", "elsewhere", "rant", "nonsense"]
# These end at the deadline of the request.
PATIENT = ["hints", "silent", "slow"]


@pytest.fixture(scope="module")
def models(server, client, tmp_path_factory):
    yield from attacker_and_other(client, "impostors", tmp_path_factory.mktemp("other"))


def memory(server) -> int:
    """MiB that the server's process has resident."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def asked(server, model, attack: str = "none", **aim):
    body = {"model_id": str(model.id), "data": [{"attack": attack, "aim": json.dumps(aim)}]}
    return server.call("POST", "/v3/predict", body)


@pytest.fixture(scope="module")
def impostor(server, models):
    """The attacker's replica, with another program in the runner's place."""
    attacker, _ = models
    assert asked(server, attacker)[0] == 200
    status, _ = asked(server, attacker, "impostor")
    assert status == 400, "the request that it came with"

    def answers():
        (log,) = server.get(f"/v1/models/{attacker.id}/logs")["items"]
        return "an impostor answers" in log["lines"]

    harness.wait_for(answers, "the impostor")
    return attacker


def refused(server, impostor, other, kind: str, seconds: float):
    before = memory(server)
    began = time.monotonic()
    status, answer = asked(server, impostor, say=kind)
    assert time.monotonic() - began < seconds
    # Final for clients, which would ask for minutes after a 5xx.
    assert status == 400, answer
    assert len(json.dumps(answer)) < 100_000
    assert answer["error"]["errors"][0]["help"], answer
    assert memory(server) - before < 600, "MiB more than before"
    assert other.predict(df=packages.DATA)["score"][0] == 2.0
    assert server.is_up()


@pytest.mark.parametrize("kind", QUICK)
def test_what_an_impostor_says_is_refused(server, models, impostor, kind):
    refused(server, impostor, models[1], kind, 30)


@pytest.mark.long
@pytest.mark.parametrize("kind", PATIENT)
def test_what_it_does_not_say_is_waited_for_no_longer_than_a_request_has(
    server, models, impostor, kind
):
    refused(server, impostor, models[1], kind, 70)


def test_the_runner_comes_back(server, models, impostor):
    os.kill(replica_of(server, impostor)["pid"], 9)
    harness.wait_for(lambda: asked(server, impostor)[0] == 200, "the runner to be back", 90)
