"""CatBoost, both ways."""

import pickle

from catboost import CatBoostClassifier
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = CatBoostClassifier().load_model(str(PACKAGE_PATH / "model.cbm"))
        self.other = pickle.load(open(PACKAGE_PATH / "model.pkl", "rb"))

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
