"""The usual way to serve a package: Flask, one process, JSON to DataFrame and back."""

import importlib.util
import os
import sys

import pandas as pd
from flask import Flask, Response, request

directory = os.environ["PACKAGE"]
sys.path.insert(0, directory)
spec = importlib.util.spec_from_file_location("package", directory + "/package.py")
package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
model = package.get_model()

app = Flask(__name__)


@app.post("/predict")
def predict():
    result = model.predict(pd.DataFrame(request.get_json()))
    return Response(result.to_json(orient="records"), mimetype="application/json")
