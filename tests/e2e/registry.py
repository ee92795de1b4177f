"""A real registry on loopback, Debian's `docker-registry`, and images made for it."""

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

import harness

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files: dict, gone=()) -> bytes:
    """An archive of files by their path; a text that starts with `-> ` is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            if text.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[3:]
                tar.addfile(entry)
            else:
                data = text.encode()
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
        for name in gone:
            parent, _, last = name.rpartition("/")
            tar.addfile(tarfile.TarInfo(f"{parent}/.wh.{last}"))
    return buffer.getvalue()


def tree(directory: Path, at: str = ".") -> bytes:
    """An archive of a directory as it is found at `at` in the image."""
    rename = f"--transform=s,^\\.,{at},S"
    command = ["tar", "-C", str(directory), "--owner=0", "--group=0", rename, "-cf", "-", "."]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def pack(plain: bytes) -> bytes:
    """The same bytes each time."""
    return gzip.compress(plain, 1, mtime=0)


class Registry:
    """A registry in a process of its own; all it holds goes with it."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="lt-registry-"))
        self.host = f"127.0.0.1:{harness.free_port()}"
        (self.dir / "config.yml").write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {self.dir}/store\n"
            f"http:\n  addr: {self.host}\n"
        )
        self.process = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(self.dir / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        harness.wait_for(self.is_up, "the registry to answer")

    def is_up(self) -> bool:
        try:
            return self.request("GET", "/v2/").status == 200
        except OSError:
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.stop()
        subprocess.run(["rm", "-r", str(self.dir)], check=True)

    def request(self, method: str, path: str, data: bytes = None, kind: str = None):
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(url, data, headers, method=method)
        return urllib.request.urlopen(request, timeout=60)

    def upload(self, name: str, data: bytes) -> str:
        place = self.request("POST", f"/v2/{name}/blobs/uploads/", b"").headers["Location"]
        mark = "&" if "?" in place else "?"
        self.request("PUT", f"{place}{mark}digest={digest(data)}", data, "application/octet-stream")
        return digest(data)

    def push(self, name: str, tag: str, layers: list, env=()) -> str:
        """Pushes an image and gives the digest of its manifest."""
        descriptors = []
        for number, plain in enumerate(layers):
            # Of both kinds, as they are found.
            zipped = number > 0
            data = pack(plain) if zipped else plain
            kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if zipped else "")
            found = {"mediaType": kind, "digest": self.upload(name, data), "size": len(data)}
            descriptors.append(found)
        config = json.dumps(
            {
                "architecture": ARCHITECTURE,
                "os": "linux",
                "config": {"Env": list(env)},
                "rootfs": {"type": "layers", "diff_ids": [digest(plain) for plain in layers]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.upload(name, config),
                "size": len(config),
            },
            "layers": descriptors,
        }
        data = json.dumps(manifest).encode()
        self.request("PUT", f"/v2/{name}/manifests/{tag}", data, MANIFEST)
        return digest(data)
