"""Every image of the catalogue holds what it promises, in a container of it; new tags from old ones."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import harness
import pytest

FILES = sorted((Path(__file__).parents[2] / "images").glob("*.toml"))
# Gigabytes to fetch; `make test-images` asks for them.
LARGE = {"md-base/python/deep-learning:1.4.0"}


def catalogue():
    for file in FILES:
        text = file.read_text()
        name = re.search(r'^name = "(.*)"$', text, re.MULTILINE)[1]
        for tag in re.findall(r'^tag = "(.*)"$', text, re.MULTILINE):
            yield f"{name}:{tag}"


@pytest.fixture
def images():
    """Runs `luthier images` with a data directory of its own and the cache of all tests."""
    data = Path(tempfile.mkdtemp(prefix="lt-images-"))
    before = harness.cgroups()

    def run(*arguments, data=data):
        command = [harness.BINARY, "images", *arguments, "--data", str(data)]
        environment = {k: v for k, v in os.environ.items() if k != "LUTHIER_TOKEN"}
        return subprocess.run(
            [*command, "--cache-dir", harness.CACHE],
            capture_output=True,
            text=True,
            timeout=3600,
            env=environment,
        )

    run.data = data
    yield run
    shutil.rmtree(data)
    assert harness.cgroups() <= before, "cgroups of containers are left"


@pytest.mark.parametrize("image", list(catalogue()))
def test_every_image_holds_what_it_promises(images, image):
    if image in LARGE and not os.environ.get("LUTHIER_TEST_LARGE_IMAGES"):
        pytest.skip("large; `make test-images` verifies it")
    done = images("verify", image)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok flask==" in done.stdout and "FAILED" not in done.stdout


def test_a_new_tag_is_written_verified_and_not_outdated(images):
    old, new = "md-base/python/python-310:1.0.0", "md-base/python/python-310:1.0.1"
    locked = images("lock", old, "--tag", "1.0.1")
    assert locked.returncode == 0, locked.stderr
    assert locked.stdout.startswith(f"{new}\n  libraries:\n")
    assert re.search(r"certifi 2024\.8\.30 → 20", locked.stdout)
    assert (images.data / "images/python-310.toml").is_file()
    outdated = images("outdated", new)
    assert "libraries: nothing newer" in outdated.stdout, outdated.stdout + outdated.stderr
    again = images("lock", old, "--tag", "1.0.1")
    assert again.returncode == 1 and "error[Conflict]" in again.stderr


def test_an_image_that_breaks_its_promise_is_told(images):
    own = images.data / "images"
    own.mkdir()
    text = (Path(__file__).parents[2] / "images/python-311.toml").read_text()
    text = text.replace("md-base/python/python-311", "acme/broken")
    (own / "broken.toml").write_text(text + "check = 'import not_there'\n")
    done = images("verify", "acme/broken:1.0.0")
    assert done.returncode == 1, done.stdout
    assert "No module named 'not_there'" in done.stdout
    assert "error[ImageUnavailable]" in done.stderr

    (own / "broken.toml").write_text("name = ")
    done = images("verify", "acme/broken:1.0.0")
    assert "error[UnknownImage]" in done.stderr and "broken.toml" in done.stderr
