"""Median milliseconds of one-row predicts in process: python direct.py PACKAGE_DIR ROW_JSON.

Prints two: call upon call, and each after a pause, as a server makes between requests. After a pause the caches and
the processor's predictors have to warm up again; no server can be faster than that plus its own work.
"""

import importlib.util
import json
import statistics
import sys
import time

import pandas as pd

directory = sys.argv[1]
spec = importlib.util.spec_from_file_location("package", directory + "/package.py")
package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
model = package.get_model()
frame = pd.DataFrame([json.loads(sys.argv[2])])


def measured(pause: float) -> float:
    times = []
    deadline = time.perf_counter() + 2.0
    while time.perf_counter() < deadline:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        model.predict(frame)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000.0


print(measured(0.0), measured(0.0003))
