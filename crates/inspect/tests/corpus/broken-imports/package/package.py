"""Imports that cannot work on the image."""

import distutils.util
import imp

import cv2
import yaml as configuration

from .helpers import gone
from .nowhere import thing
from acme_scoring import Scorer


class Model:
    def predict(self, input_df):
        import nltk

        return input_df


def get_model():
    return Model()
