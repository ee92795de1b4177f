"""What a model returned, checked and turned into plain buffers.

A column leaves as `(kind, values, valid)`: `f` float64 bytes, `i` int64 bytes, `b` bool bytes, `s`
a list of text and `None`. `valid` is one byte per row where a value can be missing, else `None`.
"""

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
    if len(names) == 1:
        return [column(names[0], values(result[names[0]]))]
    if names == outputs:
        order = range(len(outputs))
    else:
        order = [names.index(name) for name in outputs]
    kinds = {dtype for dtype in result.dtypes}
    if len(kinds) == 1 and isinstance(next(iter(kinds)), np.dtype):
        # One dtype: the frame as one array, without a Series per column.
        table = result.to_numpy()
        return [column(names[at], table[:, at]) for at in order]
    return [column(names[at], values(result.iloc[:, at])) for at in order]


def values(series):
    """The values as an array of numpy's; pandas' own types as objects, where a missing integer
    does not make floats of the others."""
    if isinstance(series.dtype, np.dtype):
        return series.to_numpy()
    return series.astype(object).to_numpy()


def column(name, array):
    """One column in plain form."""
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
