from .. import constants


def scale(values):
    return values / len(constants.OUTPUT)
