"""A package index on loopback that may ask for a password, and wheels to put on it."""

import base64
import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wheel(directory: Path, name: str, version: str, module: str = None) -> Path:
    """A wheel of one module, which holds `VERSION` or the text given."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module or f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    lines = []
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        lines.append(f"{file},sha256={digest.rstrip('=')},{len(text)}\n")
    files[f"{info}/RECORD"] = "".join(lines) + f"{info}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


class Index:
    """Serves the files of a directory by the simple API, until closed."""

    def __init__(self, directory: Path, user: str = None, password: str = None):
        self.directory = directory
        self.wanted = None
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.wanted = f"Basic {token}"
        self.let_in = self.refused = 0
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                index.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, user: str = "") -> str:
        """Its address; `user` is put before the host as it is."""
        return f"http://{user}{self.host}/simple/"

    def answer(self, request) -> None:
        status, kind, body = self.response(request)
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if status == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="packages"')
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def response(self, request):
        if self.wanted:
            if request.headers.get("Authorization") != self.wanted:
                self.refused += 1
                return 401, "text/plain", b""
            self.let_in += 1
        kind, _, name = request.path.strip("/").partition("/")
        if kind == "files" and (self.directory / name).is_file():
            return 200, "application/octet-stream", (self.directory / name).read_bytes()
        files = sorted(path.name for path in self.directory.glob(f"{name.replace('-', '_')}-*"))
        if kind != "simple" or not name or not files:
            return 404, "text/plain", b""
        links = "".join(f'<a href="/files/{file}">{file}</a>\n' for file in files)
        return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
