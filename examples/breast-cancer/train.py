"""Trains the breast-cancer model inside its own environment.

    python train.py OUT

writes OUT/model.pkl (a scikit-learn pipeline) and OUT/data.csv (every row of the dataset that
scikit-learn ships, with the target and a model output column).
"""

import pickle
import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(out: Path) -> None:
    bunch = load_breast_cancer(as_frame=True)
    inputs = bunch.data.rename(columns=lambda name: name.replace(" ", "_"))
    # scikit-learn codes malignant as 0; the model predicts the probability of malignancy.
    malignant = (bunch.target == 0).astype("int64")

    model = make_pipeline(
        StandardScaler(),
        RandomForestClassifier(n_estimators=50, max_depth=6, random_state=0),
    )
    model.fit(inputs, malignant)

    with open(out / "model.pkl", "wb") as file:
        pickle.dump(model, file)
    data = inputs.assign(malignant=malignant)
    data["probability_malignant"] = model.predict_proba(inputs)[:, 1]
    data.to_csv(out / "data.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
