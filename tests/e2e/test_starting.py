"""What a client is told of a model that does not answer: wait and ask again, or what to mend."""

import os
import signal

import fiddler as fdl
import pytest
import requests
from fiddler.exceptions import ApiError

import harness
import packages

# Long enough that whoever asks at once comes too early.
SLOW = packages.GOOD.replace(
    "def get_model():", "def get_model():\n        import time; time.sleep(4)"
)
ROWS = packages.DATA[["a", "b", "name"]]
WAITS = tuple(int(part) for part in fdl.__version__.split(".")[:2]) >= (3, 14)


def ask(server, model) -> requests.Response:
    body = {"model_id": str(model.id), "data": ROWS.to_dict("records")}
    headers = {"Authorization": f"Bearer {server.token}"}
    return requests.post(f"{server.url}/v3/predict", json=body, headers=headers, timeout=120)


def assert_starting(answer: requests.Response, words: str) -> None:
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
    (detail,) = answer.json()["error"]["errors"]
    assert detail["reason"] == "ModelStarting" and words in detail["message"], answer.text


def wait_for_answer(server, model) -> None:
    """Asks until the model answers; until then it is starting and nothing else."""

    def answered():
        answer = ask(server, model)
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    harness.wait_for(answered, "the model to answer")


def seen(server, model) -> dict:
    items = server.get("/v1/deployments")["items"]
    return next(item for item in items if item["model_id"] == str(model.id))


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    harness.wait_for(lambda: not harness.process_is_there(pid), "the replica to end")


def test_a_first_deployment_and_a_crash_are_waited_for(server, project, tmp_path):
    model = packages.model(project)
    answer = ask(server, model)
    assert answer.status_code == 400 and "Retry-After" not in answer.headers, answer.text
    assert "no artifact" in answer.text and "add_artifact" in answer.text

    job = model.add_artifact(
        model_dir=packages.write(tmp_path / "p", SLOW),
        deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE),
    )
    assert_starting(ask(server, model), "")
    if WAITS:
        assert model.predict(df=ROWS)["score"][0] == 2.0
    else:
        with pytest.raises(ApiError) as refused:
            model.predict(df=ROWS)
        assert refused.value.code == 503 and "try again" in refused.value.message.lower()
    job.wait(interval=1)
    assert model.predict(df=ROWS)["score"][0] == 2.0

    (replica,) = seen(server, model)["running"]
    end(replica["pid"])
    assert_starting(ask(server, model), "again")
    if WAITS:
        assert model.predict(df=ROWS)["score"][0] == 2.0
    wait_for_answer(server, model)
    assert seen(server, model)["crashes"] == 1


def test_a_request_that_ends_the_model_is_not_sent_again(server, project, tmp_path):
    package = packages.GOOD.replace(
        "def predict(self, df):",
        "def predict(self, df):\n            if df['a'].max() > 100: import os; os._exit(9)",
    )
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", package))
    with pytest.raises(ApiError, match="ended while it answered") as refused:
        model.predict(df=ROWS.assign(a=1000.0))
    assert refused.value.code == 400
    harness.wait_for(lambda: seen(server, model)["crashes"] == 1, "the crash to be seen")
    wait_for_answer(server, model)
    assert seen(server, model)["crashes"] == 1


def test_after_a_power_cut_models_are_waited_for(own_server, tmp_path):
    server = own_server()
    model = packages.model(fdl.Project(name="power").create())
    packages.deploy(model, packages.write(tmp_path / "p", SLOW))
    (replica,) = seen(server, model)["running"]
    server.kill()
    end(replica["pid"])
    server.start()
    assert_starting(ask(server, model), "starting")
    wait_for_answer(server, model)
