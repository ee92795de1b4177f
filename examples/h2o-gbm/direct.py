"""Calls the model through H2O's own Python interface, without `package.py` and without Luthier.

    python direct.py MODEL_ZIP DATA_CSV OUTPUT_JSON

Predicts every row in one call. Floats are written in hexadecimal, so that a comparison is bit for bit.
"""

import json
import sys

import h2o

from package import start


def main(model: str, data: str, output: str) -> None:
    start()
    words = {name: "enum" for name in ("DPROS", "DCAPS")}
    frame = h2o.import_file(data, col_types=words)
    predictions = h2o.import_mojo(model).predict(frame)
    rows = h2o.as_list(predictions["yes"], use_pandas=False, header=False)
    answer = {
        "h2o": h2o.__version__,
        "predictions": {"probability_penetrated": [float(row[0]).hex() for row in rows]},
    }
    with open(output, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
