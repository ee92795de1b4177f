"""Median milliseconds of predicts in process: python direct.py PACKAGE_DIR ROWS_JSON_FILE.

Prints three: one row, call upon call; one row, each after a pause, as a server makes between requests (after a pause the
caches and the processor's predictors have to warm up again; no server can be faster than that plus its own work); and
all rows of the file at once, also after a pause.
"""

import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path

import pandas as pd

os.environ["PACKAGE"] = sys.argv[1]
sys.path.insert(0, str(Path(__file__).parent / "peers"))
import package  # noqa: E402  (of the peers: they load it so too)

model = package.model()
rows = json.loads(Path(sys.argv[2]).read_text())
gc.freeze()


def measured(frame: pd.DataFrame, pause: float, seconds: float) -> float:
    times = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times) < 5:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        model.predict(frame)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000.0


one, many = pd.DataFrame(rows[:1]), pd.DataFrame(rows)
print(measured(one, 0.0, 0.7), measured(one, 0.0003, 0.7), measured(many, 0.01, 0.7))
