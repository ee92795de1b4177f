"""Calls a package's model directly, without Luthier.

    python direct.py PACKAGE_DIR DATA_CSV OUTPUT_JSON COLUMN...

Reads the named input columns of DATA_CSV, predicts every row in one call and writes the answer with
the versions it ran under. Floats are written in hexadecimal, so that a comparison is bit for bit.
"""

import importlib.util
import json
import platform
import sys
from importlib import metadata

import pandas as pd


def main(directory: str, data: str, output: str, columns: list) -> None:
    # Before the package is imported, which may bring setuptools with copies of its own on the path.
    installed = {found.metadata["Name"].lower(): found.version for found in metadata.distributions()}
    sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location("package", f"{directory}/package.py")
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)

    inputs = pd.read_csv(data, float_precision="round_trip")[columns]
    predictions = package.get_model().predict(inputs)
    answer = {
        "python": platform.python_version(),
        "packages": installed,
        "predictions": {
            name: [float(value).hex() for value in predictions[name]] for name in predictions
        },
    }
    with open(output, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
