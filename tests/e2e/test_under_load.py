"""A server under load: replicas that are killed, models that are exchanged, queues that are full."""

import concurrent.futures
import http.client
import json
import os
import select
import signal
import socket
import threading
import time

import fiddler as fdl
import pytest

import harness
import packages

ROW = {"a": 0.5, "b": 1.0, "name": "x"}


class Load:
    """Threads that predict one row, over and over, each on a connection of its own."""

    def __init__(self, server, model, threads: int = 8):
        self.server, self.answers, self.stopped = server, [], threading.Event()
        self.body = json.dumps({"model_id": str(model.id), "data": [ROW]})
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.server.token}"}
        while not self.stopped.is_set():
            connection.request("POST", "/v3/predict", self.body, headers)
            response = connection.getresponse()
            body = json.loads(response.read())
            found = body["data"]["predictions"][0]["score"] if response.status == 200 else body
            self.answers.append((response.status, found))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        harness.wait_for(lambda: len(self.answers) > 100, "the first answers")
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a request was never answered"

    def more(self, count: int):
        """Waits for so many answers from now on."""
        target = len(self.answers) + count
        harness.wait_for(lambda: len(self.answers) >= target, f"{count} more answers")

    def failures(self) -> list:
        return [answer for answer in self.answers if answer[0] != 200]


def of(server, model) -> dict:
    items = server.get("/v1/deployments")["items"]
    return next(item for item in items if item["model_id"] == str(model.id))


def test_a_killed_replica_costs_no_request(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"), replicas=2)
    with Load(server, model) as load:
        for _ in range(3):
            before = {r["id"]: r["pid"] for r in of(server, model)["running"]}
            victim = sorted(before)[0]
            os.kill(before[victim], signal.SIGKILL)
            load.more(500)

            def replaced():
                seen = of(server, model)
                ids = {r["id"] for r in seen["running"] if r["state"] == "running"}
                return victim not in ids and seen["ready_replicas"] == 2

            harness.wait_for(replaced, "another replica in its place")
            load.more(500)
    assert load.failures() == []
    assert {found for _, found in load.answers} == {2.0}


def test_an_update_costs_no_request(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"), replicas=2)
    with Load(server, model) as load:
        new = packages.write(tmp_path / "new", packages.GOOD.replace("2.0", "3.0"))
        model.update_artifact(
            model_dir=new, deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE)
        ).wait(interval=0.2)
        load.more(500)
        harness.wait_for(lambda: len(of(server, model)["running"]) == 2, "the old ones to stop")
        load.more(500)
    assert load.failures() == []
    found = [value for _, value in load.answers]
    assert set(found) == {2.0, 2.5}, "the old model, then the new one"
    assert set(found[-100:]) == {2.5}


ROWWISE = """
    import time
    import pandas as pd

    class Model:
        def predict(self, df):
            time.sleep(0.02)
            if (df["a"] < 0).any():
                raise ValueError("negative: %s" % df["a"].min())
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""


def asked(server, model, a: float):
    """The status and the score, or the error, of a predict of one row."""
    body = {"model_id": str(model.id), "data": [{**ROW, "a": a}]}
    status, answer = server.call("POST", "/v3/predict", body)
    found = answer["data"]["predictions"][0]["score"] if status == 200 else answer["error"]
    return status, found


def asked_at_once(server, model, values: list) -> list:
    with concurrent.futures.ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(lambda a: asked(server, model, a), values))


def test_requests_that_have_to_wait_are_predicted_together(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", ROWWISE))
    seen = of(server, model)
    assert seen["batching"] == {"verdict": "batched"}
    assert server.get(f"/v3/models/{model.id}/deployment")["batching"] == seen["batching"]
    values = [float(a) for a in range(24)]
    for _ in range(5):
        answers = asked_at_once(server, model, values)
        assert answers == [(200, a * 2.0 + 1.0) for a in values]
    traffic = of(server, model)["traffic"]
    assert traffic["requests"] == 120 and traffic["errors"] == 0
    assert traffic["joined"] > 60 and traffic["calls"] < 60, traffic
    # A row that the model refuses fails alone, with its own traceback.
    values[7] = -7.0
    answers = asked_at_once(server, model, values)
    status, error = answers.pop(7)
    assert status == 400 and "negative: -7.0" in error["message"], error
    assert "raise ValueError" in error["evidence"]["output"]
    assert answers == [(200, a * 2.0 + 1.0) for a in values if a >= 0]


@pytest.mark.parametrize(
    "predict, said, verdict",
    [
        ('df["a"] - df["a"].mean()', "", "depends_on_neighbours"),
        ('df["a"] * 0 + time.perf_counter_ns() % 1_000_003', "", "not_deterministic"),
        ('df["a"]', "batchable = False", "declined"),
    ],
)
def test_models_that_are_not_predicted_together(server, project, tmp_path, predict, said, verdict):
    package = ROWWISE.replace('df["a"] * 2.0 + df["b"]', predict)
    package = package.replace("def get_model", f"{said}\n\n    def get_model")
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path / "p", package))
    assert of(server, model)["batching"]["verdict"] == verdict
    shown = server.cli("ps").stdout
    assert f"no: {verdict.replace('_', ' ')}" in shown
    asked_at_once(server, model, [float(a) for a in range(12)])
    traffic = of(server, model)["traffic"]
    assert (traffic["joined"], traffic["calls"], traffic["requests"]) == (0, 12, 12)


SLOW = """
    import time

    class Model:
        batchable = False

        def predict(self, df):
            print("called", flush=True)
            time.sleep(df["a"].max())
            return df[["a"]].rename(columns={"a": "score"})

    def get_model():
        return Model()
"""


def called(server, model) -> int:
    (replica,) = server.get(f"/v1/models/{model.id}/logs")["items"]
    return replica["lines"].count("called")


def test_a_full_queue_refuses_and_who_leaves_is_never_predicted(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", SLOW))
    before = called(server, model)
    body = json.dumps({"model_id": str(model.id), "data": [{**ROW, "a": 3.0}]}).encode()
    head = f"POST /v3/predict HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {server.token}\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    crowd = []
    for _ in range(300):
        crowd.append(socket.create_connection(("127.0.0.1", server.port)))
        crowd[-1].sendall(request)
    # Two run and 256 wait; the rest is told to come again.
    refused = 300 - 2 - 256
    answered = harness.wait_for(
        lambda: len(ready := select.select(crowd, [], [], 0)[0]) >= refused and ready,
        "the refusals",
    )
    assert len(answered) == refused
    for one in answered:
        answer = one.recv(4096)
        assert answer.startswith(b"HTTP/1.1 429 "), answer
        assert b"\r\nretry-after: 1\r\n" in answer
    for path in ("/healthz", "/v1/deployments", "/v3/projects"):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
        assert connection.getresponse().status == 200
        assert time.monotonic() - began < 2.0, f"{path} waits for the model"
        connection.close()
    for one in crowd:
        one.close()
    # Who comes now has nobody before him but the two calls that run.
    answer = model.predict(df=packages.DATA.assign(a=0.25))
    assert answer["score"].tolist() == [0.25] * 4
    assert called(server, model) - before == 3
