"""A BentoML service of one worker that takes and gives frames."""

import bentoml
import package
import pandas as pd


@bentoml.service(workers=1, traffic={"timeout": 60})
class Service:
    def __init__(self):
        self.model = package.model()

    @bentoml.api(route="/predict")
    def predict(self, df: pd.DataFrame) -> pd.DataFrame:
        return self.model.predict(df)
