"""Trained with another scikit-learn."""

import joblib
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = joblib.load(PACKAGE_PATH / "model.joblib")

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
