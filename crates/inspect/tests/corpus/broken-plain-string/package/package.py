"""The path is written in a plain string, and the file is not there."""

import pickle
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        with open("{PACKAGE_PATH}/model.pkl", "rb") as file:
            self.model = pickle.load(file)

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
