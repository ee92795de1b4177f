"""Saved with a newer XGBoost."""

import xgboost as xgb
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = xgb.Booster(model_file=PACKAGE_PATH / "model.json")

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
