"""LightGBM in its own format."""

import lightgbm as lgb
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = lgb.Booster(model_file=str(PACKAGE_PATH / "model.txt"))

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
