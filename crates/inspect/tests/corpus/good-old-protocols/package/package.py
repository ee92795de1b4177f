"""Pickled by every protocol."""

import pickle
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.models = [pickle.load(open(p, "rb")) for p in PACKAGE_PATH.glob("*.pkl")]

    def predict(self, input_df):
        return pd.DataFrame({"score": self.models[0].predict(input_df)})


def get_model():
    return Model()
