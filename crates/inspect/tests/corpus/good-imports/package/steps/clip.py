import numpy


def clip(values):
    return numpy.clip(values, 0, 1)
