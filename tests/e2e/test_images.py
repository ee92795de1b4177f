"""Which image a package gets, what is said of deprecated ones, moving to another and back, and the
environments behind them."""

import json

import fiddler as fdl
import pytest

import packages

OTHER = "md-base/python/python-310:1.0.0"
OLD = "md-base/python/python-39:1.4.0"
REPLACES_OLD = "md-base/python/python-39:2.0.2"
SCORES = [2.0, 5.0, 8.0, 11.0]


def image_of(model) -> str:
    return fdl.ModelDeployment.of(model_id=model.id).image_uri


def step(server, job, name: str) -> dict:
    steps = server.get(f"/v1/jobs/{job.id}")["steps"]
    return next(found for found in steps if found["name"] == name)["result"]


def test_the_default_image_is_chosen_and_said(server, project, tmp_path):
    model = packages.model(project)
    job = packages.deploy(model, packages.write(tmp_path / "p"), image_uri=None)
    assert image_of(model) == packages.IMAGE
    assert "is the default" in step(server, job, "lock")["chosen"]
    assert "no image was named" in server.cli("jobs", str(job.id)).stdout


def test_a_deployment_moves_to_another_image_and_back(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", requirements="humanize==4.9.0\n"))
    name = f"{project.name}/{model.name}"

    moved = server.cli("images", "move", name, "--image", OTHER)
    assert moved.returncode == 0, moved.stderr
    assert moved.stdout.strip() == OTHER == image_of(model)
    assert model.predict(df=packages.DATA)["score"].tolist() == SCORES
    running = next(d for d in server.get("/v1/deployments")["items"] if d["model_id"] == str(model.id))
    assert running["running"][0]["python"].startswith("3.10.")
    assert running["running"][0]["packages"]["humanize"] == "4.9.0"
    listed = [line for line in server.cli("images").stdout.splitlines() if line.startswith(OTHER)]
    assert f"{name}:v1" in listed[0]

    back = server.cli("images", "move", name, "--back")
    assert back.returncode == 0, back.stderr
    assert back.stdout.strip() == packages.IMAGE == image_of(model)
    assert model.predict(df=packages.DATA)["score"].tolist() == SCORES

    again = server.cli("images", "move", name, "--image", packages.IMAGE)
    assert again.returncode == 1 and "error[BadRequest]" in again.stderr


def test_a_move_that_fails_leaves_the_old_revision_serving(server, project, tmp_path):
    # Runs on 3.11 and later only.
    package = "import tomllib\n" + packages.GOOD.replace("\n    ", "\n")
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", package))
    moved = server.cli("images", "move", f"{project.name}/{model.name}", "--image", OTHER)
    assert moved.returncode == 1 and "tomllib" in moved.stderr, moved.stderr
    assert image_of(model) == packages.IMAGE
    assert model.predict(df=packages.DATA)["score"].tolist() == SCORES


def test_a_deprecated_image_says_so_and_serves_a_single_version(server, project, tmp_path):
    model = packages.model(project)
    directory = packages.write(tmp_path / "p")
    job = packages.deploy(model, directory, image_uri=OLD)
    assert model.predict(df=packages.DATA)["score"].tolist() == SCORES
    text = f"{OLD} is deprecated; {REPLACES_OLD} replaces it"
    assert text in step(server, job, "lock")["warnings"][0]
    assert text in server.cli("jobs", str(job.id)).stdout
    assert text in server.get(f"/v3/jobs/{job.id}")["info"]["warnings"][0]
    assert server.get(f"/v3/models/{model.id}/deployment")["image_replaced_by"] == REPLACES_OLD
    assert f"{OLD} (deprecated)" in server.cli("ps").stdout

    second = model.duplicate(version="v2")
    second.create()
    with pytest.raises(fdl.ApiError) as refused:
        packages.deploy(second, directory, image_uri=OLD)
    assert "single version" in str(refused.value) and REPLACES_OLD in str(refused.value)
    second.delete()


def test_unknown_images_are_refused_with_the_one_that_would_do(server, project, tmp_path):
    model = packages.model(project)
    directory = packages.write(tmp_path / "p")
    with pytest.raises(fdl.ApiError) as refused:
        packages.deploy(model, directory, image_uri="md-base/python/python-38:1.3.0")
    assert REPLACES_OLD in str(refused.value)


def test_what_cannot_work_is_said_before_anything_is_built(server, project, tmp_path):
    package = "import xgboost\n" + packages.GOOD.replace("\n    ", "\n")
    model = packages.model(project)
    job = model.add_artifact(
        model_dir=packages.write(tmp_path / "p", package),
        deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE),
    )
    with pytest.raises(Exception, match="InvalidPackage"):
        job.wait(interval=1)
    ended = server.get(f"/v1/jobs/{job.id}")
    assert not {"build", "publish"} & {s["name"] for s in ended["steps"]}
    assert "package.py:1" in ended["error"]["message"]
    assert "`xgboost`" in ended["error"]["hint"]


def test_environments_are_listed_with_their_contents(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", requirements="humanize==4.9.0\n"))
    name = f"{project.name}/{model.name}"
    assert f"{name}:v1" in server.cli("envs").stdout
    used = [
        env
        for env in json.loads(server.cli("envs", "--json").stdout)["items"]
        if any(m["model_id"] == str(model.id) and m["current"] for m in env["models"])
    ]
    assert len(used) == 1 and used[0]["bytes"] > used[0]["alone"] >= 0

    by_model = json.loads(server.cli("envs", "sbom", name).stdout)
    assert by_model["bomFormat"] == "CycloneDX"
    assert "humanize" in [component["name"] for component in by_model["components"]]
    by_id = json.loads(server.cli("envs", "sbom", used[0]["id"][:12]).stdout)
    assert len(by_id["components"]) == len(by_model["components"])

    # What this model uses is never among what would go.
    unused = server.cli("envs", "gc", "--dry-run")
    assert unused.returncode == 0, unused.stderr
    assert used[0]["id"][:12] not in unused.stdout
