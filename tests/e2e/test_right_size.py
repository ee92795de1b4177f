"""What a model uses is measured, kept, and made into a setting that holds."""

import json
import re

import fiddler as fdl

import harness
import packages

# Takes memory while it loads and, more, for large tables.
PACKAGE = """
    import pandas as pd

    class Model:
        def __init__(self):
            self.weights = bytearray(60 << 20)

        def predict(self, df):
            work = bytearray((40 << 20) if len(df) > 100 else 0)
            sum(range(100_000))
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""


def sizing(server, model):
    return server.get(f"/v3/models/{model.id}/deployment")["sizing"]


def test_the_size_of_a_model(own_server, tmp_path):
    server = own_server()
    project = fdl.Project(name="sized").create()
    model = packages.model(project)
    job = packages.deploy(model, packages.write(tmp_path / "p", PACKAGE), memory=2048)
    detail = server.get(f"/v1/jobs/{job.id}")
    told = [line["line"] for line in detail["log"] if line["step"] == "await_ready"]
    assert any(re.search(r"memory: far more than it uses: peaked at \d+ of 2048 MiB", t) for t in told), told
    (ready,) = [s for s in detail["steps"] if s["name"] == "await_ready"]
    first = ready["result"]["sizing"]
    assert 60 << 20 < first["load_peak"] < 400 << 20
    assert first["memory"]["fit"] == "too_large"
    # So little traffic says nothing of CPU.
    assert first["cpu"]["setting"] is None and "20 requests" in first["cpu"]["reason"]

    large = packages.DATA.loc[[0] * 500].reset_index(drop=True)
    model.predict(df=large)
    for _ in range(30):
        model.predict(df=packages.DATA)

    def measured():
        seen = sizing(server, model)
        return seen if seen["requests"] >= 31 else None

    seen = harness.wait_for(measured, "the requests to be counted")
    assert seen["requests"] == 31 and seen["rows"] == 500 + 30 * 4 and seen["most_rows"] == 500
    assert seen["serve_peak"] > seen["load_peak"] + (20 << 20)
    assert "while serving up to 500 rows at a time" in seen["memory"]["reason"]
    assert 0.5 < seen["cpu_ms_per_request"] < 500
    assert seen["cpu_ms_per_row"] < seen["cpu_ms_per_request"]

    shown = server.cli("size", "sized/model")
    assert f"proposed memory" in shown.stdout and "peaked at" in shown.stdout, shown
    assert json.loads(server.cli("size", "sized/model", "--json").stdout)["requests"] == 31
    assert f"memory={seen['memory']['setting']}" in server.cli("ps").stdout

    # A server that starts anew still knows, and the proposed memory suffices.
    server.kill()
    server.start()
    assert sizing(server, model)["requests"] == 31
    deployment = fdl.ModelDeployment.of(model_id=model.id)
    deployment.memory = seen["memory"]["setting"]
    deployment.update().wait(interval=1)
    model.predict(df=large)
    assert model.predict(df=packages.DATA)["score"][1] == 5.0
    assert sizing(server, model)["memory"]["fit"] == "fits"
    assert server.get(f"/v1/models/{model.id}/failures")["items"] == []
