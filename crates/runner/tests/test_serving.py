"""Health beside a busy model, malformed requests, metrics, and the way a runner stops."""

import http.client
import signal
import socket
import threading
import time

import pytest
from harness import ARROW, WITH_PANDAS, Runner, stream, wait_for

# `hold` holds the GIL, as compiled code does that never lets go of it: the one call blocks until
# somebody opens the other end of the pipe.
HOLD = """
import ctypes, os, pathlib, time

HERE = pathlib.Path(__file__).parent
libc = ctypes.PyDLL(None)
once = []

def hold():
    if not once:
        once.append(1)
        os.mkfifo(HERE / "gate")
        (HERE / "held").touch()
        libc.open(str(HERE / "gate").encode(), os.O_RDONLY)

class Model:
    def predict(self, df):
        what = df["what"][0]
        if what == "hold":
            hold()
        elif what == "wait":
            (HERE / "held").touch()
            while not (HERE / "go").exists():
                time.sleep(0.005)
        elif what == "mark":
            (HERE / "marked").touch()
        elif what == "die":
            os._exit(7)
        elif what == "crash":
            ctypes.string_at(0)
        return df[["what"]]
"""
GET_MODEL = "def get_model():\n    return Model()\n"


@pytest.fixture(params=WITH_PANDAS)
def env(request):
    return request.param


def holder(env, extra=GET_MODEL, **options):
    return Runner(env, {"package.py": HOLD + extra}, [("what", "str")], ["what"], **options)


class Call(threading.Thread):
    """A predict on a thread of the client's."""

    def __init__(self, runner, what, headers=None):
        super().__init__(daemon=True)
        self.runner, self.what, self.headers, self.answer = runner, what, headers, None
        self.start()

    def run(self):
        try:
            self.answer = self.runner.predict({"what": [self.what]}, headers=self.headers)
        except (OSError, http.client.HTTPException) as error:
            self.answer = error


def held(runner):
    return wait_for((runner.package / "held").exists)


def go(runner):
    (runner.package / "go").touch()


def let_go(runner):
    (runner.package / "gate").write_bytes(b"")


def test_health_while_predict_holds_the_gil(env):
    with holder(env, threads=1) as runner:
        runner.ready()
        calls = [Call(runner, "hold") for _ in range(3)]
        held(runner)
        for _ in range(20):
            assert runner.call("GET", "/v2/health/live", timeout=5).status == 200
            assert runner.call("GET", "/v2/health/ready", timeout=5).status == 200
            assert b"in_flight" in runner.call("GET", "/metrics", timeout=5).body
        assert all(call.answer is None for call in calls)
        let_go(runner)
        for call in calls:
            call.join(60)
            assert call.answer.table.to_pylist() == [{"what": "hold"}]


def in_flight(runner):
    """Requests being answered, without the one that asks."""
    text = runner.call("GET", "/metrics").body.decode()
    return int(float(text.split("\nluthier_runner_in_flight ")[1].split()[0])) - 1


def test_a_call_whose_time_is_over_is_not_made(env):
    with holder(env) as runner:
        runner.ready()
        call = Call(runner, "hold")
        held(runner)
        late = Call(runner, "mark", {"luthier-timeout-ms": "100"})
        wait_for(lambda: in_flight(runner) == 2)
        end = time.monotonic() + 0.2
        wait_for(lambda: time.monotonic() > end)
        let_go(runner)
        late.join(60)
        late.answer.failed(504, "too_late")
        call.join(60)
        assert call.answer.status == 200
        assert not (runner.package / "marked").exists()
        patient = {"luthier-timeout-ms": str(2**63)}
        assert runner.predict({"what": ["mark"]}, headers=patient).status == 200
        assert (runner.package / "marked").exists()


@pytest.mark.parametrize("what", ["hold", "wait"])
def test_of_a_call_past_its_time_it_is_said_how_long_and_where(env, what):
    with holder(env) as runner:
        runner.ready()
        live = lambda: runner.call("GET", "/v2/health/live", timeout=5).json
        call = Call(runner, what, {"luthier-timeout-ms": "300"})
        held(runner)
        assert live()["live"]
        late = wait_for(lambda: live()["overdue_ms"] > 200 and live())
        assert 250 < late["overdue_running_ms"] - late["overdue_ms"] < 350
        stacks = runner.call("GET", "/debug/stacks", timeout=5).body.decode()
        place = next(line for line in stacks.splitlines() if "package.py" in line)
        assert place.endswith(" in " + {"hold": "hold", "wait": "predict"}[what]), stacks
        let_go(runner) if what == "hold" else go(runner)
        call.join(60)
        assert live()["overdue_ms"] == 0
        assert live()["predicts"] == live()["rows"] == live()["most_rows"] == 1
        # It can be asked again and again, and of an idle runner.
        for _ in range(50):
            assert b"luthier_host.py" in runner.call("GET", "/debug/stacks", timeout=5).body


def test_a_package_that_takes_the_signal_is_not_harmed(env):
    extra = """
import signal
def get_model():
    signal.signal(signal.SIGRTMAX - 1, signal.SIG_DFL)
    return Model()
"""
    with holder(env, extra) as runner:
        assert runner.ready().call("GET", "/debug/stacks", timeout=5).body == b""
        assert runner.predict({"what": ["x"]}).status == 200


def test_a_call_whose_client_has_left_is_not_made(env):
    with holder(env) as runner:
        runner.ready()
        call = Call(runner, "hold")
        held(runner)
        leaves = runner.connect()
        leaves.request("POST", "/predict", stream({"what": ["mark"]}), {"content-type": ARROW})
        wait_for(lambda: in_flight(runner) == 2)
        leaves.close()
        let_go(runner)
        call.join(60)
        wait_for(lambda: in_flight(runner) == 0)
        assert not (runner.package / "marked").exists()
        assert runner.predict({"what": ["mark"]}).status == 200


def test_health_while_connections_are_many(env):
    with holder(env, threads=1) as runner:
        runner.ready()
        crowd = []
        try:
            for _ in range(150):
                conn = socket.socket(socket.AF_UNIX)
                conn.connect(runner.socket)
                crowd.append(conn)
            assert runner.call("GET", "/v2/health/live").status == 200
        finally:
            for conn in crowd:
                conn.close()
        wait_for(lambda: runner.predict({"what": ["x"]}).status == 200)


@pytest.mark.parametrize("where", ["hold()\n" + GET_MODEL, "def get_model():\n    hold()\n"])
def test_health_while_loading_hangs(env, where):
    with holder(env, where) as runner:
        held(runner)
        ready = runner.health()
        assert ready.status == 503
        assert ready.json["phase"] == ("loading" if "    hold" in where else "importing")
        assert runner.call("GET", "/v2/health/live").status == 200
        runner.predict({"what": ["x"]}).failed(503, "not_ready")
        runner.stop()
        assert runner.process.wait(30) == 0


def test_several_predicts_run_side_by_side(env):
    with holder(env, threads=2) as runner:
        runner.ready()
        call = Call(runner, "wait")
        held(runner)
        assert runner.predict({"what": ["x"]}).status == 200
        assert call.answer is None
        go(runner)
        call.join(60)
        assert call.answer.status == 200


def test_no_more_than_threads_predicts_run(env):
    with holder(env, threads=1) as runner:
        runner.ready()
        first = Call(runner, "wait")
        held(runner)
        (runner.package / "held").unlink()
        second = Call(runner, "wait")
        wait_for(lambda: b"in_flight 3" in runner.call("GET", "/metrics").body)
        assert not (runner.package / "held").exists()
        go(runner)
        for call in (first, second):
            call.join(60)
            assert call.answer.status == 200


def test_stopping_lets_requests_end(env):
    with holder(env) as runner:
        runner.ready()
        call = Call(runner, "wait")
        held(runner)
        runner.stop()
        wait_for(lambda: not refuses(runner))
        assert runner.process.poll() is None
        go(runner)
        assert runner.process.wait(30) == 0
        call.join(60)
        assert call.answer.table.num_rows == 1


def refuses(runner):
    try:
        runner.call("GET", "/v2/health/live")
    except OSError:
        return False
    return True


def test_a_second_signal_ends_at_once(env):
    with holder(env) as runner:
        runner.ready()
        Call(runner, "wait")
        held(runner)
        runner.stop()
        wait_for(lambda: not refuses(runner))
        runner.stop()
        assert runner.process.wait(30) == 128 + signal.SIGTERM


def test_stopping_does_not_wait_for_the_gil_for_ever():
    with holder(WITH_PANDAS[-1]) as runner:
        runner.ready()
        Call(runner, "hold")
        held(runner)
        runner.stop()
        assert runner.process.wait(60) == 0


def test_exit_functions_run(env):
    extra = """
import atexit, signal, subprocess
atexit.register(lambda: print("last words"))
# A library that takes the signal for itself must not keep the runner from stopping.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    with holder(env, extra + GET_MODEL) as runner:
        runner.ready().stop()
        assert runner.process.wait(30) == 0
        assert "last words" in runner.log.read_text()


def test_a_forked_child_can_be_ended_alone(env):
    extra = """
import os, signal, time
def get_model():
    child = os.fork()
    if child == 0:
        (HERE / "held").touch()
        time.sleep(600)
        os._exit(1)
    while not (HERE / "held").exists():
        time.sleep(0.005)
    os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
    return Model()
"""
    with holder(env, extra) as runner:
        assert runner.ready().predict({"what": ["x"]}).status == 200


def test_a_model_that_dies_takes_the_process_with_it(env):
    with holder(env) as runner:
        call = Call(runner.ready(), "die")
        assert runner.process.wait(30) == 7
        call.join(60)
        assert isinstance(call.answer, (OSError, http.client.HTTPException))


def test_a_crash_says_where_it_came_from(env):
    with holder(env) as runner:
        Call(runner.ready(), "crash")
        assert runner.process.wait(30) == -signal.SIGSEGV
        log = runner.log.read_text()
        assert "Segmentation fault" in log and "package.py" in log and "in predict" in log


@pytest.fixture(scope="module")
def plain():
    with holder(WITH_PANDAS[-1], most=100_000) as runner:
        yield runner.ready()
        assert runner.predict({"what": ["x"]}).status == 200


GOOD = stream({"what": ["x"]})
POST = b"POST /predict HTTP/1.1\r\nhost: r\r\n"


def first_line(data):
    return data.split(b"\r\n")[0]


@pytest.mark.parametrize(
    "data,status",
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (POST + b"content-length: x\r\n\r\n", b"400"),
        (POST + b"content-length: -1\r\n\r\n", b"400"),
        (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", b"400"),
        (POST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (POST + b"transfer-encoding: gzip\r\n\r\n", b"501"),
        (POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (POST + b"transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", b"400"),
        (POST + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n", b"400"),
        (POST + b"content-length: 100001\r\n\r\n", b"413"),
        (POST + b"content-length: 99999999999999999999999\r\n\r\n", b"400"),
        (POST + b"transfer-encoding: chunked\r\n\r\nfffffff\r\n", b"413"),
        (POST + b"a: " + b"b" * 20_000 + b"\r\n\r\n", b"431"),
        (POST + b"a: b\r\n" * 100 + b"\r\n", b"431"),
        (b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET /predict HTTP/1.1\r\nconnection: close\r\n\r\n", b"405"),
        (b"GET /v2/health/live HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_requests_at_their_limits(plain, data, status):
    out = plain.raw(data)
    assert first_line(out).split(b" ")[1] == status, out
    assert out.count(b"HTTP/1.1 ") == 1


def test_a_body_too_large_is_answered_while_it_is_sent(plain):
    answer = plain.call("POST", "/predict", b"x" * 5_000_000)
    answer.failed(413, "too_large")


def test_bodies_that_are_not_arrow(plain):
    for end in range(0, len(GOOD), 7):
        answer = plain.call("POST", "/predict", GOOD[:end])
        assert answer.status in (200, 400), answer.body
    for at in range(len(GOOD)):
        bad = bytearray(GOOD)
        bad[at] ^= 0xFF
        answer = plain.call("POST", "/predict", bytes(bad))
        assert answer.status != 200 or answer.headers["content-type"] == ARROW
        assert answer.status in (200, 400), (at, answer.body)
    plain.call("POST", "/predict", b"PK\x03\x04" * 100).failed(400, "bad_request")


def test_chunked_and_pipelined_requests(plain):
    size = len(GOOD)
    chunked = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(c), c) for c in (GOOD[:10], GOOD[10:]))
    out = plain.raw(
        POST + b"transfer-encoding: chunked\r\n\r\n" + chunked + b"0\r\ntrailer: 1\r\n\r\n"
        + POST + b"content-length: %d\r\n\r\n" % size + GOOD
        + b"GET /v2/health/live?x=1 HTTP/1.1\r\nconnection: close\r\n\r\n",
        finish=False,
    )  # fmt: skip
    assert out.count(b"HTTP/1.1 200 OK") == 3 and b'\r\n\r\n{"live":true,' in out


def test_expect_continue(plain):
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(30)
        conn.connect(plain.socket)
        conn.sendall(POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(GOOD))
        assert conn.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        conn.sendall(GOOD)
        assert conn.recv(100).startswith(b"HTTP/1.1 200")


def test_one_connection_for_many_requests(plain):
    connection = plain.connect()
    for _ in range(50):
        assert plain.predict({"what": ["x"]}, on=connection).status == 200
        assert plain.call("GET", "/v2/health/ready", on=connection).status == 200
    connection.close()


def test_metrics(env):
    with holder(env) as runner:
        runner.ready().predict({"what": ["x"] * 5})
        runner.predict({"wrong": ["x"]}).failed(400, "bad_request")
        text = runner.call("GET", "/metrics").body.decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        assert values['luthier_runner_requests_total{path="predict",status="200"}'] == "1"
        assert values['luthier_runner_requests_total{path="predict",status="400"}'] == "1"
        assert values["luthier_runner_predict_seconds_count"] == "1"
        assert values['luthier_runner_predict_seconds_bucket{le="+Inf"}'] == "1"
        assert values["luthier_runner_rows_total"] == "5"
        assert float(values["luthier_runner_predict_seconds_sum"]) > 0
        assert float(values["luthier_runner_memory_bytes"]) > 1 << 20
        assert float(values["luthier_runner_load_seconds"]) >= 0
        # The last answer may be here before it has been counted.
        wait_for(lambda: in_flight(runner) == 0)
