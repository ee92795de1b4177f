"""What a model returned, checked and turned into plain buffers.

A column leaves as `(kind, values, valid)`: `f` float64 bytes, `i` int64 bytes, `b` bool bytes, `s`
a list of text and `None`. `valid` is one byte per row where a value can be missing, else `None`.
"""

import warnings

import numpy as np
import pandas as pd

DataFrame = pd.DataFrame


class Wrong(Exception):
    """The result does not fit the model's spec."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def columns(result, outputs, rows):
    """The columns of `result` named `outputs`, in that order."""
    if not isinstance(result, DataFrame):
        kind = type(result)
        raise Wrong(
            "not_a_data_frame",
            "predict must return a pandas DataFrame, but returned "
            f"{kind.__module__}.{kind.__qualname__}",
        )
    names = result.columns.tolist()
    if names != outputs and (len(names) != len(outputs) or set(names) != set(outputs)):
        raise Wrong(
            "wrong_columns",
            f"predict returned the columns {names!r}, but the model's outputs are {outputs!r}",
        )
    if len(result) != rows:
        raise Wrong(
            "wrong_rows", f"predict returned {len(result)} rows for an input of {rows} rows"
        )
    arrays = column_arrays(result)
    if names == outputs:
        return [column(name, array) for name, array in zip(names, arrays)]
    return [column(name, arrays[names.index(name)]) for name in outputs]


def slow_arrays(frame):
    """The columns as arrays of numpy's or pandas' own, with public pandas only."""
    columns = [frame.iloc[:, at] for at in range(frame.shape[1])]
    return [c.to_numpy() if isinstance(c.dtype, np.dtype) else c.array for c in columns]


def fast_arrays(frame):
    """The same without a Series per column; leans on pandas' internals."""
    return list(frame._iter_column_arrays())


def numpy_array(array):
    """An array of numpy's; pandas' own types as objects, where a missing integer does not make
    floats of the others."""
    if isinstance(array.dtype, np.dtype):
        return np.asarray(array)
    return np.asarray(array.astype(object))


def choose_arrays():
    """`fast_arrays`, if that gives the same in this version of pandas."""
    frame = pd.DataFrame({"f": [0.5, -0.0], "i": [1, 2], "g": [3.5, float("nan")]})
    frame["s"] = pd.Series(["x", None], dtype=object)
    frame["b"] = [True, False]
    frame["n"] = pd.array([1, None], dtype="Int64")
    frame["c"] = pd.Categorical(["u", "v"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fast = [numpy_array(a) for a in fast_arrays(frame)]
        slow = [numpy_array(a) for a in slow_arrays(frame)]
        if len(fast) == len(slow) and all(
            one.dtype == two.dtype and repr(one.tolist()) == repr(two.tolist())
            for one, two in zip(fast, slow)
        ):
            return fast_arrays
    except Exception:
        pass
    return slow_arrays


column_arrays = choose_arrays()


def column(name, array):
    """One column in plain form."""
    if type(array) is not np.ndarray:
        array = numpy_array(array)
    kind = array.dtype.kind
    if kind == "f":
        return ("f", array.astype(np.float64, copy=False).tobytes(), None)
    if kind == "i":
        return ("i", array.astype(np.int64, copy=False).tobytes(), None)
    if kind == "b":
        return ("b", array.tobytes(), None)
    if kind == "u":
        if len(array) and int(array.max()) > np.iinfo(np.int64).max:
            raise Wrong("wrong_values", f"output {name!r} holds integers above 2**63 - 1")
        return ("i", array.astype(np.int64).tobytes(), None)
    if kind == "U":
        return ("s", array.tolist(), None)
    if kind != "O":
        raise Wrong(
            "wrong_values",
            f"output {name!r} has the type {array.dtype}; only numbers, booleans and text are taken",
        )
    return mixed(name, [plain(name, value) for value in array.tolist()])


def plain(name, value):
    """A Python scalar, or `None` for a missing value."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)):
        return value
    kind = type(value)
    raise Wrong(
        "wrong_values",
        f"output {name!r} holds a value of type {kind.__module__}.{kind.__qualname__}; only numbers,"
        " booleans and text are taken",
    )


def mixed(name, values):
    """A column of objects, as the one type that all its values have."""
    nan = [isinstance(value, float) and value != value for value in values]
    # What is not missing in text and booleans; NaN is a value among numbers only.
    kinds = {type(v) for v, n in zip(values, nan) if v is not None and not n}
    if kinds <= {str} and (kinds or not any(nan)):
        return ("s", [None if n else v for v, n in zip(values, nan)], None)
    if kinds == {bool}:
        valid = bytes(v is not None and not n for v, n in zip(values, nan))
        flags = bytes(bool(v) if ok else False for v, ok in zip(values, valid))
        return ("b", flags, valid)
    if kinds == {int} and not any(nan):
        valid = bytes(v is not None for v in values)
        try:
            numbers = np.array([0 if v is None else v for v in values], np.int64)
        except OverflowError:
            raise Wrong(
                "wrong_values", f"output {name!r} holds integers beyond 64 bits"
            ) from None
        return ("i", numbers.tobytes(), valid)
    if kinds <= {int, float}:
        valid = bytes(v is not None for v in values)
        numbers = np.array([0.0 if v is None else float(v) for v in values], np.float64)
        return ("f", numbers.tobytes(), valid)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise Wrong("wrong_values", f"output {name!r} mixes values of the types {names}")
