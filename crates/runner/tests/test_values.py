"""What the package sees, and what of its answer arrives, value by value."""

import json
import struct

import pyarrow as pa
import pytest
from harness import WITH_PANDAS, Runner

# Returns what it was given, and says in `seen` what that was.
ECHO = """
import json
import pandas as pd

class Model:
    def predict(self, df):
        seen = {
            "dtypes": [str(t) for t in df.dtypes],
            "columns": list(df.columns),
            "index": str(type(df.index).__name__) + str(list(df.index[:3])),
            "types": [[type(v).__name__ for v in df[c][:3]] for c in df],
            "values": repr(df.head(3).to_dict("list")),
            "warnings": None,
        }
        out = pd.DataFrame({"f": df["f"], "i": df["i"], "b": df["b"], "s": df["s"]})
        out["t"] = df["t"].to_numpy().view("int64")
        out["v"] = [json.dumps(v) for v in df["v"]]
        out["seen"] = json.dumps(seen)
        # The frame is the package's to change.
        df["f"] = df["f"] + 1
        df.loc[:, "s"] = "gone"
        df.columns.name = "spoilt"
        df.index.name = "spoilt"
        return out

def get_model():
    return Model()
"""
INPUTS = [
    ("f", "float"),
    ("i", "int"),
    ("b", "bool"),
    ("s", "str"),
    ("t", "timestamp"),
    ("c", "category"),
    ("v", "vector"),
]
OUTPUTS = ["f", "i", "b", "s", "t", "v", "seen"]


@pytest.fixture(scope="module", params=WITH_PANDAS)
def echo(request):
    with Runner(request.param, {"package.py": ECHO}, INPUTS, OUTPUTS) as runner:
        yield runner.ready()
        assert "Warning" not in runner.log.read_text()


def bits(values):
    return [None if v is None else struct.pack("<d", v) for v in values]


def full(rows=1, **other):
    columns = {
        "f": pa.array([0.5] * rows, pa.float64()),
        "i": pa.array([7] * rows, pa.int64()),
        "b": pa.array([True] * rows, pa.bool_()),
        "s": pa.array(["x"] * rows, pa.string()),
        "t": pa.array([5] * rows, pa.timestamp("ns")),
        "c": pa.array(["k"] * rows, pa.string()),
        "v": pa.array([[1.0, 2.5]] * rows, pa.list_(pa.float64())),
    }
    columns.update(other)
    return pa.table(columns)


def seen(table):
    return json.loads(table["seen"][0].as_py())


def test_dtypes_names_and_index(echo):
    saw = seen(echo.predict(full(2)).table)
    assert saw["dtypes"] == [
        "float64", "int64", "bool", "object", "datetime64[ns]", "object", "object"
    ]  # fmt: skip
    assert saw["columns"] == [name for name, _ in INPUTS]
    assert saw["index"] == "RangeIndex[0, 1]"
    assert saw["types"] == [
        ["float"] * 2, ["int"] * 2, ["bool"] * 2, ["str"] * 2, ["Timestamp"] * 2, ["str"] * 2,
        ["list"] * 2,
    ]  # fmt: skip


def test_nothing_a_package_does_to_its_input_shows_in_the_next(echo):
    first = seen(echo.predict(full(2)).table)
    assert seen(echo.predict(full(2)).table) == first


def test_floats_bit_for_bit(echo):
    values = [
        0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7976931348623157e308,
        0.1, 1 / 3, struct.unpack("<d", struct.pack("<Q", 0x7FF8DEADBEEF0001))[0],
    ]  # fmt: skip
    out = echo.predict(full(len(values), f=pa.array(values))).table
    assert out.schema.field("f").type == pa.float64()
    assert bits(out["f"].to_pylist()) == bits(values)


def test_integers_to_their_extremes(echo):
    values = [0, -1, 2**63 - 1, -(2**63), 2**53 + 1]
    out = echo.predict(full(len(values), i=pa.array(values))).table
    assert out.schema.field("i").type == pa.int64()
    assert out["i"].to_pylist() == values


def test_text_and_its_nulls(echo):
    values = ["", "é", "\U0001f40d", "a\x00b", None, "x" * 100_000]
    out = echo.predict(full(len(values), s=pa.array(values))).table
    assert out.schema.field("s").type == pa.string()
    assert out["s"].to_pylist() == values
    assert seen(echo.predict(full(2, s=pa.array([None, "a"]))).table)["types"][3] == [
        "NoneType", "str"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_form_of_text(echo, kind):
    values = ["a", None, "b", "a"]
    out = echo.predict(full(4, s=pa.array(values).cast(kind) if kind != pa.string_view()
                            else pa.array(values, kind))).table  # fmt: skip
    assert out["s"].to_pylist() == values


def test_missing_numbers_and_booleans(echo):
    table = full(
        2,
        f=pa.array([None, 1.5]),
        i=pa.array([None, 3], pa.int64()),
        b=pa.array([True, None]),
        t=pa.array([None, 9], pa.timestamp("ns")),
        v=pa.array([None, [1.0]]),
    )
    out = echo.predict(table).table
    saw = seen(out)
    assert saw["dtypes"][:5] == ["float64", "float64", "object", "object", "datetime64[ns]"]
    assert out["f"].to_pylist()[1] == 1.5 and out["f"].to_pylist()[0] != out["f"].to_pylist()[0]
    assert out["i"].to_pylist()[1] == 3.0 and out["i"].to_pylist()[0] != out["i"].to_pylist()[0]
    assert out["b"].to_pylist() == [True, None]
    assert out["t"].to_pylist() == [-(2**63), 9]
    assert out["v"].to_pylist() == ["null", "[1.0]"]
    assert saw["types"][2] == ["bool", "NoneType"]


@pytest.mark.parametrize("unit,factor", [("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)])
def test_time_units(echo, unit, factor):
    for zone in (None, "UTC", "Europe/Berlin"):
        out = echo.predict(full(1, t=pa.array([1234567], pa.timestamp(unit, zone)))).table
        assert out["t"].to_pylist() == [1234567 * factor]
        assert seen(out)["dtypes"][4] == "datetime64[ns]"


def test_other_number_types_become_the_declared_one(echo):
    out = echo.predict(
        full(1, f=pa.array([3], pa.int32()), i=pa.array([4.0]), b=pa.array([1], pa.int8()))
    ).table
    assert (out["f"][0].as_py(), out["i"][0].as_py(), out["b"][0].as_py()) == (3.0, 4, True)
    assert seen(out)["dtypes"][:3] == ["float64", "int64", "bool"]
    fractions = echo.predict(full(1, i=pa.array([4.5]))).table
    assert seen(fractions)["dtypes"][1] == "float64" and fractions["i"][0].as_py() == 4.5


def test_no_rows(echo):
    out = echo.predict(full(0)).table
    assert out.num_rows == 0 and out.column_names == OUTPUTS


def test_many_rows_in_several_batches(echo):
    rows = 10_000
    values = [i / 7 for i in range(rows)]
    table = full(rows, f=pa.array(values), i=pa.array(range(rows)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=999)
    out = echo.predict(sink.getvalue().to_pybytes()).table
    assert bits(out["f"].to_pylist()) == bits(values)
    assert out["i"].to_pylist() == list(range(rows))


def test_columns_by_name_whatever_their_order(echo):
    table = full(1).select(["v", "c", "t", "s", "b", "i", "f"]).append_column("more", [["z"]])
    assert seen(echo.predict(table).table)["columns"] == [name for name, _ in INPUTS]


def test_a_missing_column_is_named(echo):
    error = echo.predict(full(1).drop_columns(["b"])).failed(400, "bad_request")
    assert "`b`" in error["message"]


@pytest.mark.parametrize(
    "column,values",
    [
        ("f", pa.array(["1"])),
        ("i", pa.array(["1"])),
        ("i", pa.array([2**63], pa.uint64())),
        ("b", pa.array([2])),
        ("s", pa.array([1])),
        ("t", pa.array(["2020-01-01"])),
        ("t", pa.array([2**62], pa.timestamp("s"))),
        ("v", pa.array([1.0])),
    ],
)
def test_a_type_that_does_not_fit(echo, column, values):
    error = echo.predict(full(1, **{column: values})).failed(400, "bad_request")
    assert f"`{column}`" in error["message"]




# What another version of pandas might do to the internals that the fast ways lean on; pandas' own
# use of them stays whole.
ONLY = """
import sys, types, warnings
import pandas.core.internals as internals
from pandas.core.internals import managers

def sabotage(whole, broken):
    def either(*args, **keywords):
        ours = "luthier_" in sys._getframe(1).f_code.co_filename.rpartition("/")[2]
        return (broken if ours else whole)(*args, **keywords)
    return either

def spoil(manager, from_arrays, column_arrays):
    block_manager = sabotage(managers.BlockManager, manager)
    internals.managers = types.SimpleNamespace(BlockManager=block_manager)
    pd.DataFrame._from_arrays = staticmethod(sabotage(pd.DataFrame._from_arrays, from_arrays))
    pd.DataFrame._iter_column_arrays = sabotage(pd.DataFrame._iter_column_arrays, column_arrays)

whole = managers.BlockManager, pd.DataFrame._from_arrays, pd.DataFrame._iter_column_arrays
"""
SABOTAGE = {
    "gone": """
def gone(*args, **keywords):
    raise AttributeError("gone")
spoil(gone, gone, gone)
""",
    "wrong": """
spoil(
    lambda blocks, axes, **k: whole[0](blocks, [axes[0][::-1], axes[1]], **k),
    lambda *a, **k: whole[1](*a, **k).astype({"i": "int32"}),
    lambda frame: (frame.iloc[:, 0].to_numpy() for _ in frame),
)
""",
    "deprecated": """
def warn(whole):
    def wrapped(*args, **keywords):
        warnings.warn("Warning: use another", DeprecationWarning)
        return whole(*args, **keywords)
    return wrapped
warnings.simplefilter("always")
spoil(*map(warn, whole))
""",
}


@pytest.mark.parametrize("how", SABOTAGE)
@pytest.mark.parametrize("env", WITH_PANDAS)
def test_a_pandas_whose_internals_differ(env, how):
    with Runner(env, {"package.py": ECHO + ONLY + SABOTAGE[how]}, INPUTS, OUTPUTS) as runner:
        runner.ready()
        table = full(2, f=pa.array([1.5, -0.0]), i=pa.array([2**60 + 1, 3]))
        for _ in range(2):
            out = runner.predict(table).table
            assert bits(out["f"].to_pylist()) == bits([1.5, -0.0])
            assert out["i"].to_pylist() == [2**60 + 1, 3]
            saw = seen(out)
            assert saw["columns"] == [name for name, _ in INPUTS]
            assert saw["dtypes"][:4] == ["float64", "int64", "bool", "object"]
        assert "Warning" not in runner.log.read_text()


# Says of every cell what it is, and changes what it got.
TEXTS = """
import pandas as pd

class Model:
    def predict(self, df):
        out = pd.DataFrame({c: [type(v).__name__ + ":" + str(v) for v in df[c]] for c in df})
        assert list(df.dtypes) == [object, object]
        df.loc[:, "a"] = "gone"
        df.iloc[0, 1] = "gone"
        return out

def get_model():
    return Model()
"""


@pytest.fixture(scope="module", params=WITH_PANDAS)
def texts(request):
    inputs = [("a", "str"), ("b", "category")]
    with Runner(request.param, {"package.py": TEXTS}, inputs, ["a", "b"]) as runner:
        yield runner.ready()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), None])
@pytest.mark.parametrize("rows", [63, 64, 5000])
def test_text_that_repeats_and_text_that_does_not(texts, kind, rows):
    words = ["a", None, "", "é\U0001f40d", "a\x00b", "None", "x" * 1000]
    columns = {
        "a": [words[i % 7] for i in range(rows)],
        # Different ones, then one that was there before, then other columns' words.
        "b": [f"word {i}" if i % 5 else "word 1" for i in range(rows - 7)] + words,
    }
    arrays = [pa.array(values, kind or pa.string()) for values in columns.values()]
    if kind is None:
        arrays = [array.dictionary_encode() for array in arrays]
    table = pa.table(arrays, names=["a", "b"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=999)
    for _ in range(2):
        out = texts.predict(sink.getvalue().to_pybytes()).table
        for name, values in columns.items():
            assert out[name].to_pylist() == [f"{type(v).__name__}:{v}" for v in values]
