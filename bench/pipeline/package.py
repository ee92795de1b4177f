"""A scikit-learn pipeline of 20 columns: scaling, one-hot encoding, 200 boosted trees."""

import pickle
from pathlib import Path

import pandas as pd


class Model:
    def __init__(self) -> None:
        with open(Path(__file__).parent / "model.pkl", "rb") as file:
            self.pipeline = pickle.load(file)

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"probability": self.pipeline.predict_proba(input_df)[:, 1]})


def get_model() -> Model:
    return Model()
