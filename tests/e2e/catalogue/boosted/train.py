"""python train.py OUT: writes OUT/cat.cbm, OUT/light.txt, OUT/extreme.json and OUT/data.csv."""

import sys
from pathlib import Path

import catboost
import lightgbm
import xgboost
from sklearn.datasets import load_diabetes


def main(out: Path) -> None:
    data = load_diabetes(as_frame=True).frame
    inputs, target = data.drop(columns="target"), data["target"]
    cat = catboost.CatBoostRegressor(
        iterations=50, random_seed=0, logging_level="Silent", allow_writing_files=False
    )
    cat.fit(inputs, target)
    cat.save_model(str(out / "cat.cbm"))
    light = lightgbm.train(
        {"objective": "regression", "verbose": -1, "num_threads": 1, "seed": 0},
        lightgbm.Dataset(inputs, target),
        num_boost_round=50,
    )
    light.save_model(str(out / "light.txt"))
    extreme = xgboost.train({"seed": 0, "nthread": 1}, xgboost.DMatrix(inputs, target), 50)
    extreme.save_model(str(out / "extreme.json"))
    data.assign(
        cat=cat.predict(inputs),
        light=light.predict(inputs),
        extreme=extreme.predict(xgboost.DMatrix(inputs)).astype("float64"),
    ).to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
