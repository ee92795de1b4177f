"""A runner as a process, and a client that speaks to it as the server does."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

import pyarrow as pa

LAYER = Path(os.environ["RUNNER_LAYER"])
PYTHONS = json.loads(os.environ["RUNNER_PYTHONS"])
WITH_PANDAS = [name for name in PYTHONS if "pandas" in name]
ARROW = "application/vnd.apache.arrow.stream"


def wait_for(condition, seconds=60):
    """The first truthy value of `condition()`."""
    end = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("runner", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json", self.body
        return json.loads(self.body)

    @property
    def table(self):
        assert self.status == 200, self.body
        assert self.headers["content-type"] == ARROW
        return pa.ipc.open_stream(self.body).read_all()

    def failed(self, status, kind):
        """The error, after checking what it is."""
        assert (self.status, self.json["kind"]) == (status, kind), self.body
        return self.json


class Runner:
    """`files` are the package's, by name; `inputs` pairs of name and data type."""

    def __init__(self, env, files, inputs, outputs, threads=2, most=1 << 26):
        self.env = env
        self.home = Path(tempfile.mkdtemp(prefix="luthier-"))
        self.package = self.home / "package"
        self.package.mkdir()
        for name, text in files.items():
            file = self.package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.socket = str(self.home / "s")
        config = {
            "package": str(self.package),
            "listen": "unix:" + self.socket,
            "inputs": [{"name": name, "data_type": kind} for name, kind in inputs],
            "outputs": outputs,
            "threads": threads,
            "max_body_bytes": most,
        }
        (self.home / "runner.json").write_text(json.dumps(config))
        self.log = self.home / "log"

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [PYTHONS[self.env], "-I", "-B", LAYER / "main.py", self.home / "runner.json"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        try:
            wait_for(self.listens)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home)

    def listens(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.call("GET", "/v2/health/live").status == 200
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def connect(self, timeout=60):
        return Connection(self.socket, timeout)

    def call(self, method, path, body=None, headers=None, timeout=60, on=None):
        connection = on or self.connect(timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if on is None:
                connection.close()

    def health(self):
        return self.call("GET", "/v2/health/ready")

    def loaded(self):
        """What health says once loading has ended, either way."""

        def ended():
            answer = self.health()
            return answer if answer.json["phase"] in ("ready", "failed") else None

        return wait_for(ended)

    def ready(self):
        answer = self.loaded()
        assert answer.status == 200, answer.json["error"]
        return self

    def predict(self, table, on=None, headers=None):
        headers = {"content-type": ARROW, **(headers or {})}
        return self.call("POST", "/predict", stream(table), headers, on=on)

    def explain(self, name, table):
        path = "/custom-explain/" + urllib.parse.quote(name)
        return self.call("POST", path, stream(table), {"content-type": ARROW})

    def raw(self, data, finish=True):
        """What comes back for these bytes, until the connection ends. A client that has said that
        it sends no more is taken to have left: the model is not called for it."""
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(60)
            conn.connect(self.socket)
            try:
                conn.sendall(data)
                if finish:
                    conn.shutdown(socket.SHUT_WR)
            except BrokenPipeError:
                pass
            out = b""
            while chunk := conn.recv(1 << 16):
                out += chunk
            return out

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)


def stream(table):
    if isinstance(table, bytes):
        return table
    if isinstance(table, dict):
        table = pa.table(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
