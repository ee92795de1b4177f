"""Probability that a woman is a case of the study `infert`, by a logistic regression made in R.

R belongs to the thread that started it, and `predict` is called from several threads. So R has a
thread of its own here, on which it is started, loads the model and predicts.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

PACKAGE_PATH = Path(__file__).parent

# Gets the columns as a named list; a missing value gives a missing prediction.
PREDICT = """
function(model, columns) {
  rows <- structure(columns, class = "data.frame",
                    row.names = .set_row_names(length(columns[[1]])))
  predict(model, newdata = rows, type = "response")
}
"""

FACTOR = 'function(codes, levels) structure(codes, levels = levels, class = "factor")'


class Model:
    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="R")
        self.thread.submit(self.start).result()

    def start(self) -> None:
        import rpy2.rinterface as r

        # That is the purpose of the thread; nobody presses Ctrl-C here.
        warnings.filterwarnings("ignore", "R is not initialized by the main thread")
        r.initr()
        self.r = r
        self.model = r.baseenv["readRDS"](str(PACKAGE_PATH / "model.rds"))
        self.predict_rows = r.evalr(PREDICT)
        self.factor = r.evalr(FACTOR)

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        answer = self.thread.submit(self.on_thread, input_df).result()
        if isinstance(answer, str):
            raise ValueError(answer)
        return pd.DataFrame({"probability_case": answer})

    def on_thread(self, input_df: pd.DataFrame):
        try:
            columns = self.r.ListSexpVector([self.vector(input_df[name]) for name in input_df])
            columns.names = self.r.StrSexpVector(list(input_df))
            # A copy, since the memory is R's.
            return np.array(self.predict_rows(self.model, columns).memoryview())
        except self.r.embedded.RRuntimeError as error:
            # Only its words leave the thread: its traceback holds objects of R, which would be
            # released wherever it is dropped.
            return str(error)

    def vector(self, column: pd.Series):
        """A column as an R vector: numbers in one copy, words as a factor."""
        if column.dtype != object:
            numbers = np.ascontiguousarray(column, dtype="float64")
            return self.r.FloatSexpVector.from_memoryview(memoryview(numbers))
        # A missing word has the code -1.
        codes, levels = pd.factorize(column)
        codes = np.where(codes < 0, self.r.NA_Integer, codes + 1).astype("int32")
        return self.factor(
            self.r.IntSexpVector.from_memoryview(memoryview(codes)),
            self.r.StrSexpVector([str(level) for level in levels]),
        )


def get_model() -> Model:
    return Model()
