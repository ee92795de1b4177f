"""Every way in which a replica can fail: the code, the cause, the evidence and a next step that helps."""

import os
import re
import signal
import threading

import fiddler as fdl
import pytest
from fiddler.exceptions import AsyncJobFailed

import harness
import packages

# What a package does at a given moment: while it is imported, loaded, or asked to predict.
PACKAGE = """
    import pandas as pd

    WHEN = {when!r}

    def act():
        print("the last words", flush=True)
{act}

    if WHEN == "import":
        act()

    class Model:
        def predict(self, df):
            if WHEN == "predict" or (WHEN == "serving" and df["a"].iloc[0] == 7.5):
                act()
            return pd.DataFrame({{"score": df["a"] * 2.0 + df["b"]}})

    def get_model():
        if WHEN == "load":
            act()
        return Model()
"""
EAT = "global BALLAST\nBALLAST = None\nBALLAST = bytearray({} << 20)"
SEGV = "import ctypes\nctypes.string_at(0)"
ABORT = "import os\nos.abort()"
# 200 MiB in `/tmp`, which has 128.
FILL = "with open('/tmp/x', 'wb') as file:\n    for _ in range(200):\n        file.write(bytes(1 << 20))"
THREADS = (
    "import threading\nstop = threading.Event()\n"
    "for _ in range(600):\n    threading.Thread(target=stop.wait, daemon=True).start()"
)
LIBRARY = "import ctypes\nctypes.CDLL('libnotthere.so.3')"
LOAD, VALIDATE = "while `get_model()` was running", "while it answered the validation predict"
IMPORT = "while `package.py` was being imported"


def package(act: str, when: str) -> str:
    body = "".join(f"        {line}\n" for line in act.splitlines())
    return PACKAGE.format(when=when, act=body)


# name: (when, what, code, phase, evidence, texts that the stock client's message must have)
OOM = {"signal": 9, "out_of_memory": True}
CASES = {
    "oom_importing": ("import", EAT.format(600), "ModelServeError", "importing", OOM,
                      ["out of memory at 256 MiB " + IMPORT, "256 of 256 MiB", "memory=384", "a guess"]),
    "oom_loading": ("load", EAT.format(600), "ModelServeError", "loading", OOM,
                    ["out of memory at 256 MiB " + LOAD, "memory=384", "(SIGKILL)"]),
    "oom_validating": ("predict", EAT.format(600), "ModelServeError", "validating", OOM,
                       ["out of memory at 256 MiB " + VALIDATE, "memory=384"]),
    "segfault_loading": ("load", SEGV, "ModelServeError", "loading",
                         {"signal": 11, "out_of_memory": False},
                         ["crashed, at package.py line", "in act", "11 (SIGSEGV)", "Compiled code"]),
    "segfault_validating": ("predict", SEGV, "ModelServeError", "validating", {"signal": 11},
                            ["crashed, at package.py line", VALIDATE]),
    "abort": ("load", ABORT, "ModelServeError", "loading", {"out_of_memory": False},
              ["at package.py line", "6 (SIGABRT)", "aborted"]),
    "exits_importing": ("import", "import os\nos._exit(3)", "ModelServeError", "importing",
                        {"exit_code": 3, "out_of_memory": False},
                        ["exit status 3 " + IMPORT, "the last words", "os._exit"]),
    "exits_validating": ("predict", "import os\nos._exit(0)", "ModelServeError", "validating",
                         {"exit_code": 0}, ["exit status 0 " + VALIDATE]),
    "sys_exit_importing": ("import", "import sys\nsys.exit(4)", "InvalidPackage", "importing",
                           {"out_of_memory": False}, ["SystemExit", "4"]),
    "sys_exit_loading": ("load", "import sys\nsys.exit('bye')", "ModelServeError", "loading",
                         {}, ["SystemExit: bye"]),
    "raises_loading": ("load", "raise KeyError('weights')", "ModelServeError", "loading",
                       {"out_of_memory": False}, ["KeyError", "weights", "in act", "not out of memory"]),
    "raises_validating": ("predict", "raise ValueError('odd')", "ModelServeError", "validating",
                          {}, ["the validation predict failed", "ValueError: odd", "in act"]),
    "missing_module": ("import", "import importlib\nimportlib.import_module('cv2')", "InvalidPackage",
                       "importing", {}, ["`cv2`, which is not installed", "requirements.txt"]),
    "missing_library": ("import", LIBRARY, "InvalidPackage", "importing", {},
                        ["no system library `libnotthere.so.3`", "luthier images"]),
    "scratch_full_loading": ("load", FILL, "ModelServeError", "loading", {},
                             ["No space left on device", "`/tmp`", "128 MiB", "memory=512 gives 256"]),
    "scratch_full_validating": ("predict", FILL, "ModelServeError", "validating", {},
                                ["No space left on device", "`/tmp`", "memory=512"]),
    "threads": ("load", THREADS, "ModelServeError", "loading", {},
                ["can't start new thread", "512 processes and threads"]),
    "threads_validating": ("predict", THREADS, "ModelServeError", "validating", {},
                           ["512 processes and threads"]),
    "absurd_size": ("load", "bytearray(1 << 50)", "ModelServeError", "loading", {},
                    ["MemoryError", "more memory at once"]),
}


def failing(server, model, directory, **params):
    """The error of a deploy job that fails, in full, and the message that the stock client has."""
    with pytest.raises(AsyncJobFailed):
        packages.deploy(model, directory, **params)
    (job,) = [j for j in server.get("/v1/jobs?limit=1")["items"]]
    seen = fdl.Job.get(id_=job["id"])
    assert seen.error_reason == job["error"]["code"]
    return job["error"], seen.error_message


@pytest.mark.parametrize("case", CASES)
def test_a_replica_that_does_not_come_up(server, project, tmp_path, case):
    when, act, code, phase, evidence, texts = CASES[case]
    model = packages.model(project)
    directory = packages.write(tmp_path / "p", package(act, when))
    error, message = failing(server, model, directory)
    print(message)
    assert error["code"] == code
    seen = error["evidence"]
    # Of a process that ends at once nobody may have seen that it had come to loading.
    assert seen["phase"] in {phase, "importing" if when == "load" else phase}
    assert {key: seen.get(key) for key in evidence} == evidence
    assert seen["memory_limit"] == 256 << 20 and seen["memory_peak"] > 5 << 20
    assert "the last words" in seen["log"], "the end of the log is there"
    for text in texts:
        assert text in message, f"{text!r} is not in:\n{message}"
    assert error["hint"]
    # It is kept for whoever asks later, though the deployment is gone.
    (kept,) = server.get(f"/v1/models/{model.id}/failures")["items"]
    assert kept["error"]["message"] == error["message"] and kept["phase"] == seen["phase"]


@pytest.mark.parametrize("when", ["import", "load", "predict"])
def test_with_the_suggested_memory_it_loads(server, project, tmp_path, when):
    model = packages.model(project)
    directory = packages.write(tmp_path / "p", package(EAT.format(210), when))
    _, message = failing(server, model, directory, memory=256)
    suggested = int(re.search(r"memory=(\d+)", message).group(1))
    packages.deploy(model, directory, memory=suggested)
    assert model.predict(df=packages.DATA)["score"][0] == 2.0


def served(server, project, tmp_path, act, **params):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p", package(act, "serving")), **params)
    return model


def ask(server, model, a):
    body = {"model_id": str(model.id), "data": [{"a": a, "b": 1.0, "name": "x"}]}
    return server.call("POST", "/v3/predict", body)


def running(server, model):
    items = server.get("/v1/deployments")["items"]
    (found,) = [item for item in items if item["model_id"] == str(model.id)]
    return found


def died(server, model):
    """The failure that a serving model's replica has met, once it is replaced."""
    path = f"/v1/models/{model.id}/failures"
    harness.wait_for(lambda: server.get(path)["items"], "the failure to be recorded")
    harness.wait_for(lambda: ask(server, model, 1.0)[0] == 200, "its replacement")
    (failure,) = server.get(path)["items"]
    assert failure["phase"] == "serving" and failure["at"]
    now = running(server, model)
    assert now["last_failure"]["error"]["message"] == failure["error"]["message"]
    return failure["error"]


def test_out_of_memory_while_serving(server, project, tmp_path):
    model = served(server, project, tmp_path, EAT.format(600))
    status, body = ask(server, model, 7.5)
    assert status == 400 and body["error"]["errors"][0]["reason"] == "ModelServeError", body
    error = died(server, model)
    assert error["message"] == "the model ran out of memory at 256 MiB while it was serving"
    assert "memory=384" in error["hint"] and error["evidence"]["memory_peak"] > 250 << 20
    # What it died of is what its size should be changed for.
    sizing = server.get(f"/v3/models/{model.id}/deployment")["sizing"]
    assert (sizing["memory"]["fit"], sizing["memory"]["setting"]) == ("too_small", 384)
    told = server.cli("failures", f"{project.name}/model").stdout
    assert "out of memory at 256 MiB" in told and "the last words" in told and "memory=384" in told


def test_killed_from_outside(server, project, tmp_path):
    model = served(server, project, tmp_path, "pass")
    (replica,) = running(server, model)["running"]
    os.kill(replica["pid"], signal.SIGKILL)
    error = died(server, model)
    assert "ended from outside by signal 9 (SIGKILL)" in error["message"]
    assert error["evidence"]["out_of_memory"] is False and "dmesg" in error["hint"]


def test_a_crash_while_serving(server, project, tmp_path):
    model = served(server, project, tmp_path, SEGV)
    ask(server, model, 7.5)
    error = died(server, model)
    assert "crashed, at package.py line" in error["message"] and "(SIGSEGV)" in error["message"]


def test_what_happened_outlives_the_server(own_server, tmp_path):
    server = own_server()
    project = fdl.Project(name="outlives").create()
    model = served(server, project, tmp_path, "import os\nos._exit(9)")
    ask(server, model, 7.5)
    died(server, model)
    server.kill()
    server.start()
    harness.wait_for(lambda: running(server, model)["ready_replicas"] == 1, "the model")
    (failure,) = server.get(f"/v1/models/{model.id}/failures")["items"]
    assert failure["error"]["evidence"]["exit_code"] == 9
    assert "exit status 9" in server.cli("failures", "outlives/model").stdout
    assert "ModelServeError" in server.cli("ps").stdout


HANG = {
    "sleeping": "import time\ntime.sleep(3600)",
    "holding_the_gil": "while True:\n    pass",
    "in_compiled_code": "import ctypes\nctypes.PyDLL(None).sleep(3600)",
}


@pytest.mark.parametrize("how", HANG)
def test_a_predict_that_hangs(own_server, tmp_path, how):
    server = own_server("--predict-timeout", "3", "--hang-timeout", "2")
    project = fdl.Project(name="hangs").create()
    model = served(server, project, tmp_path, HANG[how])
    other = packages.model(project, name="other")
    packages.deploy(other, packages.write(tmp_path / "other"))
    (before,) = running(server, model)["running"]
    (untouched,) = running(server, other)["running"]
    answers = []
    call = threading.Thread(target=lambda: answers.append(ask(server, model, 7.5)))
    call.start()
    call.join(30)
    ((status, body),) = answers
    assert body["error"]["errors"][0]["reason"] == "PredictTimeout", (status, body)
    error = died(server, model)
    assert error["code"] == "ModelServeError" and "the model hangs" in error["message"]
    assert re.search(r"at package\.py line \d+ in act", error["message"]), error["message"]
    assert "in predict" in error["evidence"]["output"]
    harness.wait_for(lambda: not harness.process_is_there(before["pid"]), "the hung one to go")
    harness.wait_for(lambda: len(running(server, model)["running"]) == 1, "one replica")
    assert running(server, model)["running"][0]["id"] != before["id"]
    (same,) = running(server, other)["running"]
    assert same["pid"] == untouched["pid"]


def test_a_load_that_hangs_says_where(own_server, tmp_path):
    server = own_server("--load-timeout", "5")
    model = packages.model(fdl.Project(name="slow").create())
    directory = packages.write(tmp_path / "p", package("import time\ntime.sleep(3600)", "load"))
    error, message = failing(server, model, directory)
    assert error["code"] == "DeploymentTimeout"
    assert re.search(r"`get_model\(\)` was still running, at package\.py line \d+ in act", message)
    assert error["evidence"]["phase"] == "loading" and "the last words" in message
