"""XGBoost in its own formats."""

import xgboost as xgb
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = xgb.Booster()
        self.model.load_model(PACKAGE_PATH / "model.json")
        self.model.load_model(PACKAGE_PATH / "model.ubj")

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(xgb.DMatrix(input_df))})


def get_model():
    return Model()
