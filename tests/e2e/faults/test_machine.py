"""A machine that fails the server: its disk full or read-only, its database locked, its clock set."""

import os
import subprocess
import threading
import time
from pathlib import Path

import fiddler as fdl
import pytest
from fiddler.exceptions import ApiError, AsyncJobFailed

import harness
import packages
import whole


@pytest.fixture
def small_disk(own_server):
    """A server whose data directory is a disk of its own, and the means to fill it."""
    made = []

    def make(kind: str, size: str):
        def mount(directory: Path) -> None:
            made.append(Disk(kind, size, directory))

        return own_server(prepare=mount), made[-1]

    yield make
    for disk in made:
        disk.free()


class Disk:
    """A file system of its own below a server's directory; gone when the server is closed."""

    def __init__(self, kind: str, size: str, directory: Path):
        self.at = directory / "data"
        self.at.mkdir(mode=0o700)
        self.filler = self.at / "filler"
        self.image = None
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        if kind == "ext4":
            self.image = directory / "disk"
            subprocess.run(["truncate", "-s", size, self.image], check=True)
            subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
            options = ["-o", "loop,errors=remount-ro", str(self.image)]
        subprocess.run(["mount", *options, str(self.at)], check=True)

    def fill(self) -> None:
        """Leaves no byte."""
        with open(self.filler, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)


@pytest.fixture
def deployed(small_disk, tmp_path):
    """A model on a small disk."""
    server, disk = small_disk("tmpfs", "96m")
    model = packages.model(fdl.Project(name="small_disk").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    return server, disk, model


def sound(server):
    """Whether the database is whole."""
    with server.database() as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def answers(model):
    assert model.predict(df=packages.DATA)["score"].tolist() == [2.0, 5.0, 8.0, 11.0]


def test_a_full_disk(deployed, tmp_path):
    server, disk, model = deployed
    disk.fill()
    # What is in memory needs no disk.
    answers(model)
    assert server.is_up()
    with pytest.raises(ApiError, match="disk is full.*[Ff]ree space"):
        fdl.Project(name="no_room").create()
    with pytest.raises(ApiError, match="disk is full"):
        model.add_artifact(model_dir=packages.write(tmp_path / "q"))
    # A replica that ends cannot be started again until there is room.
    ((_, pid),) = whole.replicas(server, model)
    whole.end(pid)
    harness.wait_for(lambda: server.log().count("disk is full") > 1, "the start to fail")
    server.kill()
    disk.free()
    server.start()
    whole.settled(server, model, 1, 90)
    answers(model)
    sound(server)
    new = packages.write(tmp_path / "new", packages.GOOD.replace("2.0", "3.0"))
    model.update_artifact(
        model_dir=new, deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE)
    ).wait(interval=0.2)
    assert model.predict(df=packages.DATA)["score"][0] == 2.5
    blobs = server.data / "blobs"
    assert list((blobs / "staging").iterdir()) == [], "no half of a blob"


@pytest.mark.long
def test_a_disk_that_fills_while_the_server_runs_and_empties_again(deployed):
    server, disk, model = deployed
    disk.fill()
    ((_, pid),) = whole.replicas(server, model)
    whole.end(pid)
    harness.wait_for(lambda: "disk is full" in server.log(), "the start to fail")
    disk.free()
    # Nobody does anything: the server goes on by itself.
    whole.settled(server, model, 1, 120)
    answers(model)
    fdl.Project(name="room").create()
    sound(server)


@pytest.mark.long
@pytest.mark.parametrize("step", ["unpack", "publish"])
def test_a_disk_that_fills_in_the_middle_of_a_job(small_disk, tmp_path, step):
    server, disk = small_disk("tmpfs", "96m")
    server.kill()
    server.start("--pause-after", f"deploy_artifact.{step}")
    model = packages.model(fdl.Project(name="small_disk").create())
    job = model.add_artifact(
        model_dir=packages.write(tmp_path / "p"),
        deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE),
    )
    harness.wait_for(lambda: (server.data / "paused").exists(), f"the job to reach {step}", 300)
    disk.fill()
    server.kill()
    # A server that cannot write its database cannot serve either; it says so and ends.
    try:
        server.start()
    except AssertionError:
        assert "disk is full" in server.log()
        disk.free()
        server.start()
    else:
        harness.wait_for(lambda: "disk is full" in server.log(), "the job to meet it")
        disk.free()
    try:
        job.wait(interval=1)
    except AsyncJobFailed as error:
        # It may have come to its end without room; then it says why, and again does.
        assert "disk is full" in str(error)
        packages.deploy(model, packages.write(tmp_path / "again"))
    answers(model)
    sound(server)


@pytest.mark.long
def test_a_disk_that_became_read_only(small_disk, tmp_path):
    server, disk = small_disk("ext4", "96m")
    model = packages.model(fdl.Project(name="read_only").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    # As the system does by itself after an error of the disk.
    device = subprocess.run(
        ["findmnt", "-no", "SOURCE", str(disk.at)], capture_output=True, text=True, check=True
    ).stdout.strip()
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    trigger.write_text("an error of the test\n")
    answers(model)
    assert server.is_up()
    began = time.monotonic()
    status, answer = server.call("POST", "/v3/projects", {"name": "lost"})
    assert status == 503, answer
    assert answer["error"]["errors"][0]["reason"] == "StorageUnavailable"
    assert "read-only or fails" in answer["error"]["message"]
    assert time.monotonic() - began < 5
    assert server.get("/v3/projects")["total"] == 1, "reading goes on"
    # The machine is restarted and the disk mended, which knows only what was written for certain.
    server.kill()
    for pid in [*whole.pids(server, "shim.json"), *whole.pids(server, "running.json")]:
        whole.end(pid)
    whole.remove_cgroups(server)
    subprocess.run(["umount", str(disk.at)], check=True)
    subprocess.run(["fsck.ext4", "-fy", disk.image], capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(disk.image), str(disk.at)], check=True)
    server.start()
    whole.settled(server, model, 1, 90)
    answers(model)
    sound(server)


class Lock:
    """Another process' write lock on the database, as a shell with an open transaction has it."""

    def __init__(self, server):
        program = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN IMMEDIATE');"
            "print('held', flush=True); sys.stdin.read()"
        )
        path = str(server.data / "luthier.db")
        self.process = subprocess.Popen(
            ["python3", "-c", program, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"held\n"

    def release(self):
        if self.process.poll() is None:
            self.process.communicate()


@pytest.mark.long
def test_a_locked_database(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="locked").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    lock = Lock(server)
    try:
        answered = []

        def create(number):
            answered.append(server.call("POST", "/v3/projects", {"name": f"locked_{number}"}))

        # More that want to write than there are connections: who only reads is not kept waiting.
        crowd = [threading.Thread(target=create, args=(n,)) for n in range(12)]
        for one in crowd:
            one.start()
        for _ in range(10):
            began = time.monotonic()
            assert server.is_up()
            answers(model)
            assert server.get("/v3/projects")["total"] == 1
            assert time.monotonic() - began < 2, "kept waiting by who writes"
        ((before, pid),) = whole.replicas(server, model)
        whole.end(pid)
        harness.wait_for(
            lambda: [r for r in whole.replicas(server, model) if r[0] != before], "a new replica"
        )
        for one in crowd:
            one.join(60)
        assert {status for status, _ in answered} == {503}
        reasons = {answer["error"]["errors"][0]["reason"] for _, answer in answered}
        assert reasons == {"StorageUnavailable"}
        assert "locked" in answered[0][1]["error"]["message"]
    finally:
        lock.release()
    fdl.Project(name="unlocked").create()
    whole.settled(server, model, 1)
    answers(model)
    sound(server)
