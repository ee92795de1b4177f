"""A MOJO of another H2O."""

import h2o
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        h2o.init(ip="127.0.0.1")
        self.model = h2o.import_mojo(str(PACKAGE_PATH / "model.zip"))

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model.predict(input_df)})


def get_model():
    return Model()
