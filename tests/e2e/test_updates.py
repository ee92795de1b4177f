"""Updates: what a new revision changes is shown and can hold it, the way back, and runners that an
operator keeps."""

import json
import subprocess
import sys
from pathlib import Path

import fiddler as fdl
import pytest

import harness
import packages

SCORES = [2.0, 5.0, 8.0, 11.0]
# Half as much again for every row.
OTHER = packages.GOOD.replace('df["a"] * 2.0 + df["b"]', '(df["a"] * 2.0 + df["b"]) * 1.5')
OTHERS = [3.0, 7.5, 12.0, 16.5]
RAISES = "def get_model():\n    raise ValueError('not today')\n"


def scores(model) -> list:
    return model.predict(df=packages.DATA)["score"].tolist()


def update(model, directory: Path, package: str, **params):
    job = model.update_artifact(
        model_dir=packages.write(directory, package),
        deployment_params=fdl.DeploymentParams(**params),
    )
    job.wait(interval=1)
    return job


def history(server, model) -> list:
    """Number, outcome and cause of each revision, newest first."""
    items = server.get(f"/v1/models/{model.id}/revisions")["items"]
    return [(r["number"], r["outcome"], r["cause"]) for r in items]


def name(project, model) -> str:
    return f"{project.name}/{model.name}"


def test_an_update_tells_how_it_differs(server, project, tmp_path):
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path / "p"))
    scores(model)  # recent requests
    job = update(model, tmp_path / "q", OTHER)
    assert scores(model) == OTHERS

    log = server.cli("jobs", str(job.id)).stdout
    assert "on 4 rows of the dataset and 4 of recent requests" in log, log
    assert "`score` differs by 3.250 on average, 5.500 at most; 100 % of the values change" in log, log
    assert "one row takes" in log and "contributions of the inputs on 2 rows" in log, log
    step = server.get(f"/v3/jobs/{job.id}?verbose=True")["extras"]["await_ready"]
    found = step["result"]["comparison"]
    assert found["outputs"][0]["correlation"] == pytest.approx(1.0)
    assert found["attributions"]["most"][0][0] in ("a", "b")
    assert min(found["latency"]["one_p50"]) > 0 and found["omitted"] == []

    # The first had nothing to be compared with.
    assert [outcome for _, outcome, _ in history(server, model)] == ["current", "served"]


def test_limits_hold_an_update_until_it_is_approved(server, project, tmp_path):
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path / "p"))
    path = name(project, model)
    assert "max_prediction_change: none" in server.cli("limits", path).stdout
    limits = server.cli("limits", path, "--max-prediction-change", "1.0")
    assert limits.returncode == 0 and "max_prediction_change: 1.0" in limits.stdout, limits.stderr

    with pytest.raises(fdl.AsyncJobFailed) as raised:
        update(model, tmp_path / "q", OTHER)
    text = str(raised.value)
    assert "changes by up to 5.500, where 1.000 is allowed" in text, text
    assert f"luthier approve {path}" in text
    assert "`score` differs by 3.250 on average" in text
    assert scores(model) == SCORES, "the old one serves on"
    assert history(server, model)[0][:2] == (2, "held")

    approved = server.cli("approve", path)
    assert approved.returncode == 0, approved.stderr
    assert approved.stdout.strip() == "revision 3: approval of 2"
    assert scores(model) == OTHERS
    assert server.cli("approve", path).returncode == 1, "nothing is held any more"

    # What changes nothing is not held.
    job = update(model, tmp_path / "r", OTHER + "\n    # the same\n")
    assert "0 % of the values change" in server.cli("jobs", str(job.id)).stdout

    held = server.cli("deploy", str(tmp_path / "q"), "--project", project.name, "--model", model.name, "--hold")
    assert held.returncode == 1 and "error[RolloutHeld]" in held.stderr, held.stderr
    assert "looked at first" in held.stderr
    assert server.cli("history", path).stdout.splitlines()[1].split()[1:3] == ["held:", "RolloutHeld"]


def test_the_way_back(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", requirements="humanize==4.9.0\n"))
    update(model, tmp_path / "q", OTHER)
    with pytest.raises(fdl.AsyncJobFailed, match="not today"):
        update(model, tmp_path / "r", RAISES)
    assert scores(model) == OTHERS
    assert history(server, model) == [
        (3, "failed", "update"),
        (2, "current", "update"),
        (1, "served", "first artifact"),
    ]
    path = name(project, model)
    back = server.cli("rollback", path)
    assert back.returncode == 0, back.stderr
    assert back.stdout.strip() == "revision 4: rollback to 1"
    assert scores(model) == SCORES
    forth = server.cli("rollback", path, "--to", "2")
    assert forth.returncode == 0, forth.stderr
    assert scores(model) == OTHERS
    failed = server.cli("rollback", path, "--to", "3")
    assert failed.returncode == 1 and "was not kept" in failed.stderr, failed.stderr
    listed = server.cli("history", path).stdout.splitlines()
    assert "failed: ModelServeError" in listed[3], listed
    downloaded = tmp_path / "downloaded"
    model.download_artifact(output_dir=downloaded)
    assert "1.5" in next(downloaded.rglob("package.py")).read_text(), "the artifact is that of what serves"


class Runner:
    """An operator's own: the runner's contract by a small HTTP server, in a process of its own."""

    SOURCE = Path(__file__).with_name("outside_runner.py")

    def __init__(self, factor: float, port: int = None, column: str = "score"):
        self.port = port or harness.free_port()
        self.process = subprocess.Popen(
            [sys.executable, str(self.SOURCE), str(self.port), str(factor), column]
        )
        harness.wait_for(self.is_up, "the runner to answer")

    def is_up(self) -> bool:
        import urllib.request

        try:
            with urllib.request.urlopen(self.url + "/v2/health/live", timeout=2):
                return True
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_a_manual_deployment_with_a_runner_elsewhere(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(
        model, packages.write(tmp_path / "p"), deployment_type=fdl.DeploymentType.MANUAL
    )
    path = name(project, model)
    deployment = fdl.ModelDeployment.of(model_id=model.id)
    assert not deployment.active and history(server, model)[0][1] == "stored"
    with Runner(10.0) as runner:
        wrong = server.cli("runner-address", path, runner.url + "/predict")
        assert wrong.returncode == 1 and "error[BadRequest]" in wrong.stderr
        done = server.cli("runner-address", path, runner.url)
        assert done.returncode == 0, done.stderr
        with pytest.raises(Exception, match="not active"):
            scores(model)
        deployment.active = True
        deployment.update().wait(interval=1)
        assert scores(model) == [20.0, 50.0, 80.0, 110.0]
        seen = next(d for d in server.get("/v1/deployments")["items"] if d["model_id"] == str(model.id))
        assert seen["runner_address"] == runner.url
        assert [(r["external"], r["address"]) for r in seen["running"]] == [(True, runner.url)]
        assert not [c for c in server.containers() if c == seen["running"][0]["id"]]

        # Another one takes over only when it is good.
        with Runner(20.0, column="wrong") as bad:
            done = server.cli("runner-address", path, bad.url)
            assert done.returncode == 1 and "error[InvalidPrediction]" in done.stderr, done.stderr
        assert scores(model) == [20.0, 50.0, 80.0, 110.0]
        with Runner(3.0) as good:
            done = server.cli("runner-address", path, good.url)
            assert done.returncode == 0, done.stderr
            assert scores(model) == [6.0, 15.0, 24.0, 33.0]
            # What the operator stops is told, and comes back with the operator's runner.
            port = good.port
        gone = server.call("POST", "/v3/predict", {"model_id": str(model.id), "data": json.loads(packages.DATA.to_json(orient="records"))})
        assert gone[0] in (400, 503), gone
        with Runner(3.0, port=port):
            harness.wait_for(lambda: answers(model), "the runner to be taken back", 90)
            # The server's own containers, on demand.
            done = server.cli("runner-address", path, "--none")
            assert done.returncode == 0, done.stderr
            assert scores(model) == SCORES


def answers(model) -> bool:
    try:
        return scores(model) == [6.0, 15.0, 24.0, 33.0]
    except Exception:
        return False


def test_a_manual_deployment_without_one_starts_containers(server, tmp_path):
    sample = tmp_path / "sample.csv"
    packages.DATA.to_csv(sample, index=False)
    deployed = server.cli(
        "deploy", str(packages.write(tmp_path / "p")), "--project", "manual", "--model", "small",
        "--sample", str(sample), "--outputs", "score", "--target", "target", "--image", packages.IMAGE,
        "--manual",
    )
    assert deployed.returncode == 0, deployed.stderr
    refused = server.cli("predict", "manual/small", "--input", "-", stdin="a,b,name\n0.5,1,x\n")
    assert refused.returncode == 1 and "not active" in refused.stderr
    model = server.get("/v1/deployments")["items"][-1]["model_id"]
    status, body = server.call("PATCH", f"/v3/models/{model}/deployment", {"active": True})
    assert status == 200, body
    job = body["data"]["job"]["id"]
    harness.wait_for(lambda: server.get(f"/v3/jobs/{job}")["status"] == "SUCCESS", "the job")
    predicted = server.cli("predict", "manual/small", "--input", "-", stdin="a,b,name\n0.5,1,x\n")
    assert json.loads(predicted.stdout) == {"score": 2.0}, predicted.stderr
