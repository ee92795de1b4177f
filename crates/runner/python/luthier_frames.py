"""Tables into pandas and back, with as few pandas calls per request as its version allows.

A table comes as one buffer per kind of column. A `key` says the kind of every column, in order:
`F` float64, `I` int64, `B` bool, `T` datetime64[ns], `O` object, `V` object holding lists.
There are three ways to build a frame, fastest first:

1. `BlockWay`: one two-dimensional block per dtype, handed to pandas' block manager;
2. `ArraysWay`: one array per column, through `DataFrame._from_arrays`;
3. `DictWay`: `DataFrame(dict)`, public.

The first two lean on pandas' internals, so a way is used for a key only after its frames were
compared with those of `DictWay` for this very key, in this very process.
"""

import warnings

import numpy as np
import pandas as pd

DTYPES = {"F": "float64", "I": "int64", "B": "bool", "T": "datetime64[ns]"}
BLOCKS = "FIBTO"
# Keys differ from request to request only where a column has nulls in some; past this many, a
# new one is not worth the check.
MOST_KEYS = 64


def objects(values, lists):
    """A one-dimensional object array of `values`: a list, or words and the place of each cell's."""
    if type(values) is tuple:
        words, places = values
        return np.array(words, dtype=object)[np.frombuffer(places, np.int64)]
    if not lists:
        return np.array(values, dtype=object) if values else np.empty(0, dtype=object)
    array = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        array[at] = value
    return array


class Layout:
    """Which columns of a key share a block."""

    def __init__(self, key):
        kinds = key.replace("V", "O")
        self.lists = "V" in key
        # (position of the buffer, dtype, columns in the block)
        self.blocks = [
            (at, np.dtype(DTYPES.get(kind, object)), [i for i, k in enumerate(kinds) if k == kind])
            for at, kind in enumerate(BLOCKS)
            if kind in kinds
        ]

    def arrays(self, rows, buffers):
        """One array of shape (columns, rows) per block, writable."""
        out = []
        for at, dtype, columns in self.blocks:
            if at == 4:
                flat = objects(buffers[4], self.lists)
            else:
                flat = np.frombuffer(buffers[at], dtype)
            out.append(flat.reshape(len(columns), rows))
        return out

    def columns(self, rows, buffers):
        """One array per column, in order."""
        found = {}
        for (_, _, columns), array in zip(self.blocks, self.arrays(rows, buffers)):
            for i, column in enumerate(columns):
                found[column] = array[i]
        return [found[i] for i in range(len(found))]


class DictWay:
    """Public pandas only."""

    def __init__(self, layout, names):
        self.layout = layout
        self.names = names

    def build(self, rows, buffers):
        columns = {
            # Named dtypes: newer pandas would otherwise read text as its own string type.
            name: pd.Series(array, dtype=array.dtype)
            for name, array in zip(self.names, self.layout.columns(rows, buffers))
        }
        return pd.DataFrame(
            columns,
            index=pd.RangeIndex(rows),
            columns=pd.Index(self.names, dtype=object),
            copy=True,
        )


class ArraysWay:
    """One array per column, without the constructor's checks."""

    def __init__(self, layout, names):
        self.layout = layout
        self.names = names
        self.make = pd.DataFrame._from_arrays

    def build(self, rows, buffers):
        return self.make(
            self.layout.columns(rows, buffers),
            columns=pd.Index(self.names, dtype=object),
            index=pd.RangeIndex(rows),
            verify_integrity=False,
        )


class BlockWay:
    """One block per dtype, handed to the block manager."""

    def __init__(self, layout, names):
        from pandas._libs.internals import BlockPlacement
        from pandas.core.internals import blocks, managers

        self.layout = layout
        self.index = pd.Index(names, dtype=object)
        self.manager = managers.BlockManager
        make = getattr(pd.DataFrame, "_from_mgr", None)
        # The method of this name in pandas 1 is another one.
        takes_axes = make is not None and "axes" in make.__func__.__code__.co_varnames
        self.from_manager = make if takes_axes else None
        self.parts = []
        for at, dtype, columns in layout.blocks:
            sample = np.empty((len(columns), 1), dtype)
            placement = BlockPlacement(columns)
            block = blocks.new_block(sample, placement=placement, ndim=2)
            wrap = blocks.maybe_coerce_values if dtype.kind == "M" else None
            self.parts.append((at, dtype, len(columns), type(block), placement, wrap))

    def build(self, rows, buffers):
        made = []
        for at, dtype, width, block, placement, wrap in self.parts:
            if at == 4:
                array = objects(buffers[4], self.layout.lists)
            else:
                array = np.frombuffer(buffers[at], dtype)
            array = array.reshape(width, rows)
            if wrap is not None:
                array = wrap(array)
            made.append(block(array, placement=placement, ndim=2))
        # `_view` shares the look-up table of the names, but not what a package may set on an
        # index, such as its name.
        axes = [self.index._view(), pd.RangeIndex(rows)]
        manager = self.manager(tuple(made), axes, verify_integrity=False)
        if self.from_manager is None:
            return pd.DataFrame(manager)
        return self.from_manager(manager, axes)


WAYS = [BlockWay, ArraysWay, DictWay]


class Frames:
    """Builds frames with the columns `names`."""

    def __init__(self, names):
        self.names = list(names)
        self.chosen = {}
        self.keys = 0

    def build(self, key, rows, buffers):
        """The frame of one request."""
        build = self.chosen.get(key)
        if build is None:
            build = self.choose(key)
        return build(rows, buffers)

    def choose(self, key):
        """The fastest way whose frames are those of the slow way."""
        layout = Layout(key)
        build = DictWay(layout, self.names).build
        self.keys += 1
        if self.keys <= MOST_KEYS and key:
            build = self.fastest(key, layout)
            self.chosen[key] = build
        return build

    def fastest(self, key, layout):
        slow = DictWay(layout, self.names).build
        for way in WAYS[:-1]:
            try:
                with warnings.catch_warnings():
                    # A deprecated way is not one to use: it would warn on every request.
                    warnings.simplefilter("error")
                    fast = way(layout, self.names).build
                    fast(1, sample(key, 1))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if alike(fast, slow, key):
                        return fast
            except Exception:
                continue
        return slow

    def way(self, key):
        """The name of the way chosen for `key`."""
        owner = getattr(self.chosen.get(key), "__self__", None)
        return type(owner).__name__


def sample(key, rows):
    """Buffers as the server makes them, for comparing ways."""
    buffers = [None] * 5
    for at, dtype, columns in Layout(key).blocks:
        count = len(columns) * rows
        if at == 4:
            texts = ["a", "", "\u00e9\U0001f40d", None]
            buffers[4] = [
                [float(i)] if key[columns[i // max(rows, 1)]] == "V" else texts[i % 4]
                for i in range(count)
            ]
        elif dtype.kind == "b":
            buffers[at] = bytearray(i % 2 for i in range(count))
        else:
            buffers[at] = bytearray((np.arange(count) * 3 - 1).astype(dtype).tobytes())
    return buffers


def alike(fast, slow, key):
    """Whether both ways make the same frames, and frames that behave the same."""
    for rows in (0, 1, 3):
        if not same(fast(rows, sample(key, rows)), slow(rows, sample(key, rows))):
            return False
    for change in CHANGES:
        if not same(change(fast(3, sample(key, 3))), change(slow(3, sample(key, 3)))):
            return False
    # What a package did to one frame must not show in the next.
    return same(fast(3, sample(key, 3)), slow(3, sample(key, 3)))


def same(one, two):
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and pd.DataFrame(one).equals(pd.DataFrame(two))
    if not isinstance(one, pd.DataFrame):
        return repr(one) == repr(two)
    return (
        one.shape == two.shape
        and list(one.dtypes) == list(two.dtypes)
        and same_index(one.columns, two.columns)
        and same_index(one.index, two.index)
        and one.equals(two)
    )


def same_index(one, two):
    return (
        type(one) is type(two)
        and one.dtype == two.dtype
        and one.name == two.name
        and one.equals(two)
    )


def rename_axes(frame):
    frame.columns.name, frame.index.name = "c", "i"
    return frame


def overwrite(frame):
    frame[frame.columns[-1]] = 1.5
    frame["another"] = "x"
    return frame


def write_cells(frame):
    if len(frame):
        frame.iloc[0, 0] = frame.iloc[len(frame) - 1, 0]
        frame.loc[0, frame.columns[-1]] = frame.iloc[len(frame) - 1, -1]
    return frame


CHANGES = [
    rename_axes,
    overwrite,
    write_cells,
    lambda frame: frame.copy(),
    lambda frame: frame.to_numpy(),
    lambda frame: frame.iloc[:1],
    lambda frame: frame.iloc[::-1].reset_index(drop=True),
    lambda frame: frame.assign(another=1),
    lambda frame: frame.drop(columns=[frame.columns[0]]),
    lambda frame: frame[list(frame.columns[::-1])],
    lambda frame: frame.isna(),
    lambda frame: frame.select_dtypes(include=["float64", "int64"]),
    lambda frame: frame.to_dict("records"),
    lambda frame: [type(value).__name__ for value in frame[frame.columns[-1]]],
    lambda frame: pd.concat([frame, frame], ignore_index=True),
]
