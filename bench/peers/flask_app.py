"""The usual way to serve a package: Flask, JSON to DataFrame and back."""

import package
import pandas as pd
from flask import Flask, Response, request

model = package.model()
app = Flask(__name__)


@app.post("/predict")
def predict():
    result = model.predict(pd.DataFrame(request.get_json()))
    return Response(result.to_json(orient="records"), mimetype="application/json")
