"""Miles per gallon of a car of 1974, by a small network in TensorFlow and one in PyTorch."""

from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow
import torch

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self) -> None:
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        torch.set_num_threads(1)
        self.keras = tensorflow.keras.models.load_model(PACKAGE_PATH / "keras.h5", compile=False)
        self.torch = torch.jit.load(str(PACKAGE_PATH / "torch.pt"))

    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        inputs = input_df.to_numpy(dtype="float32")
        with torch.no_grad():
            answer = self.torch(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
        return pd.DataFrame(
            {
                "by_keras": self.keras.predict(inputs, verbose=0)[:, 0].astype("float64"),
                "by_torch": answer[:, 0].astype("float64"),
            }
        )


def get_model() -> Model:
    return Model()
