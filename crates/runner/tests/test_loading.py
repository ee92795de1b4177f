"""Every way a package can fail to load, and the ways its files may import each other."""

import pytest
from harness import PYTHONS, WITH_PANDAS, Runner, wait_for

IDENTITY = """
class Model:
    def predict(self, df):
        return df[["y"]]
"""
GOOD = IDENTITY + "def get_model():\n    return Model()\n"


def failure(env, files):
    with Runner(env, files, [("y", "float")], ["y"]) as runner:
        health = runner.loaded()
        assert health.status == 503 and health.json["phase"] == "failed"
        error = health.json["error"]
        refused = runner.predict({"y": [1.0]}).failed(503, "not_ready")
        assert error["message"] in refused["message"]
        assert runner.call("GET", "/v2/health/live").status == 200
        assert "luthier_host" not in (error["traceback"] or "")
        return error


@pytest.fixture(params=PYTHONS)
def env(request):
    return request.param


@pytest.fixture(params=WITH_PANDAS)
def pandas_env(request):
    return request.param


def test_no_package(env):
    assert failure(env, {"other.py": ""})["kind"] == "no_package"


def test_syntax_error(env):
    error = failure(env, {"package.py": "x = 1\ndef get_model(:\n    pass\n"})
    assert error["kind"] == "syntax_error" and error["exception"] == "SyntaxError"
    assert "package.py, line 2" in error["message"]


def test_syntax_error_in_a_sibling(env):
    error = failure(env, {"package.py": "import helper", "helper.py": "\n\n)"})
    assert error["kind"] == "syntax_error" and "helper.py, line 3" in error["message"]


def test_syntax_error_in_generated_code_is_not_the_packages(env):
    assert failure(env, {"package.py": "exec('1 +')"})["kind"] == "import_failed"


@pytest.mark.parametrize(
    "source", ["import nosuch_thing.part\n", "def get_model():\n    import nosuch_thing.part\n"]
)
def test_missing_module(env, source):
    error = failure(env, {"package.py": source})
    assert error["kind"] == "missing_module" and error["module"] == "nosuch_thing"
    assert "nosuch_thing" in error["message"] and "package.py" in error["traceback"]


@pytest.mark.parametrize(
    "source",
    ["from .absent import x", "import json.absent", "raise ModuleNotFoundError('from elsewhere')"],
)
def test_a_missing_part_is_not_a_missing_module(env, source):
    error = failure(env, {"package.py": source})
    assert error["kind"] == "import_failed" and error["module"] is None


def test_import_failed(env):
    error = failure(env, {"package.py": "def f():\n    raise ValueError('why')\nf()\n"})
    assert error["kind"] == "import_failed" and error["exception"] == "ValueError"
    assert "why" in error["message"]
    lines = error["traceback"].splitlines()
    assert lines[0].startswith("Traceback") and "package.py" in lines[1] and "line 3" in lines[1]


@pytest.mark.parametrize("what", ["SystemExit(3)", "KeyboardInterrupt()"])
def test_leaving_while_loading(env, what):
    error = failure(env, {"package.py": f"raise {what}"})
    assert error["kind"] == "import_failed" and error["exception"] == what.partition("(")[0]
    error = failure(env, {"package.py": f"def get_model():\n    raise {what}"})
    assert error["kind"] == "get_model_raised" and error["exception"] == what.partition("(")[0]


def test_no_get_model(env):
    assert failure(env, {"package.py": "get_model = 5"})["kind"] == "no_get_model"


def test_get_model_raised(env):
    error = failure(env, {"package.py": "def get_model():\n    open('model.pkl')\n"})
    assert error["kind"] == "get_model_raised" and error["exception"] == "FileNotFoundError"
    assert "model.pkl" in error["message"]


@pytest.mark.parametrize("model", ["None", "object()"])
def test_no_predict(env, model):
    error = failure(env, {"package.py": f"def get_model():\n    return {model}\n"})
    assert error["kind"] == "no_predict"


def test_an_exception_that_cannot_be_shown(env):
    source = "class E(Exception):\n    def __str__(self):\n        raise TypeError\nraise E\n"
    assert failure(env, {"package.py": source})["exception"] == "E"


def test_no_pandas():
    error = failure("py312-bare", {"package.py": GOOD})
    assert error["kind"] == "missing_module" and error["module"] in ("numpy", "pandas")


SIBLING = "def name():\n    return __name__\n"


@pytest.mark.parametrize("init", [None, "", "from .package import get_model\n"])
def test_siblings_both_ways(pandas_env, init):
    files = {
        "package.py": """
from pathlib import Path
import sibling
from sibling import name as absolute
from .sibling import name as relative
from .deep.inner import WORD
from deep.inner import WORD as SAME
import pickle, sys

PACKAGE_PATH = Path(__file__).parent
print("counted")
class Model:
    def predict(self, df):
        df["p"] = (PACKAGE_PATH / "word.txt").read_text()
        df["n"] = absolute() + " " + relative() + " " + WORD + SAME
        df["k"] = type(pickle.loads(b"cpackage\\nModel\\n)\\x81.")) is Model
        return df[["p", "n", "k"]]
def get_model():
    return Model()
""",
        "sibling.py": SIBLING,
        "word.txt": "here",
        "deep/inner.py": "WORD = 'deep'\n",
    }
    if init is not None:
        files["__init__.py"] = init
    with Runner(pandas_env, files, [("y", "float")], ["p", "n", "k"]) as runner:
        runner.ready()
        row = runner.predict({"y": [1.0]}).table.to_pylist()[0]
        assert row == {"p": "here", "n": "sibling luthier_package.sibling deepdeep", "k": True}
        assert runner.log.read_text().count("counted") == 1


def test_the_runners_files_are_not_on_the_path(pandas_env):
    source = GOOD + "import sys\nassert not any('runner-tests/runner' in p for p in sys.path)\n"
    files = {"package.py": "import main\nassert main.OWN\n" + source, "main.py": "OWN = 1"}
    with Runner(pandas_env, files, [("y", "float")], ["y"]) as runner:
        runner.ready()


def test_what_ready_says(pandas_env):
    with Runner(pandas_env, {"package.py": GOOD}, [("y", "float")], ["y"]) as runner:
        ready = runner.ready().health().json
        assert ready["phase"] == "ready" and ready["error"] is None
        assert ready["import_seconds"] >= 0 and ready["load_seconds"] >= 0
        assert 10 << 20 < ready["memory_bytes"] < 200 << 20
        digits = pandas_env.partition("-")[0][2:]
        assert ready["python"].startswith(f"{digits[0]}.{digits[1:]}.")
        probe = """
import importlib.metadata as m, json, re
print(json.dumps({re.sub('[-_.]+', '-', d.metadata['Name']).lower(): d.version
                  for d in m.distributions()}))"""
        import json
        import subprocess

        said = subprocess.run(
            [PYTHONS[pandas_env], "-I", "-c", probe], capture_output=True, check=True
        )
        assert ready["packages"] == json.loads(said.stdout)


def test_the_log_is_written_at_once(pandas_env):
    source = GOOD + "import sys\nprint('é out')\nsys.stderr.write('err\\n')\nwhile True: pass\n"
    with Runner(pandas_env, {"package.py": source}, [("y", "float")], ["y"]) as runner:
        wait_for(lambda: {"é out", "err"} <= set(runner.log.read_text().split("\n")))


@pytest.mark.parametrize(
    "source, declined",
    [
        (GOOD, False),
        ("batchable = False\n" + GOOD, True),
        (GOOD.replace("class Model:", "class Model:\n    batchable = False"), True),
        # The model knows better than its module.
        ("batchable = False\n" + GOOD.replace("class Model:", "class Model:\n    batchable = True"), False),
        (GOOD.replace("class Model:", "class Model:\n    batchable = property(lambda self: 1 / 0)"), True),
    ],
)  # fmt: skip
def test_a_package_can_decline_batching(source, declined):
    with Runner(WITH_PANDAS[0], {"package.py": source}, [("y", "float")], ["y"]) as runner:
        assert runner.ready().health().json["declines_batching"] is declined


def test_no_collection_walks_what_was_loaded(pandas_env):
    source = """
import gc
import pandas as pd

class Model:
    def __init__(self):
        self.loaded = [[i] for i in range(1000)]

    def predict(self, df):
        frozen = not any(item is self.loaded for item in gc.get_objects())
        return pd.DataFrame({"y": [float(frozen and gc.isenabled() and gc.get_freeze_count() > 1000)]})

def get_model():
    return Model()
"""
    with Runner(pandas_env, {"package.py": source}, [("y", "float")], ["y"]) as runner:
        assert runner.ready().predict({"y": [0.0]}).table["y"].to_pylist() == [1.0]
