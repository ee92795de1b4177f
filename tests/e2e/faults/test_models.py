"""Models that misbehave: each is bounded, and nobody else notices."""

import concurrent.futures
import http.client
import json
import threading
import time

import pytest

import harness
import packages
import whole

# What the model does follows from the column `name`; else it answers like the good one.
WILD = """
    import os, subprocess, threading, time
    import pandas as pd

    hoard = []

    def leak():
        hoard.append(bytearray(os.urandom(1) * 20_000_000))

    def fork_bomb():
        pids = []
        try:
            while True:
                # Not forked: so many copies of Python would first meet the limit of memory.
                pids.append(os.posix_spawn("/bin/sleep", ["sleep", "600"], {}))
        except OSError as error:
            return f"{error.strerror} after {len(pids)}"
        finally:
            for pid in pids:
                os.kill(pid, 9)
            for pid in pids:
                os.waitpid(pid, 0)

    def threads():
        stop = threading.Event()
        started = []
        try:
            while True:
                one = threading.Thread(target=stop.wait)
                one.start()
                started.append(one)
        except RuntimeError as error:
            return f"{error} after {len(started)}"
        finally:
            stop.set()
            for one in started:
                one.join()

    def fill(directory):
        path = os.path.join(directory, "filler")
        try:
            with open(path, "wb") as file:
                while True:
                    file.write(b"x" * 1_000_000)
        except OSError as error:
            return f"{error.strerror} after {os.path.getsize(path)}"
        finally:
            os.unlink(path)

    def shout():
        for _ in range(200_000):
            print("x" * 1000)

    def busy():
        end = time.monotonic() + 20
        def spin():
            while time.monotonic() < end:
                sum(range(10_000))
        for _ in range(8):
            if os.fork() == 0:
                spin()
                os._exit(0)

    WILD = {
        "leak": leak,
        "forks": fork_bomb,
        "threads": threads,
        "tmp": lambda: fill("/tmp"),
        "shm": lambda: fill("/dev/shm"),
        "shout": shout,
        "busy": busy,
        "hang": lambda: time.sleep(3600),
    }

    class Model:
        batchable = False

        def predict(self, df):
            for name in df["name"]:
                if name in WILD:
                    said = WILD[name]()
                    if said:
                        raise RuntimeError(said)
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""


@pytest.fixture(scope="module")
def models(server, client, tmp_path_factory):
    """The wild one and a good one beside it."""
    project = client.Project(name="wild").create()
    wild = packages.model(project, "wild")
    packages.deploy(wild, packages.write(tmp_path_factory.mktemp("wild"), WILD))
    good = packages.model(project, "good")
    packages.deploy(good, packages.write(tmp_path_factory.mktemp("good")))
    yield wild, good
    project.delete()


def asked(server, model, name: str, timeout: float = 100):
    """The status, and the score or the error."""
    row = {"a": 0.5, "b": 1.0, "name": name}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    headers = {"Authorization": f"Bearer {server.token}"}
    body = json.dumps({"model_id": str(model.id), "data": [row]})
    connection.request("POST", "/v3/predict", body, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status == 200:
        return 200, answer["data"]["predictions"][0]["score"]
    return response.status, answer["error"]


class Watch:
    """Asks a good model and the server's health all the while; how long the longest took."""

    def __init__(self, server, good):
        self.server, self.good, self.over = server, good, threading.Event()
        self.longest, self.statuses, self.count = 0.0, set(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            self.statuses.add(asked(self.server, self.good, "x")[0])
            assert self.server.is_up()
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1
            self.over.wait(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(60)
        assert not self.thread.is_alive() and self.count > 0
        assert self.statuses == {200}, "the good model was hindered"
        assert self.longest < 3, "others wait for a model that misbehaves"


def serves(server, model):
    """Waits until the model answers rightly (again)."""
    harness.wait_for(lambda: asked(server, model, "x") == (200, 2.0), "the model to serve")


def only_replica(server, model):
    def one():
        found = whole.replicas(server, model)
        return found if len(found) == 1 else None

    # After several ends in a row the next start is put off.
    return harness.wait_for(one, "one replica", 120)[0]


def test_a_leak_is_killed_at_its_limit_and_started_again(server, models):
    wild, good = models
    serves(server, wild)
    before, neighbour = only_replica(server, wild), only_replica(server, good)
    with Watch(server, good):
        for _ in range(40):
            status, error = asked(server, wild, "leak")
            if status != 200:
                break
        assert status in (400, 503), error
        harness.wait_for(lambda: only_replica(server, wild) != before, "another replica")
        serves(server, wild)
    assert only_replica(server, good) == neighbour
    log = server.log()
    assert "out of memory" in log, "what happened is told"


def test_a_fork_bomb_goes_off_in_its_own_cell(server, models):
    wild, good = models
    serves(server, wild)
    with Watch(server, good):
        for name in ("forks", "threads"):
            status, error = asked(server, wild, name)
            assert status == 400 and "after" in error["message"], error
            count = int(error["message"].rsplit("after ", 1)[1].split(".")[0].split()[0])
            assert 100 < count < 600
    serves(server, wild)


@pytest.mark.parametrize("place, most", [("tmp", 129), ("shm", 68)])
def test_scratch_is_filled_and_no_more(server, models, place, most):
    wild, good = models
    serves(server, wild)
    with Watch(server, good):
        status, error = asked(server, wild, place)
    assert status == 400 and "No space left" in error["message"], error
    size = int(error["message"].rsplit("after ", 1)[1].split(".")[0].split()[0])
    assert size < most << 20
    serves(server, wild)


@pytest.mark.long
def test_a_flood_of_output_is_kept_in_bounds(server, models):
    wild, good = models
    serves(server, wild)
    with Watch(server, good):
        assert asked(server, wild, "shout") == (200, 2.0)
    replica, _ = only_replica(server, wild)
    directory = server.data / "containers" / f"r-{replica.replace('-', '')}"
    assert sum(path.stat().st_size for path in directory.glob("out.log*")) <= 8 << 20


@pytest.mark.long
def test_a_busy_loop_takes_what_nobody_else_wants(server, models):
    wild, good = models
    serves(server, wild)
    with Watch(server, good):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: asked(server, wild, "busy"), range(2)))
        for _ in range(20):
            assert asked(server, good, "x") == (200, 2.0)
    replica = only_replica(server, wild)
    # Its children end with it.
    whole.end(replica[1])
    harness.wait_for(lambda: only_replica(server, wild) != replica, "another replica")
    serves(server, wild)


@pytest.mark.long
def test_a_predict_that_hangs_ends_at_its_deadline(server, models):
    wild, good = models
    serves(server, wild)
    with Watch(server, good):
        began = time.monotonic()
        status, error = asked(server, wild, "hang")
        took = time.monotonic() - began
    assert status == 400 and error["errors"][0]["reason"] == "PredictTimeout", error
    assert 55 < took < 70
