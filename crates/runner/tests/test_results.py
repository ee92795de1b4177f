"""What a model may return and what it may not, and how its exceptions arrive."""

import pyarrow as pa
import pytest
from harness import WITH_PANDAS, Runner

# Runs the code it is sent, on `df`, and returns what that leaves in `out`.
EVAL = """
import numpy as np
import pandas as pd

class Model:
    def predict(self, df):
        scope = {"df": df, "np": np, "pd": pd}
        exec(df["code"][0], scope)
        return scope.get("out")

    def explain_custom(self, name, df):
        if name == "unknown one":
            raise NotImplementedError(name)
        scope = {"df": df, "np": np, "pd": pd, "name": name}
        exec(df["code"][0], scope)
        return scope.get("out")

def get_model():
    return Model()
"""


@pytest.fixture(scope="module", params=WITH_PANDAS)
def eval2(request):
    with Runner(request.param, {"package.py": EVAL}, [("code", "str")], ["a", "b"]) as runner:
        yield runner.ready()


@pytest.fixture(scope="module", params=WITH_PANDAS)
def eval1(request):
    with Runner(request.param, {"package.py": EVAL}, [("code", "str")], ["a"]) as runner:
        yield runner.ready()


def run(runner, code, rows=1):
    return runner.predict({"code": [code] * rows})


def test_not_a_data_frame(eval1):
    error = run(eval1, "out = [1]").failed(500, "not_a_data_frame")
    assert "list" in error["message"]
    assert "Series" in run(eval1, "out = pd.Series([1])").failed(500, "not_a_data_frame")["message"]
    run(eval1, "pass").failed(500, "not_a_data_frame")


@pytest.mark.parametrize(
    "columns", [["a"], ["a", "c"], ["a", "b", "c"], ["a", "a"], ["a", "b", "b"], [0, 1], []]
)
def test_wrong_columns(eval2, columns):
    code = f"out = pd.DataFrame([[1.0] * {len(columns)}], columns={columns})"
    error = run(eval2, code).failed(500, "wrong_columns")
    assert repr(columns) in error["message"] and "['a', 'b']" in error["message"]


def test_wrong_rows(eval1):
    error = run(eval1, "out = pd.DataFrame({'a': [1, 2]})").failed(500, "wrong_rows")
    assert "2 rows" in error["message"]


@pytest.mark.parametrize(
    "values",
    [
        "[[1, 2]]",
        "[object()]",
        "[{'x': 1}]",
        "['text', 1]",
        "[pd.Timestamp(0), 1]",
        "pd.to_datetime([0, 1])",
        "[1j, 2]",
        "[2**70, None]",
        "[b'x', None]",
        "np.array([2**64 - 1], np.uint64)",
        "[True, 1]",
        "['\\ud800']",
    ],
)
def test_wrong_values(eval1, values):
    code = f"v = {values}\nout = pd.DataFrame({{'a': pd.Series(list(v)) if isinstance(v, list) else v}})"
    rows = 2 if "," in values and "[[" not in values and "uint64" not in values else 1
    error = run(eval1, code, rows).failed(500, "wrong_values")
    assert "'a'" in error["message"] or "result" in error["message"]


@pytest.mark.parametrize(
    "values,kind,expected",
    [
        ("np.float32([0.1, 2])", pa.float64(), [0.10000000149011612, 2.0]),
        ("np.float16([0.5, 2])", pa.float64(), [0.5, 2.0]),
        ("np.uint8([1, 255])", pa.int64(), [1, 255]),
        ("np.int16([-1, 2])", pa.int64(), [-1, 2]),
        ("[True, False]", pa.bool_(), [True, False]),
        ("['x', None]", pa.string(), ["x", None]),
        ("pd.Series(['x', float('nan')], dtype=object)", pa.string(), ["x", None]),
        ("pd.Series([None, True], dtype=object)", pa.bool_(), [None, True]),
        ("pd.Series([np.int64(3), None], dtype=object)", pa.int64(), [3, None]),
        ("pd.Series([np.float32(0.5), 2], dtype=object)", pa.float64(), [0.5, 2.0]),
        ("pd.array([1, None], dtype='Int64')", pa.int64(), [1, None]),
        ("pd.array([1, 2], dtype='Int64')", pa.int64(), [1, 2]),
        ("pd.array([True, None], dtype='boolean')", pa.bool_(), [True, None]),
        ("pd.array(['x', None], dtype='string')", pa.string(), ["x", None]),
        ("pd.Categorical(['u', 'v'])", pa.string(), ["u", "v"]),
        ("pd.Categorical([2, 1])", pa.int64(), [2, 1]),
    ],
)
def test_values(eval1, values, kind, expected):
    out = run(eval1, f"out = pd.DataFrame({{'a': {values}}})", 2).table
    assert out.schema.field("a").type == kind
    assert out["a"].to_pylist() == expected


@pytest.mark.parametrize(
    "code,expected",
    [
        ("out = pd.DataFrame({'b': [1], 'a': [2**60 + 1]})", {"a": 2**60 + 1, "b": 1}),
        ("out = pd.DataFrame({'b': [1.5], 'a': [2**60 + 1]})", {"a": 2**60 + 1, "b": 1.5}),
        ("out = pd.DataFrame({'a': ['t'], 'b': [True]}, index=[77])", {"a": "t", "b": True}),
        ("out = pd.DataFrame({'a': [0.1], 'b': [0.2]})[['b', 'a']]", {"a": 0.1, "b": 0.2}),
    ],
)
def test_columns_in_the_order_of_the_outputs_with_types_of_their_own(eval2, code, expected):
    out = run(eval2, code).table
    assert out.column_names == ["a", "b"]
    assert out.to_pylist() == [expected]
    assert [type(v) for v in out.to_pylist()[0].values()] == [type(v) for v in expected.values()]


def test_predict_raised(eval1):
    error = run(eval1, "def f():\n    raise KeyError('lost')\nf()").failed(500, "predict_raised")
    assert error["exception"] == "KeyError" and "lost" in error["message"]
    lines = error["traceback"].splitlines()
    assert "package.py" in lines[1] and "predict" in lines[1]
    assert "luthier" not in error["traceback"].replace("/luthier-", "")


@pytest.mark.parametrize("what", ["SystemExit(2)", "KeyboardInterrupt()", "GeneratorExit()"])
def test_leaving_in_predict(eval1, what):
    error = run(eval1, f"raise {what}").failed(500, "predict_raised")
    assert error["exception"] == what.partition("(")[0]
    assert run(eval1, "out = pd.DataFrame({'a': [1]})").status == 200


def test_deep_recursion(eval1):
    error = run(eval1, "def f():\n    f()\nf()").failed(500, "predict_raised")
    assert error["exception"] == "RecursionError"


# Custom explanations.

def explain(runner, name, code, rows=1):
    return runner.explain(name, {"code": [code] * rows})


def test_custom_explain(eval1):
    code = """
gem = {'type': 'simple', 'feature-name': 'é', 'attribution': np.float32(0.5),
       'value': float('nan'), 'list': np.array([1, 2])}
out = ({'a': gem}, {'a': {'model_prediction': np.float64(0.25), 'name': name}})
"""
    answer = explain(eval1, "Tree Shap é", code)
    assert answer.status == 200
    assert answer.json == {
        "explanations_by_output": {
            "a": {
                "type": "simple",
                "feature-name": "é",
                "attribution": 0.5,
                "value": None,
                "list": [1, 2],
            }
        },
        "extras_by_output": {"a": {"model_prediction": 0.25, "name": "Tree Shap é"}},
    }


def test_custom_explain_failures(eval1):
    explain(eval1, "unknown one", "").failed(404, "no_such_hook")
    explain(eval1, "x", "out = 5").failed(500, "wrong_values")
    explain(eval1, "x", "out = ({'a': object()}, {})").failed(500, "predict_raised")
    explain(eval1, "x", "", rows=2).failed(400, "bad_request")
    error = explain(eval1, "x", "1 / 0").failed(500, "predict_raised")
    assert error["exception"] == "ZeroDivisionError" and "explain_custom" in error["message"]
    eval1.call("POST", "/gradients/compute", b"").failed(404, "no_such_hook")


def test_no_custom_explain():
    source = "class M:\n    def predict(self, df): return df\ndef get_model(): return M()\n"
    with Runner(WITH_PANDAS[-1], {"package.py": source}, [("code", "str")], ["code"]) as runner:
        explain(runner.ready(), "x", "").failed(404, "no_such_hook")
