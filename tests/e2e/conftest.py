"""Fixtures: one server for most tests; its end checks that nothing is left behind."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import fiddler as fdl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import harness  # noqa: E402 (needs the path)
import packages  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: not part of `make test`; `make test-faults` runs it")


@pytest.fixture(scope="session", autouse=True)
def own_cgroup():
    """Removes the cgroup that this run's containers had theirs in."""
    yield
    harness.remove_cgroup_parent()


@pytest.fixture(scope="session")
def server(own_cgroup):
    before = harness.cgroups()
    server = harness.Server()
    os.environ["LUTHIER_URL"], os.environ["LUTHIER_TOKEN"] = server.url, server.token
    yield server
    server.close()
    assert harness.cgroups() <= before, "cgroups of containers are left"


@pytest.fixture
def own_server(server):
    """Makes servers that belong to one test and connects the client to them."""
    made = []
    before = harness.cgroups()

    def make(*flags, **settings):
        own = harness.Server(*flags, **settings)
        made.append(own)
        fdl.init(url=own.url, token=own.token)
        return own

    yield make
    fdl.init(url=server.url, token=server.token)
    for own in made:
        own.close()
    assert harness.cgroups() <= before, "cgroups of containers are left"


@pytest.fixture
def own_cache():
    """Makes caches that belong to one test, with what the machine has of base file systems,
    interpreters, and more if asked. Beside the shared cache, since files are shared by hard links."""
    made = []

    def make(*more):
        place = Path(tempfile.mkdtemp(prefix="e2e-own-", dir=Path(harness.CACHE).parent))
        made.append(place)
        return harness.machine_layers(place / "cache", packages.IMAGE, *more)

    yield make
    for place in made:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def client(server):
    """The stock client, connected."""
    fdl.init(url=server.url, token=server.token)
    return fdl


@pytest.fixture
def project(client, request):
    """A project of the test's own."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:100]
    project = client.Project(name=name).create()
    yield project
    project.delete()
