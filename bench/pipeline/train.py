"""Trains the pipeline on made-up data: python train.py OUT."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = [f"num_{i}" for i in range(10)]
WORDS = [f"cat_{i}" for i in range(10)]
LEVELS = ["alpha", "bravo", "charlie", "delta", "echo"]


def main(out: Path) -> None:
    rng = np.random.default_rng(7)
    rows = 8000
    data = pd.DataFrame({name: rng.normal(50.0, 15.0, rows).round(3) for name in NUMBERS})
    for name in WORDS:
        data[name] = rng.choice(LEVELS, rows)
    score = (data["num_0"] - data["num_1"]) / 15.0 + (data["cat_0"] == "alpha") * 1.5
    target = (rng.random(rows) < 1.0 / (1.0 + np.exp(-score))).astype(int)
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", StandardScaler(), NUMBERS),
                ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), WORDS),
            ]
        ),
        GradientBoostingClassifier(n_estimators=200, max_depth=4, random_state=0),
    )
    model.fit(data, target)
    with open(out / "model.pkl", "wb") as file:
        pickle.dump(model, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
