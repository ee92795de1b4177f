"""The servers beside which Luthier is measured, each with one worker of the same package."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import models
from load import JSON, Target

HERE = models.BENCH / "peers"
VENVS = models.WORK / "venvs"
ARROW = "application/vnd.apache.arrow.stream"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.01)


def answers(url) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def v2(rows: list) -> dict:
    """Rows as the Open Inference Protocol has them: a tensor for each column."""
    inputs = []
    for name in models.NUMBERS + models.WORDS:
        number = name in models.NUMBERS
        tensor = {"name": name, "shape": [len(rows), 1], "datatype": "FP64" if number else "BYTES"}
        tensor["data"] = [row[name] for row in rows]
        if not number:
            tensor["parameters"] = {"content_type": "str"}
        inputs.append(tensor)
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


class Peer:
    """How one is started and asked. `{bin}`, `{port}` and so on are filled in."""

    def __init__(self, title, command, body=lambda rows: rows, path="/predict", env=None, cwd=None, arrow=None):
        self.title, self.command, self.body, self.path = title, command, body, path
        self.env, self.cwd, self.arrow = env or {}, cwd, arrow


PEERS = {
    "flask": Peer(
        "Flask + gunicorn + gevent",
        # Without `-t 0` a worker that is stopped is taken for one that hangs, and killed.
        ["{bin}/gunicorn", "-k", "gevent", "-w", "1", "-t", "0", "-b", "127.0.0.1:{port}", "flask_app:app"],
    ),
    "fastapi": Peer(
        "FastAPI + orjson",
        ["{bin}/uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "{port}"]
        + ["--no-access-log", "--log-level", "warning"],
        arrow="/arrow",
    ),
    "mlserver": Peer(
        "MLServer 1.7.1",
        ["{bin}/mlserver", "start", str(HERE / "mlserver_model")],
        body=v2,
        path="/v2/models/bench/infer",
        env={
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port2}",
            "MLSERVER_METRICS_PORT": "{port3}",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_DEBUG": "false",
            "PYTHONPATH": f"{HERE}:{HERE / 'mlserver_model'}",
        },
        cwd=HERE / "mlserver_model",
    ),
    "bentoml": Peer(
        "BentoML 1.4",
        ["{bin}/bentoml", "serve", "bentoml_app:Service", "--host", "127.0.0.1", "--port", "{port}"],
        body=lambda rows: {"df": rows},
        env={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(models.WORK / "bentoml")},
    ),
    "litserve": Peer("LitServe", ["{bin}/python", str(HERE / "litserve_app.py"), "{port}"]),
}


class Running:
    """A peer that serves the package `model`. While it is not asked it is stopped (SIGSTOP), for some are never
    idle, and would take their time from the others."""

    def __init__(self, name: str, model: str, expected: list):
        self.peer, self.name = PEERS[name], name
        self.expected = expected
        words = {"bin": VENVS / name / "bin", "port": free_port(), "port2": free_port(), "port3": free_port()}
        self.port = words["port"]
        env = {key: value.format(**words) for key, value in self.peer.env.items()}
        env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **env}
        env.update(PACKAGE=str(models.BENCH / model), PATH=f"{words['bin']}:{os.environ['PATH']}")
        # What is compiled stays compiled, as with Luthier.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        log = open(models.WORK / f"{name}.log", "ab")
        self.process = subprocess.Popen(
            [part.format(**words) for part in self.peer.command],
            env=env,
            cwd=self.peer.cwd or HERE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def ready(self) -> None:
        """Waits for right answers."""
        target = self.target([models.ROWS[:1]])

        def right():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: see target/bench/{self.name}.log")
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}{target.path}", target.bodies[0], {"Content-Type": JSON}
            )
            try:
                with urllib.request.urlopen(request, timeout=60):
                    return True
            except OSError:
                return False

        wait_until(right, self.name)
        self.pause()

    def target(self, tables: list) -> Target:
        """One body for each table of rows, all from the beginning of `ROWS` on."""
        bodies = [models.compact(self.peer.body(table)) for table in tables]
        return Target(self.port, self.peer.path, bodies, consecutive(tables, self.expected))

    def arrow(self, tables: list) -> Target:
        bodies = [models.arrow(table) for table in tables]
        return Target(self.port, self.peer.arrow, bodies, consecutive(tables, self.expected), media_type=ARROW)

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self):
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    def close(self) -> None:
        for how in (signal.SIGCONT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def consecutive(tables: list, expected: list) -> list:
    """What is expected of tables that follow each other from the first row on."""
    out, at = [], 0
    for table in tables:
        out.append(expected[at : at + len(table)])
        at += len(table)
    return out


def install(uv: str, python: str) -> None:
    """Virtual environments of the locked libraries, made where they are missing or of another lock."""
    for name in PEERS:
        lock, venv = HERE / f"{name}.txt", VENVS / name
        kept = venv / "lock.txt"
        if kept.exists() and kept.read_bytes() == lock.read_bytes():
            continue
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, str(venv)], check=True)
        sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"]
        subprocess.run([*sync, "--python", str(venv / "bin/python"), str(lock)], check=True)
        kept.write_bytes(Path(lock).read_bytes())
