"""Predict in every form of rows, and by the Open Inference Protocol, with the libraries people use."""

import io
import json

import fiddler as fdl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import packages

JSON = "application/json"
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"

# Gives back what it saw, so that a value changed on its way is found.
PACKAGE = """
    import pandas as pd

    class Model:
        def predict(self, df):
            when = df["when"].astype(str)
            name = df["name"].map(lambda v: "none" if v is None else v)
            return pd.DataFrame({
                "score": df["a"] * 2.0 + df["n"],
                "seen": name + "|" + df["flag"].astype(str) + "|" + when,
            })

    def get_model():
        return Model()
"""

TYPES = {"a": "float", "n": "int", "flag": "bool", "name": "str", "when": "timestamp"}
OUTPUTS = {"score": "float", "seen": "str"}

FRAME = pd.DataFrame(
    {
        "a": [0.1, -2.5, 1e300],
        "n": [1, -(2**40), 0],
        "flag": [True, False, True],
        "name": ["Zürich", 'a, "b"\nc', "🐍"],
        "when": pd.to_datetime(["2024-05-01 12:00", "2024-12-31 23:59:59.5", "1970-01-01"], format="ISO8601"),
    }
)


@pytest.fixture(scope="module")
def model(server, client, tmp_path_factory):
    project = client.Project(name="wire").create()
    columns = [fdl.Column(name=n, data_type=t) for n, t in {**TYPES, **OUTPUTS}.items()]
    model = fdl.Model(
        name="all_types",
        project_id=project.id,
        schema=fdl.ModelSchema(columns=columns),
        spec=fdl.ModelSpec(inputs=list(TYPES), outputs=list(OUTPUTS)),
    ).create()
    packages.deploy(model, packages.write(tmp_path_factory.mktemp("wire"), PACKAGE))
    yield model
    project.delete()


def expected(frame: pd.DataFrame) -> pd.DataFrame:
    """What the model says of a frame, in this process."""
    seen = frame.assign(when=frame["when"].astype("datetime64[ns]"))
    scope = {}
    exec(packages.textwrap.dedent(PACKAGE), scope)
    return scope["get_model"]().predict(seen)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def write(frame: pd.DataFrame, form: str) -> bytes:
    sink = io.BytesIO()
    if form == JSON:
        rows = json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))
        return json.dumps({"data": rows}).encode()
    if form == STREAM:
        return stream(pa.Table.from_pandas(frame, preserve_index=False))
    if form == FILE:
        frame.to_feather(sink)  # compressed with LZ4
    elif form == PARQUET:
        frame.to_parquet(sink, index=False)
    elif form == CSV:
        return frame.to_csv(index=False).encode()
    return sink.getvalue()


def read(body: bytes, form: str) -> pd.DataFrame:
    if form == JSON:
        return pd.DataFrame(json.loads(body)["data"]["predictions"])
    if form == STREAM:
        return pa.ipc.open_stream(body).read_all().to_pandas()
    if form == FILE:
        return pd.read_feather(io.BytesIO(body))
    if form == PARQUET:
        return pd.read_parquet(io.BytesIO(body))
    return pd.read_csv(io.BytesIO(body), float_precision="round_trip")


def post(server, body: bytes, form: str, accept=None, path="/v1/models/wire/all_types/predict"):
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": form}
    if accept:
        headers["Accept"] = accept
    return requests.post(server.url + path, data=body, headers=headers, timeout=120)


def predict(server, frame: pd.DataFrame, form: str, accept=None) -> pd.DataFrame:
    answer = post(server, write(frame, form), form, accept)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == (accept or form)
    return read(answer.content, accept or form)


def refused(answer, status=400) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["kind"] == "ERROR" and body["error"]["code"] == status
    return body["error"]["message"]


FORMS = [JSON, STREAM, FILE, PARQUET, CSV]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_the_model_says(server, model, form):
    frame = FRAME if form != JSON else FRAME.assign(a=[0.1, -2.5, 3.0])
    pd.testing.assert_frame_equal(predict(server, frame, form), expected(frame))
    mixed = frame[["when", "name", "n", "flag", "a"]].assign(more=1)
    pd.testing.assert_frame_equal(predict(server, mixed, form), expected(frame))


@pytest.mark.parametrize("form", FORMS)
def test_every_answer_says_where_its_time_went(server, model, form):
    frame = pd.concat([FRAME.assign(a=[0.1, -2.5, 3.0])] * 200, ignore_index=True)
    header = post(server, write(frame, form), form).headers["Server-Timing"]
    spent = {name: float(ms) for name, ms in (part.split(";dur=") for part in header.split(", "))}
    parts = ["parse", "queue", "transfer", "frame", "model", "encode"]
    assert list(spent) == [*parts, "total"]
    assert all(spent[part] > 0 for part in parts), header
    # One call, so that nothing is counted twice.
    assert sum(spent[part] for part in parts) <= spent["total"], header


@pytest.mark.parametrize("accept", FORMS)
def test_the_answer_may_have_another_form(server, model, accept):
    for form in (STREAM, PARQUET, CSV):
        pd.testing.assert_frame_equal(predict(server, FRAME, form, accept), expected(FRAME))


@pytest.mark.parametrize("rows", [0, 1, 100_000])
def test_no_row_one_row_and_many(server, model, rows):
    frame = FRAME.iloc[[0] * rows].reset_index(drop=True).assign(a=np.arange(rows) / 8)
    for form in (STREAM, PARQUET):
        got = predict(server, frame, form)
        assert list(got.columns) == list(OUTPUTS) and len(got) == rows
        if rows:
            pd.testing.assert_frame_equal(got, expected(frame))


@pytest.mark.parametrize("form", FORMS)
def test_missing_values(server, model, form):
    frame = FRAME.assign(
        a=[None, 1.5, np.nan], name=[None, "x", "y"], when=[None, FRAME["when"][1], pd.NaT]
    )
    frame["n"] = frame["n"].astype("Int64")
    frame.loc[0, "n"] = pd.NA
    got = predict(server, frame, form)
    assert got["score"].isna().tolist() == [True, False, True]
    assert got["score"][1] == 3.0 - 2**40
    assert got["seen"].tolist() == [
        "none|True|NaT",
        "x|False|2024-12-31 23:59:59.500",
        "y|True|NaT",
    ]


def test_times_are_in_utc(server, model):
    zoned = FRAME.assign(when=FRAME["when"].dt.tz_localize("Europe/Zurich"))
    utc = FRAME.assign(when=zoned["when"].dt.tz_convert("UTC").dt.tz_localize(None))
    for form in FORMS[1:]:
        pd.testing.assert_frame_equal(predict(server, zoned, form), expected(utc))


def test_narrow_types_and_categories(server, model):
    frame = FRAME.assign(a=[0.5, 1.5, 2.5])
    narrow = frame.astype({"a": "float32", "flag": "int8", "name": "category"})
    narrow["n"] = np.array([1, 2, 3], dtype="uint16")
    narrow["when"] = narrow["when"].dt.date
    day = frame.assign(n=[1, 2, 3], when=frame["when"].dt.normalize())
    for form in (STREAM, FILE, PARQUET):
        pd.testing.assert_frame_equal(predict(server, narrow, form), expected(day))


@pytest.mark.parametrize("form", FORMS[1:])
def test_what_does_not_fit_is_named(server, model, form):
    text = refused(post(server, write(FRAME.assign(a=["1", "many", "2"]), form), form))
    assert 'row 1: column `a` is "many", but a number is needed' in text
    text = refused(post(server, write(FRAME.drop(columns=["n", "name"]), form), form))
    assert "lacks the columns `n`, `name`" in text
    body = write(FRAME, form)
    if form != CSV:
        refused(post(server, body[: len(body) // 2], form))
        refused(post(server, b"no table", form))


def test_forms_that_are_not_taken(server, model):
    assert PARQUET in refused(post(server, b"<rows/>", "application/xml"), 415)
    assert CSV in refused(post(server, write(FRAME, CSV), CSV, accept="image/png"), 406)


def test_small_bodies_that_unpack_to_gigabytes(server, model):
    many = 2_000_000
    word = "x" * 4000
    texts = pa.array([word]).dictionary_encode().take(pa.array(np.zeros(many, dtype="int64")))
    columns = {"a": pa.array(np.zeros(many)), "name": texts}
    columns |= {"n": pa.nulls(many), "flag": pa.nulls(many), "when": pa.nulls(many)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    parquet = sink.getvalue()
    assert len(parquet) < 1 << 20
    assert "MiB" in refused(post(server, parquet, PARQUET), 413)
    pages = io.BytesIO()
    zeros = {"a": pa.array(np.zeros(10_000_000))}
    zeros |= {name: pa.nulls(10_000_000) for name in ("n", "flag", "name", "when")}
    pq.write_table(pa.table(zeros), pages, use_dictionary=False, compression="zstd")
    assert len(pages.getvalue()) < 1 << 20
    assert "MiB" in refused(post(server, pages.getvalue(), PARQUET), 413)
    # Without bytes for the rows it claims.
    nothing = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])
    endless = pa.table({name: nothing for name in TYPES})
    assert len(stream(endless)) < 1 << 12
    assert "rows" in refused(post(server, stream(endless), STREAM), 413)
    assert predict(server, FRAME, STREAM)["score"][0] == FRAME["a"][0] * 2 + 1


def test_the_stock_path_takes_every_form(server, model):
    for query in (f"model_id={model.id}", "model=wire/all_types:v1"):
        answer = post(server, write(FRAME, STREAM), STREAM, path=f"/v3/predict?{query}")
        pd.testing.assert_frame_equal(read(answer.content, STREAM), expected(FRAME))


# The Open Inference Protocol.


@pytest.fixture
def inference(server):
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    yield client
    client.close()


def auth(server) -> dict:
    return {"Authorization": f"Bearer {server.token}"}


def tensors(frame: pd.DataFrame, binary: bool, wide: bool = False) -> list:
    arrays = {
        "a": ("FP64", frame["a"].to_numpy()),
        "n": ("INT64", frame["n"].to_numpy()),
        "flag": ("BOOL", frame["flag"].to_numpy()),
        "name": ("BYTES", frame["name"].to_numpy(dtype=object)),
        "when": ("BYTES", frame["when"].dt.strftime("%Y-%m-%dT%H:%M:%S.%f").to_numpy(dtype=object)),
    }
    inputs = []
    for name, (datatype, array) in arrays.items():
        array = array.reshape(-1, 1) if wide else array
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def text(values: np.ndarray) -> list:
    return [v.decode() if isinstance(v, bytes) else v for v in values]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_predicts(server, model, inference, binary):
    want = expected(FRAME)
    for wide in (False, True):
        inputs = tensors(FRAME, binary, wide)
        answer = inference.infer("wire.all_types", inputs, headers=auth(server), request_id="x")
        assert answer.get_response()["model_version"] == "v1"
        assert answer.get_response()["id"] == "x"
        assert answer.as_numpy("score").tolist() == want["score"].tolist()
        assert text(answer.as_numpy("seen")) == want["seen"].tolist()
    wanted = [triton.InferRequestedOutput("score", binary_data=not binary)]
    answer = inference.infer(
        "wire.all_types", tensors(FRAME, binary), "v1", outputs=wanted, headers=auth(server)
    )
    assert answer.as_numpy("score").tolist() == want["score"].tolist()
    assert answer.as_numpy("seen") is None


def test_tritonclient_asks_about_server_and_model(server, model, inference):
    assert inference.is_server_live() and inference.is_server_ready()
    assert inference.get_server_metadata(headers=auth(server))["name"] == "luthier"
    assert inference.is_model_ready("wire.all_types", headers=auth(server))
    assert inference.is_model_ready("wire.all_types", "v1", headers=auth(server))
    assert not inference.is_model_ready("wire.all_types", "v2", headers=auth(server))
    metadata = inference.get_model_metadata("wire.all_types", headers=auth(server))
    assert metadata["versions"] == ["v1"]
    kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    assert kinds == {"a": "FP64", "n": "INT64", "flag": "BOOL", "name": "BYTES", "when": "BYTES"}
    assert [tensor["name"] for tensor in metadata["outputs"]] == list(OUTPUTS)


def test_tritonclient_is_told_what_is_wrong(server, model, inference):
    def failed(*args, headers=auth(server), **settings):
        with pytest.raises(InferenceServerException) as refused:
            inference.infer(*args, headers=dict(headers), **settings)
        return refused.value.status(), refused.value.message()

    good = tensors(FRAME, True)
    assert failed("wire.other", good)[0] == "404"
    assert failed("wire.all_types", good, "v2")[0] == "404"
    status, message = failed("wire.all_types", good, headers={})
    assert status == "401" and "token" in message
    status, message = failed("wire.all_types", good[1:])
    assert status == "400" and "`a`" in message
    status, message = failed("wire.all_types", good[:1] + tensors(FRAME[:2], True)[1:])
    assert status == "400" and "rows" in message
    status, message = failed("wire.all_types", good, request_compression_algorithm="gzip")
    assert status == "415" and "Content-Encoding" in message
