"""Changing a deployment through the stock client."""

import json

import fiddler as fdl
import pytest
from fiddler.exceptions import AsyncJobFailed

import harness
import packages


@pytest.fixture
def deployed(project, tmp_path):
    model = packages.model(project, publish=True)
    packages.deploy(model, packages.write(tmp_path / "first"))
    return model


def of(server, model) -> dict:
    items = server.get("/v1/deployments")["items"]
    return next(item for item in items if item["model_id"] == str(model.id))


def test_scaling(server, deployed):
    deployment = fdl.ModelDeployment.of(model_id=deployed.id)
    deployment.replicas, deployment.memory = 2, 300
    deployment.update().wait(interval=1)
    seen = of(server, deployed)
    assert (seen["ready_replicas"], len(seen["running"]), seen["memory"]) == (2, 2, 300)
    deployment.replicas = 1
    deployment.update().wait(interval=1)
    harness.wait_for(lambda: len(of(server, deployed)["running"]) == 1, "one replica")


def test_a_failing_update_leaves_the_old_model_serving(server, deployed, tmp_path):
    bad = packages.write(tmp_path / "bad", "def get_model():\n    raise ValueError('new')\n")
    job = deployed.update_artifact(
        model_dir=bad, deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE)
    )
    with pytest.raises(AsyncJobFailed, match="ModelServeError"):
        job.wait(interval=1)
    assert deployed.predict(df=packages.DATA)["score"][0] == 2.0
    assert len(of(server, deployed)["running"]) == 1


def test_an_update_switches_to_the_new_model(server, deployed, tmp_path):
    new = packages.write(tmp_path / "new", packages.GOOD.replace("2.0", "3.0"))
    deployed.update_artifact(
        model_dir=new, deployment_params=fdl.DeploymentParams(image_uri=packages.IMAGE)
    ).wait(interval=1)
    assert deployed.predict(df=packages.DATA)["score"][0] == 2.5
    harness.wait_for(lambda: len(of(server, deployed)["running"]) == 1, "the old one to stop")


def test_deleting_a_model_stops_its_containers_and_removes_its_files(server, project, tmp_path):
    model = packages.model(project, name="deleted")
    before = stored(server)
    packages.deploy(model, packages.write(tmp_path / "p", packages.GOOD + "\n    # unlike others\n"))
    (replica,) = of(server, model)["running"]
    assert harness.process_is_there(replica["pid"])
    own = stored(server) - before
    assert len(own) == 3, "its package, its archive and its validation rows"
    model.delete().wait(interval=1)
    harness.wait_for(lambda: not harness.process_is_there(replica["pid"]), "its container to go")
    harness.wait_for(lambda: not stored(server) & own, "its files to go")


def stored(server) -> set:
    """Every package and blob."""
    found = [server.data.glob("packages/*"), server.data.glob("blobs/??/*")]
    return {path.name for paths in found for path in paths}


def test_a_container_is_closed(server, project, tmp_path):
    """What a package finds out about its surroundings, told through its own exception."""
    model = packages.model(project)
    package = """
        import os, socket, json

        def get_model():
            seen = {}
            try:
                socket.create_connection(("192.0.2.1", 80), timeout=3)
                seen["network"] = "open"
            except OSError as error:
                seen["network"] = "closed"
            seen["interfaces"] = sorted(name for _, name in socket.if_nameindex())
            try:
                open("/opt/luthier/package/x", "w")
                seen["root"] = "writable"
            except OSError:
                seen["root"] = "read-only"
            status = open("/proc/self/status").read()
            fields = dict(line.split(":", 1) for line in status.splitlines())
            seen["caps"] = int(fields["CapEff"].strip(), 16) | int(fields["CapPrm"].strip(), 16)
            seen["privs"] = fields["NoNewPrivs"].strip()
            seen["seccomp"] = fields["Seccomp"].strip()
            seen["memory"] = os.environ["LUTHIER_MEMORY_MIB"]
            raise ValueError("SEEN" + json.dumps(seen, sort_keys=True) + "SEEN")
    """
    with pytest.raises(AsyncJobFailed) as failure:
        packages.deploy(model, packages.write(tmp_path / "p", package))
    seen = json.loads(str(failure.value).split("SEEN")[1])
    assert seen["network"] == "closed" and seen["interfaces"] == ["lo"]
    assert seen["root"] == "read-only" and seen["caps"] == 0
    assert seen["privs"] == "1" and seen["seccomp"] == "2"
    # What a program that sizes itself cannot find out otherwise.
    assert seen["memory"] == "256"


def test_a_manual_deployment_starts_when_it_is_made_active(server, project, tmp_path):
    model = packages.model(project)
    packages.deploy(
        model,
        packages.write(tmp_path / "p"),
        deployment_type=fdl.DeploymentType.MANUAL,
    )
    assert of(server, model)["running"] == []
    deployment = fdl.ModelDeployment.of(model_id=model.id)
    assert not deployment.active
    deployment.active = True
    deployment.update().wait(interval=1)
    assert model.predict(df=packages.DATA)["score"][0] == 2.0


def test_source_distributions_are_built_in_a_container(project, tmp_path):
    model = packages.model(project)
    package = packages.GOOD.replace("import pandas as pd", "import docopt\n    import pandas as pd")
    packages.deploy(
        model, packages.write(tmp_path / "p", package, requirements="docopt==0.6.2\n")
    )
    assert model.predict(df=packages.DATA)["score"][0] == 2.0


def test_explaining_an_event_against_production(project, tmp_path):
    model = packages.model(project)
    packages.deploy(model, packages.write(tmp_path / "p"))
    ids = model.publish(packages.DATA.drop(columns=["score"]).to_dict("records"))
    answer = model.explain(
        input_data_source=fdl.EventIdDataSource(
            event_id=str(ids[1]), env_id=None, env_type=fdl.EnvType.PRODUCTION
        ),
        ref_data_source=fdl.DatasetDataSource(env_type=fdl.EnvType.PRODUCTION),
    )
    explanation = answer.explanations["score"]
    assert explanation["model_prediction"] == 5.0
    assert explanation["baseline_prediction"] == 6.5
    total = sum(item["attribution"] for item in explanation["GEM"]["contents"])
    assert abs(total + 1.5) < 1e-9


def test_a_packages_own_explanation_method(project, tmp_path):
    model = fdl.Model.from_data(
        source=packages.DATA,
        name="own_method",
        project_id=project.id,
        spec=fdl.ModelSpec(inputs=["a", "b", "name"], outputs=["score"], targets=["target"]),
        task=fdl.ModelTask.REGRESSION,
        xai_params=fdl.XaiParams(custom_explain_methods=["Twice A"]),
    )
    model.create()
    package = packages.GOOD.replace(
        "    def get_model",
        '''    def explain_custom(self, name, df):
            value = float(df["a"].iloc[0]) * 2.0
            part = {"type": "simple", "feature-name": "a", "attribution": value}
            container = {"type": "container", "contents": [part], "attribution": value}
            return {"score": container}, {
                "score": {"model_prediction": value, "baseline_prediction": 0.0}
            }

    Model.explain_custom = explain_custom

    def get_model''',
    )
    packages.deploy(model, packages.write(tmp_path / "p", package))
    answer = model.explain(
        input_data_source=fdl.RowDataSource(row={"a": 1.5, "b": 2.0, "name": "x"}),
        method="Twice A",
    )
    explanation = answer.explanations["score"]
    assert explanation["model_prediction"] == 3.0
    assert explanation["GEM"]["contents"][0]["attribution"] == 3.0
