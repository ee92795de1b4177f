"""Logs, metrics, traces, the audit log and request ids, as an operator sees them."""

import io
import json
import os
import re
import subprocess
import threading

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

import harness
import packages

TALKER = """
    import os
    import pandas as pd

    print("loaded by", os.getpid(), flush=True)

    class Model:
        def predict(self, df):
            if (df["a"] < 0).any():
                raise ValueError("a is negative")
            if (df["a"] > 900).any():
                print("the end comes", flush=True)
                os._exit(7)
            print("asked for", len(df), flush=True)
            return pd.DataFrame({"score": df["a"] * 2.0 + df["b"]})

    def get_model():
        return Model()
"""


@pytest.fixture(scope="module")
def talker(server, tmp_path_factory):
    """A model that writes, in a project of its own."""
    import fiddler as fdl

    fdl.init(url=server.url, token=server.token)
    project = fdl.Project(name="seeing").create()
    model = packages.model(project, "talker")
    packages.deploy(model, packages.write(tmp_path_factory.mktemp("talker"), TALKER))
    yield model
    project.delete()


def ask(server, model, a: float, **headers):
    body = {"model_id": str(model.id), "data": [{"a": a, "b": 1.0, "name": "x"}]}
    headers = {"Authorization": f"Bearer {server.token}", **headers}
    return requests.post(server.url + "/v3/predict", json=body, headers=headers)


def scrape(server, token=None):
    answer = requests.get(
        server.url + "/metrics", headers={"Authorization": f"Bearer {token or server.token}"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def value(samples, name, **labels):
    """The sum of the samples that have these labels."""
    wanted = set(labels.items())
    found = [v for (n, l), v in samples.items() if n == name and wanted <= set(l)]
    assert found, f"no {name} with {labels}"
    return sum(found)


def test_requests_have_ids(server, talker):
    given = ask(server, talker, 1.0, **{"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = {ask(server, talker, 1.0).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3 and all(re.fullmatch("[0-9a-f]{32}", id) for id in made)
    odd = ask(server, talker, 1.0, **{"X-Request-Id": "no good id"})
    assert re.fullmatch("[0-9a-f]{32}", odd.headers["x-request-id"])
    refused = requests.get(server.url + "/v3/nothing")
    assert refused.status_code == 401 and "x-request-id" in refused.headers


def test_metrics_are_what_happened(server, talker):
    labels = {"project": "seeing", "model": "talker", "version": "v1", "operation": "predict"}
    before = scrape(server)
    count = lambda samples, code: value(samples, "luthier_requests_total", code=code, **labels)
    for _ in range(5):
        assert ask(server, talker, 1.0).status_code == 200
    assert ask(server, talker, -1.0).status_code == 400
    after = scrape(server)
    assert count(after, "ok") - count(before, "ok") == 5
    assert value(after, "luthier_requests_total", code="ModelServeError", **labels) >= 1
    seconds = lambda samples: value(samples, "luthier_request_seconds_count", **labels)
    assert seconds(after) - seconds(before) == 6
    bucket = value(after, "luthier_request_seconds_bucket", le="+Inf", **labels)
    assert bucket == seconds(after)

    mine = {"project": "seeing", "model": "talker"}
    assert value(after, "luthier_replicas", state="ready", **mine) == 1
    assert value(after, "luthier_replica_memory_bytes", **mine) > 10 << 20
    peak = value(after, "luthier_replica_memory_peak_bytes", **mine)
    assert value(after, "luthier_replica_memory_limit_bytes", **mine) == 256 << 20
    assert 10 << 20 < peak <= 256 << 20
    assert value(after, "luthier_replica_cpu_seconds_total", **mine) > 0.1
    assert value(after, "luthier_batch_requests_count", **mine) >= 5
    assert value(after, "luthier_queue_length", **mine) == 0
    assert value(after, "luthier_replica_starts_total", **mine) >= 1
    assert value(after, "luthier_deployment_phase", phase="ready", **mine) == 1
    assert value(after, "luthier_job_seconds_count", kind="deploy_artifact", outcome="success") >= 1
    route = {"method": "POST", "route": "/v3/predict"}
    assert value(after, "luthier_http_requests_total", status="200", **route) >= 5
    assert value(after, "luthier_http_requests_total", status="400", **route) >= 1


def test_metrics_need_a_token_and_go_with_their_model(own_server, tmp_path):
    server = own_server(env={"LUTHIER_METRICS_TOKEN": "only-looks"})
    assert requests.get(server.url + "/metrics").status_code == 401
    scrape(server, "only-looks")
    other = requests.get(server.url + "/v3/models", headers={"Authorization": "Bearer only-looks"})
    assert other.status_code == 401

    import fiddler as fdl

    project = fdl.Project(name="short").create()
    model = packages.model(project, "lived")
    packages.deploy(model, packages.write(tmp_path / "p"))
    assert ask(server, model, 1.0).status_code == 200
    of_model = lambda: [labels for _, labels in scrape(server) if ("model", "lived") in labels]
    assert of_model()
    model.delete().wait(interval=1)
    assert not of_model()
    project.delete()


def test_logs_of_replicas_that_run_and_that_are_gone(server, talker):
    logs = server.cli("logs", "seeing/talker", "--timestamps")
    assert logs.returncode == 0, logs.stderr
    lines = logs.stdout.splitlines()
    assert any(re.match(r"\d{4}-\d\d-\d\dT\S+Z loaded by \d+$", line) for line in lines), lines
    assert server.cli("logs", "seeing/talker", "--lines", "1").stdout.count("\n") == 1
    assert server.cli("logs", "seeing/talker", "--since", "2099-01-01T00:00:00Z").stdout == ""

    (before,) = server.get(f"/v1/models/{talker.id}/logs?lines=0")["items"]
    ask(server, talker, 1000.0)
    harness.wait_for(
        lambda: before["id"] in server.cli("logs", "seeing/talker", "--previous").stderr,
        "the log of the replica that ended",
    )
    past = server.cli("logs", "seeing/talker", "--replica", before["id"][:30])
    assert "the end comes" in past.stdout.splitlines(), past.stdout + past.stderr
    heading = server.cli("logs", "seeing/talker", "--previous").stderr
    assert "exit status 7" in heading
    harness.wait_for(lambda: ask(server, talker, 1.0).status_code == 200, "another replica")
    starts = value(scrape(server), "luthier_replica_starts_total", model="talker")
    failures = value(scrape(server), "luthier_replica_failures_total", model="talker")
    assert starts >= 2 and failures >= 1


def test_logs_are_followed_across_replicas_and_end_with_the_client(server, talker):
    environment = {**os.environ, "LUTHIER_URL": server.url, "LUTHIER_TOKEN": server.token}
    process = subprocess.Popen(
        [harness.BINARY, "logs", "-f", "-n", "0", "seeing/talker"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        # It may not follow yet when it is first asked.
        harness.wait_for(
            lambda: ask(server, talker, 1.0) and any("asked for 1" in line for line in lines),
            "a line to be followed",
        )
        assert not any("loaded by" in line for line in lines), "-n 0 leaves the past out"
        ask(server, talker, 1000.0)
        harness.wait_for(
            lambda: any(re.match(r"\[\S{8}\] loaded by", line) for line in lines),
            "the next replica's first line",
        )
        assert any("the end comes" in line for line in lines), lines
    finally:
        process.terminate()
        process.wait()
        reader.join()
    harness.wait_for(lambda: ask(server, talker, 1.0).status_code == 200, "another replica")


def test_a_server_that_stops_ends_those_who_follow(own_server, tmp_path):
    import fiddler as fdl

    server = own_server()
    project = fdl.Project(name="stops").create()
    model = packages.model(project, "m")
    packages.deploy(model, packages.write(tmp_path / "p", TALKER))
    stream = requests.get(
        f"{server.url}/v1/models/{model.id}/logs?follow=true",
        headers={"Authorization": f"Bearer {server.token}"},
        stream=True,
    )
    lines = stream.iter_lines()
    assert "loaded by" in json.loads(next(line for line in lines if line))["line"]
    server.stop()
    for _ in lines:
        pass
    server.start()
    project.delete()


def test_the_audit_log_says_who_changed_what(server, talker, client, tmp_path):
    model = client.Model.get(talker.id)
    model.description = "changed"
    model.update()
    deployment = client.ModelDeployment.of(talker.id)
    deployment.cpu = 150
    deployment.update()
    entries = server.get(f"/v1/audit?model_id={talker.id}")["items"]
    actions = [entry["action"] for entry in entries]
    assert {"model.create", "model.update", "deployment.deploy", "deployment.change"} <= set(actions)
    change = next(e for e in entries if e["action"] == "deployment.change")
    assert change["changes"] == {"cpu": {"before": 100, "after": 150}}
    assert change["actor"] == "admin" and change["address"] == "127.0.0.1"
    assert "python-sdk" in change["client"] and change["request_id"]
    assert change["name"] == "seeing/talker:v1"
    of_job = lambda: [
        entry["action"]
        for entry in server.get(f"/v1/audit?model_id={talker.id}")["items"]
        if entry["job_id"] == change["job_id"]
    ]
    harness.wait_for(lambda: of_job() == ["job.success", "deployment.change"], "the job's end")
    update = next(e for e in entries if e["action"] == "model.update")
    assert update["changes"] == {"description": {"before": None, "after": "changed"}}
    assert server.token not in json.dumps(server.get("/v1/audit?limit=1000"))

    first = server.get("/v1/audit?limit=2")
    second = server.get(f"/v1/audit?limit=2&before={first['next']}")
    assert len({e["seq"] for e in first["items"] + second["items"]}) == 4
    shown = server.cli("audit", "seeing/talker")
    assert "cpu=100→150" in shown.stdout, shown.stdout + shown.stderr


FORMS = {
    "csv": lambda df: df.to_csv(index=False).encode(),
    "json": lambda df: df.to_json(orient="records").encode(),
    "jsonl": lambda df: df.to_json(orient="records", lines=True).encode(),
    "parquet": lambda df: df.to_parquet(index=False),
    "arrow": lambda df: _ipc(df, pa.ipc.new_file),
    "arrows": lambda df: _ipc(df, pa.ipc.new_stream),
}


def _ipc(df, kind) -> bytes:
    table = pa.Table.from_pandas(df, preserve_index=False)
    buffer = io.BytesIO()
    with kind(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def test_files_of_every_form_are_predicted_in_parts(server, talker, tmp_path):
    rows = 25_000
    df = pd.DataFrame({"a": range(rows), "b": 1.0, "name": "x"}).assign(a=lambda d: d["a"] / 100)
    wanted = (df["a"] * 2.0 + df["b"]).to_list()
    read = {
        "csv": lambda path: pd.read_csv(path),
        "json": lambda path: pd.read_json(path),
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "parquet": lambda path: pq.read_table(path).to_pandas(),
        "arrow": lambda path: pa.ipc.open_file(path).read_all().to_pandas(),
        "arrows": lambda path: pa.ipc.open_stream(path).read_all().to_pandas(),
    }
    # Each form comes in and goes out once.
    for form, answer in zip(FORMS, [*list(FORMS)[1:], "csv"]):
        source, target = tmp_path / f"in.{form}", tmp_path / f"out.{answer}"
        source.write_bytes(FORMS[form](df))
        done = server.cli("predict", "seeing/talker", "--input", str(source), "--output", str(target))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        scores = read[answer](target)["score"].to_list()
        assert scores == pytest.approx(wanted), (form, answer)

    # What breaks in a late part leaves the file that was there.
    df.loc[24_000, "a"] = -1.0
    source, target = tmp_path / "bad.parquet", tmp_path / "out.parquet"
    source.write_bytes(FORMS["parquet"](df))
    before = target.read_bytes()
    failed = server.cli("predict", "seeing/talker", "--input", str(source), "--output", str(target))
    assert failed.returncode == 1 and "a is negative" in failed.stderr
    assert "begins with row 20000" in failed.stderr
    assert target.read_bytes() == before
    assert not list(tmp_path.glob(".tmp*"))
