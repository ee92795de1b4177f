"""Trains the model inside the environment it will be served from.

    python train.py OUT

writes OUT/model.zip (the model as a MOJO) and OUT/data.csv: every row of the data set `prostate` that
H2O ships, with the target and the model's output.
"""

import sys
from pathlib import Path

import h2o
import pandas as pd
from h2o.estimators import H2OGradientBoostingEstimator

from package import start

# What the codes of the data set stand for.
WORDS = {
    "DPROS": {1: "no nodule", 2: "left lobe", 3: "right lobe", 4: "both lobes"},
    "DCAPS": {1: "no", 2: "yes"},
    "CAPSULE": {0: "no", 1: "yes"},
}
INPUTS = ["AGE", "DPROS", "DCAPS", "PSA", "VOL", "GLEASON"]


def main(out: Path) -> None:
    data = pd.read_csv(Path(h2o.__file__).parent / "h2o_data" / "prostate.csv")
    for name, words in WORDS.items():
        data[name] = data[name].map(words)
    data = data[INPUTS + ["CAPSULE"]]

    start()
    frame = h2o.H2OFrame(data, column_types={name: "enum" for name in WORDS})
    model = H2OGradientBoostingEstimator(ntrees=50, max_depth=4, learn_rate=0.05, seed=1)
    model.train(x=INPUTS, y="CAPSULE", training_frame=frame)

    model.download_mojo(str(out / "model.zip"))
    # As text, so that no digit is lost.
    answers = h2o.as_list(model.predict(frame), use_pandas=False, header=False)
    data["probability_penetrated"] = [answer[2] for answer in answers]
    data.to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
