"""PyTorch, in its three formats."""

import torch

from net import Net
from pathlib import Path

import pandas as pd

PACKAGE_PATH = Path(__file__).parent


class Model:
    def __init__(self):
        self.model = Net()
        self.model.load_state_dict(torch.load(PACKAGE_PATH / "weights.pt"))
        self.whole = torch.load(PACKAGE_PATH / "whole.pth")
        self.script = torch.jit.load(PACKAGE_PATH / "script.pt")

    def predict(self, input_df):
        return pd.DataFrame({"score": self.model(torch.tensor(input_df.to_numpy())).numpy()[:, 0]})


def get_model():
    return Model()
