"""Clients that are slow, half gone, too large or too many."""

import http.client
import json
import resource
import select
import socket
import time
from pathlib import Path

import fiddler as fdl
import pytest

import harness
import packages

ROW = {"a": 0.5, "b": 1.0, "name": "x"}


@pytest.fixture(scope="module")
def hurried(server, tmp_path_factory):
    """A server that gives silent clients two seconds, with a model."""
    own = harness.Server("--client-timeout", "2")
    fdl.init(url=own.url, token=own.token)
    model = packages.model(fdl.Project(name="clients").create())
    packages.deploy(model, packages.write(tmp_path_factory.mktemp("p")))
    own.model = model
    yield own
    fdl.init(url=server.url, token=server.token)
    own.close()


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def head(server, length, path: str = "/v3/predict", token=None) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {token or server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def body(server) -> bytes:
    return json.dumps({"model_id": str(server.model.id), "data": [ROW]}).encode()


def until_closed(one: socket.socket) -> bytes:
    got = b""
    try:
        while chunk := one.recv(65536):
            got += chunk
    except ConnectionError:
        pass
    return got


def health(server, most: float = 1.0) -> None:
    began = time.monotonic()
    assert server.is_up()
    assert time.monotonic() - began < most, "health waits for clients"


def predicts(server) -> None:
    status, answer = server.call(
        "POST", "/v3/predict", {"model_id": str(server.model.id), "data": [ROW]}
    )
    assert status == 200 and answer["data"]["predictions"][0]["score"] == 2.0, answer


def open_files(server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_heads_that_never_end(hurried):
    """Slowloris: a byte now and then keeps no connection."""
    before = open_files(hurried)
    crowd = [connect(hurried) for _ in range(200)]
    for one in crowd:
        one.sendall(b"POST /v3/predict HTTP/1.1\r\nHost: s\r\nX-A: ")
    began = time.monotonic()
    left = list(crowd)
    while left:
        assert time.monotonic() - began < 10, "kept past the limit"
        for one in list(left):
            try:
                one.sendall(b"x")
            except OSError:
                left.remove(one)
        health(hurried)
        # Often enough for an idle timeout that any byte would reset.
        select.select([], [], [], 0.2)
    predicts(hurried)
    for one in crowd:
        one.close()
    harness.wait_for(lambda: open_files(hurried) <= before + 8, "the descriptors to be free")


def test_bodies_that_stop(hurried):
    one = connect(hurried)
    one.sendall(head(hurried, 1000) + b'{"model_id"')
    answer = until_closed(one)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert "did not come" in error["message"] and "--client-timeout" in error["message"]
    # An upload, which nobody may take for whole.
    uploads = list((hurried.data / "blobs").glob("??/*"))
    one = connect(hurried)
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="p.tar"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + b"x" * 100_000
    )
    text = head(hurried, 10_000_000, "/v3/files/upload").replace(
        b"application/json", b"multipart/form-data; boundary=b"
    )
    one.sendall(text + part)
    assert until_closed(one).startswith(b"HTTP/1.1 4")
    assert list((hurried.data / "blobs").glob("??/*")) == uploads
    assert list((hurried.data / "blobs/staging").iterdir()) == []


@pytest.mark.long
def test_answers_that_are_not_read(hurried):
    """A client that asks for much and reads nothing is given up, and what it held is free."""
    before = open_files(hurried)
    rows = json.dumps(
        {"model_id": str(hurried.model.id), "data": [{**ROW, "a": n + 0.123456} for n in range(60_000)]}
    ).encode()
    crowd = []
    for _ in range(4):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", hurried.port))
        one.sendall(head(hurried, len(rows)) + rows)
        crowd.append(one)
    assert select.select(crowd, [], [], 60)[0]
    harness.wait_for(lambda: open_files(hurried) <= before + 8, "the deaf to be given up", 60)
    predicts(hurried)
    for one in crowd:
        one.close()


def test_half_closed_sockets(hurried):
    """Who sends an end is gone: what was asked is not answered, and nothing stays open."""
    before = open_files(hurried)
    crowd = []
    for text in (
        b"",
        b"GET /healthz HTT",
        head(hurried, 1000),
        head(hurried, 1000) + b'{"model_id": "',
        head(hurried, len(body(hurried))) + body(hurried),
    ):
        for _ in range(20):
            one = connect(hurried)
            one.sendall(text)
            one.shutdown(socket.SHUT_WR)
            crowd.append(one)
    for one in crowd:
        until_closed(one)
        one.close()
    # And from the other side: an answer is on its way to somebody who resets the connection.
    for _ in range(50):
        one = connect(hurried)
        one.sendall(head(hurried, len(body(hurried))) + body(hurried))
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        one.close()
    harness.wait_for(lambda: open_files(hurried) <= before + 8, "the connections to end")
    predicts(hurried)


def test_bodies_that_are_too_large(hurried):
    for claimed in (10**10, 10**18):
        connection = http.client.HTTPConnection("127.0.0.1", hurried.port, timeout=60)
        connection.putrequest("POST", "/v3/predict")
        connection.putheader("Authorization", f"Bearer {hurried.token}")
        connection.putheader("Content-Length", str(claimed))
        connection.endheaders()
        began = time.monotonic()
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        assert response.status == 413
        assert error["errors"][0]["reason"] == "TooLarge" and error["errors"][0]["help"]
        assert time.monotonic() - began < 10, "told from the length, not after reading"
        connection.close()
    # Without a length, as a stream that does not end.
    one = connect(hurried)
    chunked = head(hurried, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    one.sendall(chunked)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    sent = 0
    try:
        while not select.select([one], [], [], 0)[0]:
            one.sendall(chunk)
            sent += len(chunk)
            assert sent < 2 << 30, "taken without a bound"
    except OSError:
        pass
    answer = one.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    one.close()
    # Whoever has no token is not even listened to.
    one = connect(hurried)
    one.sendall(head(hurried, 10**9, token="wrong") + b"x" * 100_000)
    assert one.recv(65536).startswith(b"HTTP/1.1 401 ")
    one.close()
    predicts(hurried)


@pytest.fixture
def many_files():
    """Room for as many sockets as the test opens."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limits[1] >= 15_000, "raise the hard limit of open files of who runs this"
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.long
def test_ten_thousand_connections(own_server, tmp_path, many_files):
    server = own_server()
    server.model = packages.model(fdl.Project(name="many").create())
    packages.deploy(server.model, packages.write(tmp_path / "p"))
    request = head(server, len(body(server))) + body(server)
    crowd = []
    try:
        for number in range(10_000):
            crowd.append(connect(server))
            if number % 1000 == 0:
                health(server)
        # All of them are served: every hundredth asks, in between the others.
        for one in crowd[::100]:
            one.sendall(request)
        for one in crowd[::100]:
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        for _ in range(10):
            health(server)
            predicts(server)
        assert open_files(server) > 10_000
    finally:
        for one in crowd:
            one.close()
    harness.wait_for(lambda: open_files(server) < 200, "the connections to end")
    predicts(server)


def test_past_the_limit_of_connections(own_server):
    server = own_server("--max-connections", "50")
    crowd = []

    def is_full():
        """A connection is known to the server once it has been answered."""
        one = connect(server)
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n")
        if one.recv(4096).startswith(b"HTTP/1.1 200 "):
            crowd.append(one)
            return False
        one.close()
        return True

    # The stock client keeps one or two of them.
    harness.wait_for(is_full, "the server to be full")
    assert 45 < len(crowd) <= 50
    for _ in range(100):
        one = connect(server)
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n")
        answer = until_closed(one)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in answer
        error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
        assert error["errors"][0]["reason"] == "Overloaded"
    for one in crowd:
        one.close()
    harness.wait_for(server.is_up, "room for others")
