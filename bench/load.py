"""Clients that measure. None fills up latencies: what is reported was waited for.

- `Connection`: one kept connection, one request after the other, as bare as Python allows;
- `wrk`: throughput, by the program of this name;
- `Paced`: requests at a given rate in a process of its own, so that what else the benchmark does costs it nothing.
"""

import contextlib
import json
import math
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).parent
JSON = "application/json"


@dataclass
class Target:
    """Something that answers predictions over HTTP: what it is asked and what it must answer."""

    port: int
    path: str
    # One body for each row of `expected`, in its order.
    bodies: list
    expected: list
    token: str = ""
    media_type: str = JSON

    def requests(self) -> list:
        return [request(self, body) for body in self.bodies]


def request(target: Target, body: bytes) -> bytes:
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {target.token}\r\n"
        f"Content-Type: {target.media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Answer:
    """An answer as it comes in."""

    def __init__(self):
        self.head, self.length = b"", None
        self.parts, self.size = [], 0

    def feed(self, data: bytes) -> bool:
        """Takes what came; whether the answer is whole."""
        if not self.head:
            data = b"".join((*self.parts, data))
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self.parts = [data]
                return False
            self.head, self.parts, data = head, [], rest
            lower = head.lower()
            at = lower.find(b"content-length:")
            if at >= 0:
                self.length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
        self.parts.append(data)
        self.size += len(data)
        if self.length is not None:
            return self.size >= self.length
        return b"".join(self.parts[-5:]).endswith(b"0\r\n\r\n")

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def whole(self) -> bytes:
        """The body, without the marks of its chunks."""
        body = b"".join(self.parts)
        if self.length is not None:
            return body
        out = []
        while body:
            size, _, body = body.partition(b"\r\n")
            size = int(size, 16)
            out.append(body[:size])
            body = body[size + 2 :]
        return b"".join(out)


class Connection:
    """A kept connection."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple:
        """Seconds, and the answer."""
        answer = Answer()
        begin = time.perf_counter()
        self.socket.sendall(request)
        while True:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("closed in the midst of an answer")
            if answer.feed(data):
                return time.perf_counter() - begin, answer

    def close(self):
        self.socket.close()


def probabilities(found) -> list:
    """The numbers in an answer, whichever peer gave it."""
    if isinstance(found, dict) and "data" in found:
        found = found["data"]["predictions"]
    if isinstance(found, dict):
        found = next(o for o in found["outputs"] if o["name"] == "probability")["data"]
    return [row["probability"] if isinstance(row, dict) else row for row in found]


def check(answer: Answer, expected: list, what: str) -> None:
    """Raises unless the answer is a success with the expected numbers."""
    body = answer.whole()
    if answer.status != 200:
        raise RuntimeError(f"{what}: status {answer.status}: {body[:500]!r}")
    if b"arrow" in answer.head.lower():
        import pyarrow

        found = pyarrow.ipc.open_stream(body).read_all()["probability"].to_pylist()
    else:
        found = probabilities(json.loads(body))
    if len(found) != len(expected) or any(abs(f - e) > 1e-6 for f, e in zip(found, expected)):
        raise RuntimeError(f"{what}: other numbers than in process")


def latencies(target: Target, seconds: float, most: int = 1 << 30, what: str = "") -> list:
    """Milliseconds of each request on one connection, sorted; every answer is checked, after its time is taken."""
    times = []
    with contextlib.closing(Connection(target.port)) as connection:
        requests = target.requests()
        for warming in requests * (2 if len(requests) == 1 else 8):
            connection.ask(warming)
        end, at = time.perf_counter() + seconds, 0
        while (time.perf_counter() < end and len(times) < most) or len(times) < 3:
            took, answer = connection.ask(requests[at])
            check(answer, target.expected[at], what)
            times.append(took * 1e3)
            at = (at + 1) % len(requests)
    return sorted(times)


def wrk(target: Target, connections: int, seconds: float) -> float:
    """Requests per second; every answer is checked."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as bodies:
        bodies.write(b"\n".join(target.bodies) + b"\n")
        bodies.flush()
        # As many digits as all peers write, cut and not rounded.
        numbers = " ".join(f"{math.floor(e[0] * 1e8) / 1e8:.8f}" for e in target.expected)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "20s"]
        command += ["-s", str(BENCH / "post.lua"), f"http://127.0.0.1:{target.port}{target.path}"]
        environment = {"BODIES": bodies.name, "NUMBERS": numbers, "TOKEN": target.token}
        output = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        ).stdout
    result = json.loads(output.split("RESULT ")[1])
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} wrong answers under load on {target.path}: {output}")
    return result["rps"]


def quantile(values: list, q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else math.nan


class Paced:
    """Load at `rate` requests per second until it is ended; see `pace`."""

    def __init__(self, target: Target, rate: float, connections: int = 64):
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        order = {"rate": rate, "connections": connections, **vars(target)}
        order["bodies"] = [body.decode() for body in target.bodies]
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self) -> "Record":
        out, _ = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError("the load failed")
        return Record(json.loads(out))


class Record:
    """What a paced load saw: a list of (second since it began, milliseconds, failure or None)."""

    def __init__(self, answers: list):
        self.answers = answers

    def between(self, begin: float, end: float) -> "Record":
        return Record([a for a in self.answers if begin <= a[0] < end])

    def failed(self) -> list:
        return [a[2] for a in self.answers if a[2]]

    def p(self, q: float) -> float:
        return quantile([a[1] for a in self.answers], q)

    def __len__(self):
        return len(self.answers)


def pace() -> None:
    """The process behind `Paced`. A request is sent when its time has come, on a connection that is free; if the
    server falls behind until none is, it waits for one. Latencies count from when it should have been sent."""
    # Clients are other machines: that a replica starts on this one must not make them late.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    order = json.loads(sys.stdin.readline())
    rate, connections = order.pop("rate"), order.pop("connections")
    order["bodies"] = [body.encode() for body in order["bodies"]]
    target = Target(**order)
    requests, answers = target.requests(), []
    free = [Connection(target.port) for _ in range(connections)]
    for connection in free:
        connection.ask(requests[0])
    # Not epoll, which Python lets wait in whole milliseconds only.
    waits, busy = selectors.SelectSelector(), 0
    waits.register(sys.stdin, selectors.EVENT_READ)
    start = time.perf_counter()
    due, sent, stopping = start, 0, False
    while not stopping or busy:
        now = time.perf_counter()
        while due <= now and free and not stopping:
            connection, which = free.pop(), sent % len(requests)
            connection.socket.sendall(requests[which])
            waits.register(connection.socket, selectors.EVENT_READ, (connection, which, due, Answer()))
            due, sent, busy = due + 1.0 / rate, sent + 1, busy + 1
        wait = max(0.0, due - time.perf_counter()) if free and not stopping else 10.0
        for key, _ in waits.select(wait):
            if key.data is None:
                stopping = True
                waits.unregister(sys.stdin)
                continue
            connection, which, began, answer = key.data
            failure = None
            try:
                data = connection.socket.recv(1 << 16)
                if data and not answer.feed(data):
                    continue
                took = time.perf_counter() - began
                if not data:
                    raise ConnectionError("the connection was closed")
                check(answer, target.expected[which], "under load")
            except (OSError, RuntimeError) as error:
                took, failure = time.perf_counter() - began, repr(error)
            waits.unregister(connection.socket)
            busy -= 1
            answers.append((began - start, took * 1e3, failure))
            if isinstance(failure, str) and "Connection" in failure:
                connection.close()
                connection = Connection(target.port)
            free.append(connection)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    pace()
