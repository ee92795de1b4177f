"""python train.py OUT: writes OUT/model.pkl and OUT/data.csv."""

import pickle
import sys
from pathlib import Path

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def main(out: Path) -> None:
    data = load_diabetes(as_frame=True, scaled=False).frame
    data["sex"] = data["sex"].map({1.0: "one", 2.0: "two"})
    inputs = data.drop(columns="target")
    words = make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough")
    model = make_pipeline(words, RandomForestRegressor(n_estimators=20, random_state=0))
    model.fit(inputs, data["target"])
    with open(out / "model.pkl", "wb") as file:
        pickle.dump(model, file)
    data.assign(predicted=model.predict(inputs)).to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
