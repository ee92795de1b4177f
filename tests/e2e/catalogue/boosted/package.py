"""Progress of diabetes after a year, by the image's three boosting libraries; needs nothing else."""

from pathlib import Path

import catboost
import lightgbm
import pandas as pd
import xgboost

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self) -> None:
        self.cat = catboost.CatBoostRegressor()
        self.cat.load_model(str(PACKAGE_PATH / "cat.cbm"))
        self.light = lightgbm.Booster(model_file=str(PACKAGE_PATH / "light.txt"))
        self.extreme = xgboost.Booster(model_file=str(PACKAGE_PATH / "extreme.json"))

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "cat": self.cat.predict(input_df),
                "light": self.light.predict(input_df),
                "extreme": self.extreme.predict(xgboost.DMatrix(input_df)).astype("float64"),
            }
        )


def get_model() -> Model:
    return Model()
