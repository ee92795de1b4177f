"""The main job, with whichever stock client this interpreter has."""

import fiddler as fdl
import pytest

import main_job


@pytest.fixture(scope="module")
def deployed(server):
    """Both examples, deployed by the same code as the demo."""
    name = "main_" + fdl.__version__.replace(".", "_")
    done = main_job.main_job(name, say=lambda line: None)
    yield done
    project = fdl.Project.from_name(name)
    project.delete()


def test_both_run_at_once_with_their_own_libraries(server, deployed):
    reports = [main_job.check_running(example) for example in deployed]
    assert len({report["packages"]["scikit-learn"] for report in reports}) == 2
    assert len({report["id"] for report in reports}) == 2
    assert len(server.containers()) >= 2


def test_predictions_are_the_models_own_bit_for_bit(deployed):
    for example in deployed:
        assert main_job.check_predictions(example) == len(example.data())


@pytest.mark.parametrize("method", ["FIDDLER_SHAP", "SHAP"])
def test_attributions_sum_to_prediction_minus_baseline(deployed, method):
    for example in deployed:
        main_job.check_explanation(example, method=fdl.ExplainMethod[method])


@pytest.mark.parametrize("method", ["PERMUTE", "ZERO_RESET", "MEAN_RESET"])
def test_the_ablations_answer(deployed, method):
    for example in deployed:
        row = example.data()[example.inputs()].iloc[1].to_dict()
        answer = example.model.explain(
            input_data_source=fdl.RowDataSource(row=row), method=fdl.ExplainMethod[method]
        )
        assert sorted(answer.explanations) == sorted(example.outputs)


def test_the_artifact_comes_back(deployed, tmp_path):
    example = deployed[0]
    example.model.download_artifact(output_dir=tmp_path / "copy")
    mine = (tmp_path / "copy" / "package.py").read_text()
    assert mine == (example.directory / "package.py").read_text()


def test_the_deployment_is_as_asked(deployed):
    for example in deployed:
        deployment = fdl.ModelDeployment.of(model_id=example.model.id)
        assert (deployment.cpu, deployment.memory, deployment.replicas) == (250, 512, 1)
        assert deployment.active and deployment.image_uri == example.image_uri


def test_the_model_says_it_has_an_artifact(deployed):
    for example in deployed:
        model = fdl.Model.get(id_=example.model.id)
        assert model.artifact_status == "user_uploaded"
        assert "package.py" in {file["name"] for file in model.artifact_files}
