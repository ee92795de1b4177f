"""Which of three cultivars an Italian wine was made from, by 13 chemical measurements."""

import pickle
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self) -> None:
        with open(PACKAGE_PATH / "model.pkl", "rb") as file:
            self.pipeline = pickle.load(file)

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        probabilities = self.pipeline.predict_proba(input_df)
        columns = [f"probability_{name}" for name in self.pipeline.classes_]
        return pd.DataFrame(probabilities, columns=columns)


def get_model() -> Model:
    return Model()
