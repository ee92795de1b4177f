"""Packed in every way joblib has."""

import joblib
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.models = [joblib.load(p) for p in PACKAGE_PATH.glob("*.pkl")]

    def predict(self, input_df):
        return pd.DataFrame({"score": self.models[0].predict(input_df)})


def get_model():
    return Model()
