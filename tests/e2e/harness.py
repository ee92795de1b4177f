"""A real server in a directory of its own, and what it must not leave behind."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

BINARY = os.environ["LUTHIER_BINARY"]
CACHE = os.environ["LUTHIER_TEST_CACHE"]
# Of this process alone, so that what is left can be told from what others run beside it.
CGROUP_PARENT = os.environ["LUTHIER_CGROUP_PARENT"] = f"luthier-test-{os.getpid()}"


def wait_for(condition, what: str, seconds: float = 60.0, told=lambda: ""):
    """Polls until the condition gives something true, and gives it back. When it never does, the
    failure says what `told` gives then."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}\n{told()}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(directory: Path, image: str, *command: str, memory: int, mount: Path = None) -> None:
    """A command in the environment of the package `directory`, which gets what it writes to /out."""
    state = tempfile.mkdtemp(prefix="lt-run-")
    options = ["--data", state, "--cache-dir", CACHE, "--image", image, "--memory", str(memory)]
    options += ["--out", str(directory)] + (["--mount", str(mount)] if mount else [])
    done = subprocess.run(
        [BINARY, "run", *options, str(directory), "--", *command],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    shutil.rmtree(state)
    assert done.returncode == 0, done.stdout + done.stderr


def machine_layers(cache: Path, image: str, *more: str) -> Path:
    """Gives a cache that is being made the base file systems and interpreters of the one that all tests
    share, that of the image among them, and more of its directories."""
    state = tempfile.mkdtemp(prefix="lt-build-")
    build = [BINARY, "images", "build", image, "--data", state, "--cache-dir", CACHE]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(state)
    cache.mkdir(parents=True)
    for layer in ("rootfs", "interpreters", "images", "records", *more):
        if (Path(CACHE) / layer).is_dir():
            subprocess.run(["cp", "-al", str(Path(CACHE) / layer), str(cache)], check=True)
    return cache


class Server:
    """`luthier serve` on a free port."""

    def __init__(self, *flags: str, env: dict = None, cache: Path = CACHE, prepare=None):
        # Short, since paths of Unix sockets are.
        self.dir = Path(tempfile.mkdtemp(prefix="lt-"))
        if prepare:
            prepare(self.dir)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = "test-token-of-this-run"
        self.process = None
        self.env = env or {}
        self.cache = cache
        # Names of the cgroups that were there before it.
        self.others = {Path(path).name for path in cgroups()}
        self.start(*flags)

    def start(self, *flags: str) -> None:
        environment = {**os.environ, "LUTHIER_ADMIN_TOKEN": self.token, **self.env}
        log = open(self.dir / "server.log", "ab")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data)]
            + ["--cache-dir", str(self.cache), *flags],
            stdout=log,
            stderr=log,
            env=environment,
        )
        log.close()
        wait_for(self.is_up, "the server to answer")

    @property
    def data(self) -> Path:
        return self.dir / "data"

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(self.url + "/healthz", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def database(self):
        """The database, to be read, and closed at once: what is open keeps the disk busy."""
        return closing(sqlite3.connect(f"file:{self.data}/luthier.db?mode=ro", uri=True))

    def log(self) -> str:
        return (self.dir / "server.log").read_text(errors="replace")

    def call(self, method: str, path: str, body=None, token=None, raw=None, content_type=None):
        """One request; gives (status, parsed body)."""
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {token or self.token}"}
        if data is not None:
            headers["Content-Type"] = content_type or "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str):
        status, body = self.call("GET", path)
        assert status == 200, body
        return body["data"]

    def cli(self, *args: str, stdin: str = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [BINARY, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "LUTHIER_URL": self.url, "LUTHIER_TOKEN": self.token},
        )

    def kill(self) -> None:
        """Ends the server as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends the server in order; replicas keep running."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=60) == 0, self.log()

    def containers(self) -> list:
        directory = self.data / "containers"
        return sorted(p.name for p in directory.iterdir()) if directory.is_dir() else []

    def close(self) -> None:
        """Stops the server, removes its state and checks that nothing is left."""
        if self.process.poll() is None:
            self.stop()
        purge = subprocess.run(
            [BINARY, "purge", "--data", str(self.data)], capture_output=True, text=True
        )
        assert purge.returncode == 0, purge.stderr
        if self.data.is_mount():
            unmount(self.data)
        left = leftovers(self.dir)
        assert not left, left
        for path in sorted(self.dir.rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
        self.dir.rmdir()


def unmount(place: Path) -> None:
    """Unmounts once whoever has just ended keeps it busy no more."""
    said = []

    def unmounted():
        done = subprocess.run(["umount", str(place)], capture_output=True, text=True)
        said.append(done.stderr)
        return done.returncode == 0

    def users():
        seen = subprocess.run(["fuser", "-vm", str(place)], capture_output=True, text=True)
        return f"{said[-1]}\n{seen.stderr}\n{seen.stdout}"

    wait_for(unmounted, "umount", told=users)


def leftovers(directory: Path) -> list:
    """Processes, mounts and cgroups that speak of `directory` or of no running container."""
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(directory) in command:
                left.append(f"process {entry.name}: {command}")
    mounts = Path("/proc/self/mountinfo").read_text()
    left += [line for line in mounts.splitlines() if str(directory) in line]
    return left


def process_is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def cgroup_parents() -> list:
    """The cgroup above those of this run's containers, in each hierarchy. Containers that end at
    the same time take their cgroups with them, which `os.walk` bears and `Path.glob` does not."""
    walked = os.walk("/sys/fs/cgroup")
    return [Path(place, CGROUP_PARENT) for place, inside, _ in walked if CGROUP_PARENT in inside]


def cgroups() -> set:
    """Every cgroup of a container of this run."""
    found = set()
    for parent in cgroup_parents():
        found.update(str(path) for path in parent.iterdir() if path.is_dir())
    return found


def remove_cgroup_parent() -> None:
    """Removes the cgroup above those of containers; fails when one is left."""
    for parent in cgroup_parents():
        parent.rmdir()
