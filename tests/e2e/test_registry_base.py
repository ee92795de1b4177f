"""An image of the user's own, in a registry, as the base of a deployment."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import fiddler as fdl
import pytest

import harness
import packages
import registry as registries

PYTHON = "usr/local/lib/python3.11/site-packages"
ACME = """
    import os

    import acme_lib
    import humanize
    import pandas as pd

    class Model:
        def predict(self, df):
            bonus = acme_lib.BONUS + float(os.environ["ACME_BONUS"])
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"] + bonus})

    def get_model():
        assert humanize.intcomma(1000) == "1,000"
        return Model()
"""
# Asked for by name, and on no index: the image has it.
REQUIREMENTS = "acme-lib\nhumanize==4.9.0\n"


def dist(name: str, version: str, requires="") -> dict:
    info = f"{PYTHON}/{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    return {f"{info}/METADATA": metadata, f"{info}/RECORD": ""}


def acme(bonus: float, version: str) -> dict:
    requires = "Requires-Dist: pandas>=1\n"
    return {f"{PYTHON}/acme_lib.py": f"BONUS = {bonus}\n", **dist("acme-lib", version, requires)}


@pytest.fixture(scope="module")
def debian_tree() -> Path:
    """The file system of an image of the catalogue, without a Python."""
    subprocess.run(
        [harness.BINARY, "images", "build", packages.IMAGE, "--data", harness.CACHE + "/build"]
        + ["--cache-dir", harness.CACHE],
        check=True,
        capture_output=True,
    )
    size = lambda path: sum(1 for _ in path.rglob("*"))  # noqa: E731
    return min((Path(harness.CACHE) / "rootfs").iterdir(), key=size)


@pytest.fixture(scope="module")
def debian(debian_tree) -> bytes:
    return registries.tree(debian_tree)


@pytest.fixture(scope="module")
def shell(debian_tree, tmp_path_factory) -> bytes:
    """A file system with a shell and no more."""
    root = tmp_path_factory.mktemp("shell")
    library = debian_tree / "usr/lib/x86_64-linux-gnu"
    for name, source in {
        "bin/sh": debian_tree / "usr/bin/dash",
        "lib64/ld-linux-x86-64.so.2": library / "ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6": library / "libc.so.6",
    }.items():
        (root / name).parent.mkdir(parents=True)
        shutil.copy(source, root / name)
    return registries.tree(root)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> list:
    """Layers with a CPython 3.11 in /usr/local and pandas of a version that no catalogue image has."""
    trees = (Path(harness.CACHE) / "interpreters").iterdir()
    interpreter = next(tree for tree in trees if (tree / "lib/python3.11/os.py").exists())
    packages_dir = tmp_path_factory.mktemp("site-packages")
    install = [str(Path(__file__).parents[2] / ".venv/bin/uv"), "pip", "install", "--quiet", "--target", str(packages_dir)]
    install += ["--python", str(interpreter / "bin/python3"), "--only-binary", ":all:"]
    subprocess.run([*install, "pandas==2.1.4", "numpy==1.26.3"], check=True)
    return [
        registries.tree(interpreter, "usr/local"),
        registries.tree(packages_dir, PYTHON),
    ]


@pytest.fixture(scope="module")
def registry():
    registry = registries.Registry()
    yield registry
    registry.close()


def test_a_base_of_ones_own_is_pulled_once_and_used_as_it_is(
    own_server, registry, debian, python, tmp_path
):
    host_saw = Path(f"/tmp/lt-ran-on-the-host-{registry.host.split(':')[1]}")
    spy = {f"{PYTHON}/sitecustomize.py": f"open({str(host_saw)!r}, 'w').close()\n"}
    surplus = registries.layer({"srv/surplus/file": "x", f"{PYTHON}/cursed.py": "1/0\n"})
    last = registries.layer({**acme(10, "1.0+private"), **spy}, gone=[f"{PYTHON}/cursed.py"])
    env = ["PATH=/usr/local/bin:/usr/bin:/bin", "ACME_BONUS=0.5", "LUTHIER_MEMORY_MIB=7"]
    digest = registry.push("team/base", "1", [debian, *python, surplus, last], env)
    name = f"{registry.host}/team/base:1"

    server = own_server("--allow-registry", f"{registry.host}/team")
    project = fdl.Project(name="base").create()
    model = packages.model(project, publish=True)
    directory = packages.write(tmp_path / "p", ACME, REQUIREMENTS)
    job = packages.deploy(model, directory, image_uri=name)
    expected = [score + 10.5 for score in packages.DATA["score"]]
    assert model.predict(df=packages.DATA)["score"].tolist() == expected
    assert not host_saw.exists(), "the image's Python ran on the host"

    # The digest counts from now on, and the image's own libraries are the model's.
    pinned = f"{name}@{digest}"
    assert fdl.ModelDeployment.of(model_id=model.id).image_uri == pinned
    running = server.get("/v1/deployments")["items"][0]["running"][0]
    found = running["packages"]
    assert (found["pandas"], found["numpy"], found["humanize"]) == ("2.1.4", "1.26.3", "4.9.0")
    assert found["acme-lib"] == "1.0+private"
    bill = json.loads(server.cli("envs", "sbom", "base/model").stdout)
    assert "humanize" in [component["name"] for component in bill["components"]]
    assert not {"pandas", "acme-lib"} & {component["name"] for component in bill["components"]}
    listed = [line for line in server.cli("images").stdout.splitlines() if pinned in line]
    assert "of a registry" in listed[0] and "base/model:v1" in listed[0]

    # It goes elsewhere as any revision does, its variables with it.
    archive = tmp_path / "image.tar"
    exported = server.cli(
        *["export", "base/model", "--to", str(archive), "--data", str(server.data)],
        *["--cache-dir", harness.CACHE],
    )
    assert exported.returncode == 0, exported.stderr
    inspected = subprocess.run(
        ["skopeo", "--insecure-policy", "inspect", "--config", f"oci-archive:{archive}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "ACME_BONUS=0.5" in inspected.stdout and '"LUTHIER_MEMORY_MIB=7"' not in inspected.stdout

    # A tag that moved is looked up when it is named; without a name the deployment stays.
    second = registries.layer(acme(20, "2.0"))
    gone = [f"{PYTHON}/acme_lib-1.0+private.dist-info"]
    newer = registry.push("team/base", "1", [debian, *python, last, registries.layer({}, gone), second], env)
    model.update_artifact(model_dir=directory).wait(interval=1)
    assert model.predict(df=packages.DATA)["score"].tolist() == expected
    params = fdl.DeploymentParams(image_uri=name)
    model.update_artifact(model_dir=directory, deployment_params=params).wait(interval=1)
    assert model.predict(df=packages.DATA)["score"].tolist() == [s + 10 for s in expected]
    assert fdl.ModelDeployment.of(model_id=model.id).image_uri == f"{name}@{newer}"

    # Without the registry, what is here is named by its digest.
    registry.stop()
    back = server.cli("images", "move", "base/model", "--back")
    assert back.returncode == 0, back.stderr
    assert model.predict(df=packages.DATA)["score"].tolist() == expected
    with pytest.raises(Exception, match="cannot be reached"):
        model.update_artifact(model_dir=directory, deployment_params=params).wait(interval=1)
    assert model.predict(df=packages.DATA)["score"].tolist() == expected
    ran = subprocess.run(
        [harness.BINARY, "run", "--data", str(tmp_path / "run"), "--cache-dir", harness.CACHE]
        + ["--image", pinned, str(directory), "--", "python", "-c"]
        + ["import acme_lib, humanize, os; print(acme_lib.BONUS, os.environ['ACME_BONUS'])"],
        env={**os.environ, "LUTHIER_ALLOWED_REGISTRIES": f"{registry.host}/team"},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["10", "0.5"], ran.stderr
    registry.start()
    project.delete()


def fake(version: str, implementation="cpython", glibc='"glibc 2.36"') -> dict:
    told = f'{{"implementation": "{implementation}", "version": {version}, '
    told += f'"program": "/usr/bin/python3", "glibc": {glibc}}}'
    return {"usr/bin/python3": f"#!/bin/sh\necho '{told}'\n"}


def test_images_that_cannot_be_a_base_are_refused_with_the_reason(
    own_server, registry, shell, tmp_path
):
    images = {
        "none": {"etc/motd": "x"},
        "old": fake("[3, 8, 18]"),
        "pypy": fake("[3, 10, 1]", implementation="pypy"),
        "musl": fake("[3, 11, 1]", glibc="null"),
        "broken": {"usr/bin/python3": "#!/bin/sh\necho no module named encodings; exit 1\n"},
        "ours": {"usr/bin/python3": fake("[3, 11, 1]")["usr/bin/python3"].replace("/usr/bin", "/opt/luthier")},
        "away": {"../../escaped": "x"},
    }
    for name, files in images.items():
        registry.push("bad", name, [shell, registries.layer(files)])
    # Its second layer is not what its digest says.
    registry.push("bad", "damaged", [shell, registries.layer({"etc/damaged": "as it was"})])
    damaged = registries.digest(registries.pack(registries.layer({"etc/damaged": "as it was"})))
    store = registry.dir / "store/docker/registry/v2/blobs/sha256"
    data = store / damaged[7:9] / damaged[7:] / "data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")

    server = own_server("--allow-registry", registry.host)
    project = fdl.Project(name="refused").create()
    directory = packages.write(tmp_path / "p")
    unknown = "sha256:" + "0" * 64
    for name, words in {
        ":none": "there is no Python in it",
        ":old": "is cpython 3.8.18, and a base needs CPython from 3.9 on",
        ":pypy": "is pypy 3.10.1",
        ":musl": "GNU C library",
        ":broken": "does not run",
        ":ours": "cannot be",
        ":away": "leads upwards",
        ":damaged": "is not what its digest says",
        ":missing": "has no",
        f"@{unknown}": "has no",
    }.items():
        model = packages.model(project, name="m")
        with pytest.raises(Exception, match=words) as failed:
            packages.deploy(model, directory, image_uri=f"{registry.host}/bad{name}")
        assert "UnknownImage" in str(failed.value) or "ImageUnavailable" in str(failed.value)
        model.delete().wait(interval=1)
    assert not (Path(harness.CACHE) / "escaped").exists()
    staged = [p for p in (Path(harness.CACHE) / "staging").rglob("escaped")]
    assert not staged

    model = packages.model(project, name="m")
    for name in ("registry.example.org/x:1", "localhost:1/x:1"):
        with pytest.raises(fdl.ApiError, match="images may not come from"):
            packages.deploy(model, directory, image_uri=name)
    assert server.get("/v1/images")["items"][-1]["status"] != "of_a_registry"
    project.delete()


def test_no_registry_is_allowed_unless_the_operator_says_so(server, project, tmp_path):
    model = packages.model(project)
    with pytest.raises(fdl.ApiError, match="--allow-registry"):
        packages.deploy(model, packages.write(tmp_path / "p"), image_uri="127.0.0.1:5000/x:1")
