"""Features of our own."""

from sklearn.base import BaseEstimator, TransformerMixin

from columns import NUMBERS


class Ratio(BaseEstimator, TransformerMixin):
    def fit(self, frame, target=None):
        return self

    def transform(self, frame):
        return frame.assign(**{NUMBERS[0]: frame[NUMBERS[0]] / (1 + frame[NUMBERS[1]])})
