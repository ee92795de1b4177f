"""Probability that a breast mass is malignant, from 30 measurements of its cell nuclei."""

import pickle
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self) -> None:
        with open(PACKAGE_PATH / "model.pkl", "rb") as file:
            self.pipeline = pickle.load(file)

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        probability = self.pipeline.predict_proba(input_df)[:, 1]
        return pd.DataFrame({"probability_malignant": probability})


def get_model() -> Model:
    return Model()
