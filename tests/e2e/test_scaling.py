"""More and fewer replicas, with more and less to use, by the user's word and by the load."""

import concurrent.futures
import json
import urllib.error
import urllib.request

import fiddler as fdl
import pytest
from fiddler.exceptions import ApiError, AsyncJobFailed

import harness
import packages
from test_under_load import Load, of

ROW = {"a": 0.5, "b": 1.0, "name": "x"}

# Needs so much memory, in MiB, for a moment while it loads.
HUNGRY = packages.GOOD.replace(
    "def get_model():", "def get_model():\n        held = bytearray(b'1') * (MIB << 20); del held"
)
# Each answer takes a while, and says which replica gave it.
SLOW = packages.GOOD.replace("def predict(self, df):", "def predict(self, df):\n            time.sleep(0.2)")
SLOW = SLOW.replace("import pandas as pd", "import time\n    import pandas as pd", 1)


def change(server, model, **body):
    """Changes a deployment by the native API and waits for its job."""
    status, answer = server.call("PATCH", f"/v1/models/{model.id}/deployment", body)
    assert status == 200, answer
    fdl.Job.get(answer["data"]["job"]["id"]).wait(interval=0.2)
    return of(server, model)


def pids(server, model) -> list:
    return sorted(r["pid"] for r in of(server, model)["running"] if r["state"] == "running")


def limits(server, model) -> set:
    return {r["memory_limit"] >> 20 for r in of(server, model)["running"]}


def predict(server, model):
    body = json.dumps({"model_id": str(model.id), "data": [ROW]}).encode()
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + "/v3/predict", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)["data"]["predictions"][0]["score"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["errors"][0]


def test_cpu_and_memory_change_while_replicas_run(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="resized").create())
    packages.deploy(model, packages.write(tmp_path / "p"), memory=600, replicas=2)
    before = pids(server, model)
    with Load(server, model, threads=2) as load:
        deployment = fdl.ModelDeployment.of(model_id=model.id)
        deployment.memory, deployment.cpu = 900, 400
        deployment.update().wait(interval=0.2)
        assert (pids(server, model), limits(server, model)) == (before, {900})
        server.cli("scale", "resized/model", "--memory", "700")
        assert (pids(server, model), limits(server, model)) == (before, {700})
        load.more(100)
    assert load.failures() == []
    server.kill()
    server.start()
    seen = of(server, model)
    assert (pids(server, model), limits(server, model)) == (before, {700})
    assert (seen["phase"], seen["memory"], seen["cpu"]) == ("ready", 700, 400)


def test_memory_in_use_is_not_taken_from_a_running_replica(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", HUNGRY.replace("MIB", "700")), memory=1100)
    before = pids(server, model)
    with Load(server, model, threads=2) as load:
        deployment = fdl.ModelDeployment.of(model_id=model.id)
        deployment.memory = 600
        # It could not be loaded with so little: the old replica serves on.
        with pytest.raises(AsyncJobFailed, match="out of memory at 600 MiB"):
            deployment.update().wait(interval=0.2)
        assert pids(server, model) == before and limits(server, model) == {1100}
        load.more(100)
        # With this it can, in a replica of its own.
        change(server, model, memory=1024)
        load.more(100)
        harness.wait_for(lambda: len(pids(server, model)) == 1, "the old one to stop")
    assert load.failures() == []
    assert limits(server, model) == {1024}


def test_more_threads_and_a_larger_scratch_space_take_another_replica(server, project, tmp_path):
    told = packages.GOOD.replace(
        'df["a"] * 2.0 + df["b"]', 'float(os.environ["OMP_NUM_THREADS"])'
    ).replace("import pandas as pd", "import os\n    import pandas as pd", 1)
    told = told.replace("{\"score\": float", "{\"score\": [float").replace("\"])})", "\"])] * len(df)})")
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", told), memory=256)
    assert predict(server, model) == (200, 1.0)
    before = pids(server, model)
    change(server, model, cpu=1500)
    assert predict(server, model) == (200, 2.0)
    harness.wait_for(lambda: len(pids(server, model)) == 1, "the old one to stop")
    assert pids(server, model) != before


def test_scaling_under_load_costs_no_request(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"))
    with Load(server, model) as load:
        for replicas in (4, 1, 3, 1):
            deployment = fdl.ModelDeployment.of(model_id=model.id)
            deployment.replicas = replicas
            deployment.update().wait(interval=0.2)
            assert of(server, model)["ready_replicas"] == replicas
            load.more(300)
            harness.wait_for(lambda: len(pids(server, model)) == replicas, "the others to stop")
    assert load.failures() == []
    assert {found for _, found in load.answers} == {2.0}


def test_off_and_on_keep_the_settings(server, project, tmp_path):
    model = packages.model(project)
    name = f"{project.name}/model"
    packages.deploy(model, packages.write(tmp_path / "p"), replicas=2, memory=300)
    off = server.cli("deactivate", name)
    assert off.returncode == 0 and "stopped" in off.stdout, off.stdout + off.stderr
    harness.wait_for(lambda: pids(server, model) == [], "the replicas to stop")
    with pytest.raises(ApiError) as refused:
        model.predict(df=packages.DATA)
    assert "not active" in refused.value.message and "luthier activate" in str(refused.value)
    # What changes while it is off counts when it is on.
    assert change(server, model, cpu=200)["phase"] == "stopped"
    on = server.cli("activate", name, "--json")
    seen = json.loads(on.stdout)
    assert (seen["active"], seen["phase"], seen["ready_replicas"]) == (True, "ready", 2)
    assert (seen["replicas"], seen["memory"], seen["cpu"]) == (2, 300, 200)
    assert predict(server, model) == (200, 2.0)


def test_figures_that_do_not_fit_are_refused(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"))
    for body, words in [
        ({"replicas": 11}, "replicas is 11, outside 1 to 10"),
        ({"replicas": 0}, "replicas is 0, outside 1 to 10"),
        ({"max_replicas": 11}, "max_replicas is 11, outside 1 to 10"),
        ({"replicas": 3, "max_replicas": 2}, "above max_replicas, which is 2"),
        ({"min_replicas": 2}, "below min_replicas, which is 2"),
        ({"idle_timeout": 0}, "idle_timeout is 0"),
        ({"target_concurrency": 0}, "target_concurrency is 0"),
        ({"cpu": 4001}, "cpu is 4001"),
        ({"memory": 16384, "replicas": 10}, "MiB of memory (10 × 16384), where"),
        # What it may grow to is reserved.
        ({"memory": 16384, "max_replicas": 10}, "MiB of memory (10 × 16384), where"),
        ({"replicas": "two"}, "invalid type"),
    ]:
        status, answer = server.call("PATCH", f"/v3/models/{model.id}/deployment", body)
        (detail,) = answer["error"]["errors"]
        assert status in (400, 409, 422, 507) and words in detail["message"], (status, answer)
        assert detail["help"]
    seen = of(server, model)
    assert (seen["replicas"], seen["memory"], seen["max_replicas"]) == (1, 256, None)
    none = server.cli("scale", f"{project.name}/model")
    assert none.returncode == 1 and "--max-replicas" in none.stderr


def test_a_model_that_nobody_asks_sleeps_and_the_first_request_wakes_it(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="sleeps").create())
    packages.deploy(model, packages.write(tmp_path / "p"))
    scaled = server.cli("scale", "sleeps/model", "--min-replicas", "0", "--idle-timeout", "2")
    assert "1 (0 to 1)" in scaled.stdout, scaled.stdout + scaled.stderr

    def asleep():
        return of(server, model)["phase"] == "idle" and pids(server, model) == []

    harness.wait_for(asleep, "it to fall asleep")
    assert "idle" in server.cli("ps").stdout
    assert model.predict(df=packages.DATA)["score"][0] == 2.0
    assert of(server, model)["phase"] == "ready"
    harness.wait_for(asleep, "it to fall asleep again")
    server.kill()
    server.start()
    assert asleep()
    # All who come while it wakes are answered.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: predict(server, model), range(16)))
    assert set(answers) == {(200, 2.0)}
    harness.wait_for(asleep, "it to fall asleep once more")
    status, _ = server.call("GET", "/v2/models/sleeps.model/ready")
    assert status == 200, "it answers who asks"
    seen = change(server, model, min_replicas=None)
    assert (seen["phase"], seen["ready_replicas"], seen["min_replicas"]) == ("ready", 1, None)


def test_replicas_follow_the_load(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", SLOW))
    change(server, model, max_replicas=3, target_concurrency=2)
    with Load(server, model, threads=12) as load:
        harness.wait_for(lambda: of(server, model)["ready_replicas"] == 3, "three replicas")
        seen = of(server, model)
        assert (seen["replicas"], seen["target_replicas"], seen["phase"]) == (1, 3, "ready")
        load.more(50)
    assert load.failures() == []
    # The user's word counts at once.
    seen = change(server, model, replicas=2, max_replicas=None)
    assert (seen["target_replicas"], seen["ready_replicas"]) == (2, 2)
    harness.wait_for(lambda: len(pids(server, model)) == 2, "the third to stop")


def test_updates_that_overtake_each_other_end_with_the_last(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"))
    answers = {2.0}
    with Load(server, model) as load:
        jobs = []
        for factor in ("3.0", "4.0"):
            new = packages.write(tmp_path / factor, packages.GOOD.replace("2.0", factor))
            params = fdl.DeploymentParams(image_uri=packages.IMAGE)
            jobs.append(model.update_artifact(model_dir=new, deployment_params=params))
            answers.add(0.5 * float(factor) + 1.0)
            # Scaling in the midst of it.
            body = {"replicas": len(jobs) + 1}
            status, answer = server.call("PATCH", f"/v3/models/{model.id}/deployment", body)
            assert status == 200, answer
            jobs.append(fdl.Job.get(answer["data"]["job"]["id"]))
        for job in jobs:
            job.wait(interval=0.2)
        load.more(200)
        seen = of(server, model)
        assert (seen["ready_replicas"], seen["replicas"]) == (4, 4)
    assert load.failures() == []
    found = [value for _, value in load.answers]
    assert set(found) <= answers and set(found[-100:]) == {3.0}
