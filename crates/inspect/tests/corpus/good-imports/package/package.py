"""Imports that may fail, and imports that never run."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import constants
from .steps import scale
from .steps.clip import clip

try:
    import ujson as json
except ImportError:
    import json

try:
    import shap
except ModuleNotFoundError:
    shap = None

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

with contextlib.suppress(ImportError):
    import matplotlib.pyplot as plt

if TYPE_CHECKING:
    import torch


class Model:
    def predict(self, input_df: pd.DataFrame) -> pd.DataFrame:
        values = clip(scale(input_df.to_numpy()))
        return pd.DataFrame({constants.OUTPUT: np.asarray(values).sum(axis=1)})


def get_model() -> Model:
    import scipy.special

    return Model()


if __name__ == "__main__":
    import pytest

    pytest.main()
