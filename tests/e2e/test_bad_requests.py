"""Bad requests: a 4xx in the envelope with reason, cause and next step."""

import uuid

import fiddler as fdl
import pytest
from fiddler.exceptions import ApiError, Conflict, NotFound

import packages


@pytest.fixture(scope="module")
def deployed(server, client, tmp_path_factory):
    """A small model that serves, with a dataset."""
    project = client.Project(name="bad_requests").create()
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path_factory.mktemp("package")))
    yield model
    project.delete()


def refused(server, method, path, body=None, status=400, **settings):
    got, answer = server.call(method, path, body, **settings)
    assert got == status, answer
    error = answer["error"]
    assert answer["kind"] == "ERROR" and error["code"] == status
    detail = error["errors"][0]
    assert detail["reason"] and detail["message"] and isinstance(detail["help"], str)
    return error["message"] + " " + detail["help"]


def test_wrong_token(server):
    with pytest.raises(ApiError):
        fdl.init(url=server.url, token="not-the-token")
    fdl.init(url=server.url, token=server.token)
    refused(server, "GET", "/v3/projects", token="x", status=401)


@pytest.mark.parametrize(
    "path",
    [
        "/v3/projects/{}",
        "/v3/models/{}",
        "/v3/jobs/{}",
        "/v3/environments/{}",
        "/v3/baselines/{}",
        "/v3/models/{}/deployment",
        "/v3/models/{}/download-artifact",
    ],
)
def test_unknown_ids(server, path):
    refused(server, "GET", path.format(uuid.uuid4()), status=404)


def test_an_unknown_address(server):
    refused(server, "GET", "/v3/no-such-thing", status=404)


def test_an_id_that_is_none(server):
    got, _ = server.call("GET", "/v3/projects/bogus")
    assert got in (400, 404)


def test_duplicate_names(client, deployed):
    with pytest.raises(Conflict):
        client.Project(name="bad_requests").create()
    with pytest.raises(Conflict):
        packages.model(client.Project.get(id_=deployed.project_id))


def test_an_unknown_image(deployed, tmp_path):
    with pytest.raises(ApiError, match="python-311"):
        deployed.update_artifact(
            model_dir=packages.write(tmp_path / "p"),
            deployment_params=fdl.DeploymentParams(image_uri="md-base/python/python-99:1.0.0"),
        )


@pytest.mark.parametrize(
    "params", [{"memory": 10}, {"memory": 99999}, {"cpu": 1}, {"cpu": 99999}, {"replicas": 0}]
)
def test_resources_out_of_range(deployed, tmp_path, params):
    (name,) = params
    with pytest.raises(ApiError, match=name):
        deployed.update_artifact(
            model_dir=packages.write(tmp_path / "p"),
            deployment_params=fdl.DeploymentParams(**params),
        )


def test_more_than_the_machine_has(server, deployed):
    path = f"/v3/models/{deployed.id}/deployment"
    message = refused(server, "PATCH", path, {"active": True, "memory": 16384, "replicas": 10})
    assert "MiB" in message


def test_adding_over_an_artifact(deployed, tmp_path):
    with pytest.raises(ApiError, match="already"):
        deployed.add_artifact(model_dir=packages.write(tmp_path / "p"))


@pytest.mark.parametrize("body", [b"{", b"[1", b'{"a":}', b"\xff\xfe"])
def test_malformed_json(server, body):
    for path in ("/v3/predict", "/v3/explain", "/v3/projects", "/v3/models"):
        refused(server, "POST", path, raw=body)


@pytest.mark.parametrize("query", ["%7B", "5", "%7B%22condition%22%3A%22XOR%22%7D"])
def test_malformed_filters(server, query):
    refused(server, "GET", f"/v3/projects?filter={query}")


def test_malformed_multipart(server):
    refused(
        server,
        "POST",
        "/v3/files/upload",
        raw=b"--x\r\nnothing",
        content_type="multipart/form-data; boundary=x",
    )
    refused(server, "POST", "/v3/files/upload", {"not": "multipart"})


def test_a_row_without_a_column(deployed):
    with pytest.raises(ApiError, match="`b`|'b'|\\bb\\b"):
        deployed.predict(df=packages.DATA[["a", "name"]])


def test_a_row_with_more_columns_and_nulls(deployed):
    frame = packages.DATA.assign(extra="ignored")
    frame.loc[0, "a"] = None
    predicted = deployed.predict(df=frame)
    assert predicted["score"].isna().tolist() == [True, False, False, False]
    assert predicted["score"][1] == 5.0


def test_a_value_of_the_wrong_type(server, deployed):
    body = {"model_id": str(deployed.id), "data": [{"a": "many", "b": 1, "name": "x"}]}
    message = refused(server, "POST", "/v3/predict", body)
    assert "many" in message and "a" in message


def test_an_unknown_method(deployed):
    with pytest.raises(ApiError, match="no_such_method"):
        deployed.explain(
            input_data_source=fdl.RowDataSource(row={"a": 1.0, "b": 2.0, "name": "x"}),
            method="no_such_method",
        )


def test_predicting_before_deploying(client, project):
    model = packages.model(project)
    with pytest.raises((ApiError, NotFound)):
        model.predict(df=packages.DATA)


def test_predicting_while_inactive(client, project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"))
    deployment = fdl.ModelDeployment.of(model_id=model.id)
    deployment.active = False
    job = deployment.update()
    if job is not None:
        job.wait(interval=1)
    with pytest.raises(ApiError, match="active"):
        model.predict(df=packages.DATA)
    deployment.active = True
    deployment.update().wait(interval=1)
    assert model.predict(df=packages.DATA)["score"][0] == 2.0
