"""Median milliseconds of one-row predicts in process: python direct.py PACKAGE_DIR ROW_JSON."""

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
times = []
deadline = time.perf_counter() + 2.0
while time.perf_counter() < deadline:
    start = time.perf_counter()
    model.predict(frame)
    times.append(time.perf_counter() - start)
print(statistics.median(times) * 1000.0)
