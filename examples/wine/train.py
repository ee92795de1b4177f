"""Trains the wine model inside its own environment.

    python train.py OUT

writes OUT/model.pkl (a scikit-learn pipeline) and OUT/data.csv (every row of the dataset that
scikit-learn ships, with the target and the model's output columns).
"""

import pickle
import sys
from pathlib import Path

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(out: Path) -> None:
    bunch = load_wine(as_frame=True)
    inputs = bunch.data.rename(columns=lambda name: name.replace("/", "_"))
    cultivar = bunch.target.map(lambda code: f"cultivar_{code}")

    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=0))
    model.fit(inputs, cultivar)

    with open(out / "model.pkl", "wb") as file:
        pickle.dump(model, file)
    data = inputs.assign(cultivar=cultivar)
    for position, name in enumerate(model.classes_):
        data[f"probability_{name}"] = model.predict_proba(inputs)[:, position]
    data.to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
