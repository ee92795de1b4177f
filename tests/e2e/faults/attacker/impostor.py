"""Answers on a runner's socket as no runner would: how, the rows themselves say. Its argument is the
listener's descriptor."""

import re
import socket
import sys
import threading
import time

LIVE = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"live":true}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\n"


def huge(one):
    one.sendall(OK + b"\r\n")
    while True:
        one.sendall(b"x" * 1_000_000)


def headers(one):
    one.sendall(OK)
    while True:
        one.sendall(b"X-More: and more\r\n" * 1000)


def hints(one):
    while True:
        one.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100)


def short(one):
    one.sendall(OK + b"Content-Length: 1000\r\n\r\nxx")


def lie(one):
    one.sendall(OK + b"Content-Length: 99999999999999999\r\n\r\n")
    while True:
        one.sendall(b"x" * 1_000_000)


def noise(one):
    one.sendall(OK + b"Content-Length: 4096\r\n\r\n" + bytes(range(256)) * 16)


def damaged(one):
    """The beginning of a stream that claims a message of two gigabytes."""
    body = b"\xff\xff\xff\xff\xf8\xff\xff\x7f" + b"\x10\x00\x00\x00" * 512
    one.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def elsewhere(one):
    head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/stolen\r\n"
    one.sendall(head + b"Content-Length: 0\r\n\r\n")


def rant(one):
    body = b'{"kind": "predict_raised", "message": "' + b"x" * 50_000_000 + b'"}'
    one.sendall(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def nonsense(one):
    one.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


def silent(one):
    time.sleep(3600)


def slow(one):
    one.sendall(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        one.sendall(b"x")
        time.sleep(0.5)


def request_of(one) -> bytes:
    """A request with its body; empty at the end."""
    request, length = b"", None
    while length is None or len(request) < length:
        got = one.recv(65536)
        if not got:
            return b""
        request += got
        head, end, _ = request.partition(b"\r\n\r\n")
        if end and length is None:
            body = re.search(rb"content-length: *(\d+)", head, re.I)
            length = len(head) + 4 + (int(body[1]) if body else 0)
    return request


def serve(one):
    try:
        while request := request_of(one):
            how = re.search(rb'"say": "(\w+)"', request)
            if request.startswith(b"GET"):
                one.sendall(LIVE)
            elif how:
                globals()[how[1].decode()](one)
                return
            else:
                return
    except OSError:
        pass
    finally:
        one.close()


server = socket.socket(fileno=int(sys.argv[1]))
print("an impostor answers", flush=True)
while True:
    one, _ = server.accept()
    threading.Thread(target=serve, args=(one,), daemon=True).start()
