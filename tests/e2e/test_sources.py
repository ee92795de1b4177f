"""Where packages come from: an index that asks for a password, which is then nowhere; and no network at
all, as docs/requirements.md tells."""

import base64
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import fiddler as fdl
import pytest
from fiddler.exceptions import AsyncJobFailed

import harness
import package_index
import packages

REPOSITORY = Path(__file__).parents[2]
USER = "bob"
# Each differs when it is quoted. The middle stands as it is however it is quoted.
PASSWORD = "t0/7%K9xGeheim2Qw+b:8@z"
WRONG = "t0/7%N4vFalsch5Rm+b:8@z"
MODEL = """
    import pandas as pd
    import ourlib

    class Model:
        def predict(self, df):
            return pd.DataFrame({"score": [float(ourlib.VERSION)] * len(df)})

    def get_model():
        return Model()
"""


def forms(password: str) -> list:
    """The ways in which a password may be written down."""
    middle, text = password[5:16].encode(), f"{USER}:{password}"
    written = [
        password.encode(),
        quote(password, safe="").encode(),
        base64.b64encode(text.encode()).rstrip(b"="),
        base64.b64encode(password.encode()).rstrip(b"="),
    ]
    return [middle, *(form for form in written if middle not in form)]


SECRETS = [form for password in (PASSWORD, WRONG) for form in forms(password)]


def holds_secret(content: bytes) -> bool:
    return any(secret in content for secret in SECRETS)


def files_with(words: list, *directories: Path, since: float = 0.0) -> list:
    """The files below the directories that hold one of the words in their content or name. Of the layers
    that the machine had before, those are read that changed since then."""
    found = []
    for directory in directories:
        for path in directory.rglob("*"):
            content = os.fsencode(path)
            layer = path.relative_to(directory).parts[0] in ("rootfs", "interpreters")
            if path.is_symlink():
                content += os.fsencode(os.readlink(path))
            elif path.is_file() and not (layer and path.stat().st_mtime < since):
                content += path.read_bytes()
            if any(word in content for word in words):
                found.append(path)
    return sorted(found)


def processes_with_secrets(*but: int) -> list:
    """The processes that were given a password, other than those named."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (os.getpid(), *but):
            try:
                given = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if holds_secret(given):
                found.append(given)
    return found


@pytest.fixture
def index(tmp_path):
    """An index that lets bob in, with two versions of a library."""
    directory = tmp_path / "index"
    for version in ("1.25", "2.5", "3.75"):
        package_index.wheel(directory, "ourlib", version)
    index = package_index.Index(directory, USER, PASSWORD)
    yield index
    index.close()


def test_the_password_of_an_index_is_nowhere(own_server, own_cache, index, tmp_path):
    began = time.time()
    cache = own_cache("uv")
    files = {}
    for name, password in (("right", PASSWORD), ("wrong", WRONG)):
        files[name] = tmp_path / f"{name}.netrc"
        files[name].write_text(f"machine 127.0.0.1 login {USER} password {password}\n")
    assert files_with(SECRETS, tmp_path) == sorted(files.values()), "the search finds what is there"

    def in_file(name: str) -> tuple:
        return "--extra-index-url", index.url(), "--index-credentials", str(files[name])

    def in_address(password: str) -> tuple:
        return "--extra-index-url", index.url(f"{USER}:{quote(password, safe='')}@")

    server = own_server(*in_file("right"), cache=cache, env={"RUST_LOG": "debug"})
    project = fdl.Project(name="secret").create()
    directory = tmp_path / "package"

    def deploy(version: str):
        model = packages.model(project, name=f"m{version.replace('.', '_')}")
        packages.write(directory, MODEL, requirements=f"ourlib=={version}\n")
        packages.deploy(model, directory)
        assert model.predict(df=packages.DATA)["score"].tolist() == [float(version)] * 4

    def fail(version: str, *texts: str):
        with pytest.raises(AsyncJobFailed) as failure:
            deploy(version)
        assert not holds_secret(str(failure.value).encode())
        for text in texts:
            assert text in str(failure.value)

    missing = ("RequirementsError", "line 1 of requirements.txt", "ourlib==9")
    refused = ("IndexUnreachable", index.url(), "401", "LUTHIER_INDEX_CREDENTIALS")
    deploy("1.25")
    fail("9.1", *missing)
    for flags, works, fails in (
        (in_address(PASSWORD), "2.5", "9.2"),
        (in_file("wrong"), None, "3.75"),
        (in_address(WRONG), None, "3.75"),
    ):
        server.stop()
        index.let_in = index.refused = 0
        server.start(*flags)
        if works:
            deploy(works)
            fail(fails, *missing)
            assert index.let_in, "the password was used"
        else:
            fail(fails, *refused)
            fdl.Model.from_name(f"m{fails.replace('.', '_')}", project_id=project.id).delete()
            assert index.refused and not index.let_in, "the wrong one was tried"

    assert len(server.containers()) == 2
    assert processes_with_secrets(server.process.pid) == []
    jobs = server.get("/v1/jobs?limit=100")["items"]
    assert len([job for job in jobs if job["status"] == "FAILURE"]) == 4
    answers = [server.cli("jobs", "--json").stdout, server.cli("envs", "--json").stdout]
    for job in jobs:
        for path in (f"/v1/jobs/{job['id']}", f"/v3/jobs/{job['id']}"):
            answers.append(str(server.get(path)))
        answers.append(server.cli("jobs", job["id"]).stdout)
    answers = "\n".join(answers)
    assert "ourlib" in answers and not holds_secret(answers.encode())
    # As a power cut leaves it, with what the database keeps beside itself.
    server.kill()
    assert list(server.data.glob("luthier.db-wal"))
    assert files_with([b"ourlib==9.1"], server.dir), "what is not secret is found"
    assert files_with(SECRETS, server.dir, cache, since=began) == []


@pytest.fixture
def no_network(tmp_path):
    """Settings of a server whose installer reaches nothing, not even loopback."""
    uv = shutil.which("uv") or REPOSITORY / ".venv/bin/uv"
    wrapper = tmp_path / "uv"
    wrapper.write_text(f'#!/bin/sh\nexec unshare --net {uv} "$@"\n')
    wrapper.chmod(0o755)
    return {"LUTHIER_UV": str(wrapper)}


def test_a_wheelhouse_filled_as_the_page_says_is_enough(own_server, own_cache, no_network, tmp_path):
    page = (REPOSITORY / "docs/requirements.md").read_text().split("## Without any network")[1]
    commands = re.search("```\n(.*?)```", page, re.DOTALL)[1]
    assert packages.IMAGE.endswith("python-311:1.0.0") and "IMAGE=python-311-1.0.0" in commands
    directory = tmp_path / "my-package"
    (tmp_path / "images").symlink_to(REPOSITORY / "images")

    def fill(requirements: str) -> None:
        packages.write(directory, requirements=requirements)
        tools = f"{REPOSITORY}/.venv/bin:{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-euc", commands], cwd=tmp_path, check=True, env={**os.environ, "PATH": tools}
        )

    fill("numexpr>=2.10\n")
    server = own_server(
        "--wheelhouse", str(tmp_path / "wheels"), "--offline", cache=own_cache(), env=no_network
    )
    project = fdl.Project(name="offline").create()
    model = packages.model(project)
    packages.deploy(model, directory)
    assert model.predict(df=packages.DATA)["score"].tolist() == packages.DATA["score"].tolist()
    (running,) = server.get("/v1/deployments")["items"][0]["running"]
    # numexpr would take numpy 2; pyarrow of the image needs numpy 1.
    assert running["packages"]["numexpr"] and running["packages"]["numpy"].startswith("1.")

    more = "numexpr>=2.10\n\n# not there yet\nhumanize==4.9.0\n"
    packages.write(directory, requirements=more)
    lacking = packages.model(project, name="lacking")
    with pytest.raises(AsyncJobFailed) as failure:
        packages.deploy(lacking, directory)
    for text in (
        "RequirementsError",
        "line 4 of requirements.txt (`humanize==4.9.0`)",
        "the wheelhouse has no package called humanize",
        "LUTHIER_WHEELHOUSE",
    ):
        assert text in str(failure.value)
    fill(more)
    packages.deploy(lacking, directory)


def test_a_copied_cache_is_enough_without_a_network(own_server, own_cache, no_network, tmp_path):
    directory = packages.write(tmp_path / "p", requirements="humanize==4.9.0\n")
    there = own_cache("uv")
    server = own_server(cache=there)
    packages.deploy(packages.model(fdl.Project(name="there").create()), directory)
    server.stop()
    here = own_cache()
    for name in ("bytecode", "checked", "requirements", "uv"):
        subprocess.run(["cp", "-a", there / name, here], check=True)

    own_server("--offline", cache=here, env=no_network)
    project = fdl.Project(name="here").create()
    model = packages.model(project)
    packages.deploy(model, directory)
    assert model.predict(df=packages.DATA)["score"].tolist() == packages.DATA["score"].tolist()
    packages.write(directory, requirements="humanize==4.9.0\nnot-in-this-cache==1\n")
    with pytest.raises(AsyncJobFailed) as failure:
        packages.deploy(packages.model(project, name="other"), directory)
    assert "line 2 of requirements.txt (`not-in-this-cache==1`)" in str(failure.value)
    assert "the server's cache has no package called not-in-this-cache" in str(failure.value)
