"""The package in the directory $PACKAGE, as every peer loads it."""

import importlib.util
import os


def model():
    path = os.path.join(os.environ["PACKAGE"], "package.py")
    spec = importlib.util.spec_from_file_location("package", path)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package.get_model()
