"""The method has another name."""

import pandas as pd


class Model:
    def transform(self, input_df):
        return pd.DataFrame({"score": input_df.sum(axis=1)})


def get_model():
    return Model()
