"""A revision as an OCI image: looked at with skopeo, run with Podman, pushed to a registry."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import harness
import packages
import registry as registries

ASK = """
import json, urllib.request
with urllib.request.urlopen("http://127.0.0.1:8080/v2/health/ready") as answer:
    print(json.dumps(json.load(answer)))
"""
# As anybody who has the package's libraries would ask.
PREDICT = """
import json, pyarrow as pa, urllib.request
rows = pa.table({"a": [0.5, 3.5], "b": [1.0, 4.0], "name": ["x", "y"]})
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, rows.schema) as stream:
    stream.write_table(rows)
kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
request = urllib.request.Request("http://127.0.0.1:8080/predict", sink.getvalue().to_pybytes(), kind)
with urllib.request.urlopen(request) as answer:
    print(json.dumps(pa.ipc.open_stream(answer.read()).read_all().to_pydict()))
"""
PYTHON = "/opt/luthier/env/bin/python"


class Podman:
    """Podman with a storage of its own."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="lt-podman-"))

    def run(self, *args: str, check=True) -> subprocess.CompletedProcess:
        options = ["--root", f"{self.dir}/root", "--runroot", f"{self.dir}/run"]
        options += ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        done = subprocess.run(["podman", *options, *args], capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done

    def close(self) -> None:
        self.run("rm", "--all", "--force", "--time", "0")
        self.run("rmi", "--all", "--force")
        shutil.rmtree(self.dir)
        for parent in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            parents = sorted((p for p in parent.rglob("*") if p.is_dir()), reverse=True)
            for group in [*parents, parent]:
                group.rmdir()


@pytest.fixture
def podman():
    podman = Podman()
    yield podman
    podman.close()


def local(server) -> list:
    return ["--data", str(server.data), "--cache-dir", harness.CACHE]


def test_an_exported_image_runs_under_podman_and_predicts_the_same(
    server, project, podman, tmp_path
):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", requirements="humanize==4.9.0\n"))
    archive = tmp_path / "image.tar"
    name = f"{project.name}/{model.name}"
    exported = server.cli("export", name, "--to", str(archive), *local(server))
    assert exported.returncode == 0, exported.stderr
    inspect = ["skopeo", "inspect", "--raw", f"oci-archive:{archive}"]
    raw = subprocess.run(inspect, check=True, capture_output=True).stdout
    assert registries.digest(raw) == exported.stdout.strip()
    titles = [found["annotations"]["org.opencontainers.image.title"] for found in json.loads(raw)["layers"]]
    parts = ["root file system", "interpreter", "environment", "runner", "package", "configuration"]
    assert titles == parts

    loaded = podman.run("load", "--input", str(archive)).stdout
    image = loaded.split("Loaded image")[1].split(":", 1)[1].strip()
    options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--network", "none"]
    # Podman's own limits are more than some machines let anybody have.
    options += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    container = podman.run("run", "--detach", *options, image).stdout.strip()

    def ready():
        asked = podman.run("exec", container, PYTHON, "-c", ASK, check=False)
        return asked.returncode == 0 and json.loads(asked.stdout)

    harness.wait_for(ready, "the container to answer")
    answer = podman.run("exec", container, PYTHON, "-c", PREDICT).stdout
    assert json.loads(answer) == {"score": model.predict(df=packages.DATA)["score"].tolist()[::3]}


def test_a_new_version_of_a_package_moves_its_own_layer_only(server, project, tmp_path):
    registry = registries.Registry()
    try:
        model = packages.model(project)
        packages.deploy(model, packages.write(tmp_path / "p"))
        name = f"{project.name}/{model.name}"
        first = server.cli("push", name, f"{registry.host}/m:1", "--plain-http", *local(server))
        assert first.returncode == 0, first.stderr
        assert "sent 7 of 7 blobs" in first.stderr

        (tmp_path / "p/package.py").write_text((tmp_path / "p/package.py").read_text() + "\n# v2\n")
        model.update_artifact(model_dir=tmp_path / "p").wait(interval=1)
        second = server.cli("push", name, f"{registry.host}/m:2", "--plain-http", *local(server))
        assert "sent 2 of 7 blobs" in second.stderr, second.stderr
        for reference in (first.stdout.strip(), second.stdout.strip()):
            copy = tmp_path / "copy"
            options = ["--insecure-policy", "copy", "--src-tls-verify=false"]
            subprocess.run(["skopeo", *options, f"docker://{reference}", f"dir:{copy}"], check=True)
            shutil.rmtree(copy)
    finally:
        registry.close()
