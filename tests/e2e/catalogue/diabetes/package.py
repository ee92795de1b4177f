"""Progress of diabetes after a year: a random forest over numbers and a word."""

import pickle
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self) -> None:
        with open(PACKAGE_PATH / "model.pkl", "rb") as file:
            self.pipeline = pickle.load(file)

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"predicted": self.pipeline.predict(input_df)})


def get_model() -> Model:
    return Model()
