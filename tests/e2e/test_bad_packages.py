"""Bad packages: the job fails with code, cause, evidence and next step, and nothing is left."""

import io
import tarfile

import fiddler as fdl
import pytest
from fiddler.exceptions import AsyncJobFailed

import harness
import packages

# name: (package.py, extra settings, code, texts that the message must have)
RAISING = """
    class Model:
        def predict(self, df):
            raise ValueError("the moon is wrong")

    def get_model():
        return Model()
"""
CASES = {
    "does_not_parse": ("def get_model(:\n", {}, "InvalidPackage", ["package.py", "line 1"]),
    "missing_module": (
        "import sklearn\n\ndef get_model():\n    pass\n",
        {},
        "InvalidPackage",
        ["sklearn", "scikit-learn", "requirements.txt"],
    ),
    "import_raises": (
        "raise RuntimeError('no good')\n\ndef get_model():\n    pass\n",
        {},
        "InvalidPackage",
        ["RuntimeError", "no good"],
    ),
    "no_get_model": ("x = 1\n", {}, "InvalidPackage", ["get_model"]),
    "get_model_raises": (
        "def get_model():\n    raise KeyError('weights')\n",
        {},
        "ModelServeError",
        ["KeyError", "weights"],
    ),
    "no_predict": ("def get_model():\n    return 1\n", {}, "InvalidPackage", ["predict"]),
    "predict_raises": (RAISING, {}, "ModelServeError", ["ValueError", "the moon is wrong"]),
    "wrong_columns": (
        packages.GOOD.replace('"score"', '"other"'),
        {},
        "InvalidPrediction",
        ["other", "score"],
    ),
    "wrong_rows": (
        packages.GOOD.replace('df["b"]})', 'df["b"]}).head(1)'),
        {},
        "InvalidPrediction",
        ["row"],
    ),
    "not_a_frame": (
        "class Model:\n    def predict(self, df):\n        return [1.0] * len(df)\n\n"
        "def get_model():\n    return Model()\n",
        {},
        "InvalidPrediction",
        ["DataFrame", "list"],
    ),
    "out_of_memory": (
        "BALLAST = None\n\ndef get_model():\n    global BALLAST\n"
        "    BALLAST = bytearray(600 * 1024 * 1024)\n",
        {"memory": 256},
        "ModelServeError",
        ["256 MiB", "memory", "peak", "memory=384"],
    ),
    "exits": (
        "import os\n\ndef get_model():\n    print('last words', flush=True)\n    os._exit(3)\n",
        {},
        "ModelServeError",
        ["exit status 3", "last words"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_package_fails_its_job(server, project, tmp_path, case):
    package, params, code, texts = CASES[case]
    check_failure(server, project, packages.write(tmp_path / "p", package), code, texts, **params)


def check_failure(server, project, directory, code, texts, **params):
    before = server.containers()
    layers = packages_on_disk(server)
    model = packages.model(project)
    with pytest.raises(AsyncJobFailed) as failure:
        packages.deploy(model, directory, **params)
    message = str(failure.value)
    assert code in message
    for text in texts:
        assert text in message, f"{text!r} is not in:\n{message}"
    assert set(server.containers()) <= set(before), "a container is left"
    harness.wait_for(lambda: packages_on_disk(server) <= layers, "the unpacked package to go")
    assert fdl.Model.get(id_=model.id).artifact_status == "no_model"
    status, body = server.call("GET", f"/v3/models/{model.id}/deployment")
    assert status == 404, body
    # The same model can be deployed well afterwards: nothing is lost.
    good = packages.write(directory.parent / "good")
    packages.deploy(model, good)
    assert model.predict(df=packages.DATA[["a", "b", "name"]])["score"][1] == 5.0


def packages_on_disk(server) -> set:
    directory = server.data / "packages"
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def test_no_package_py(server, project, tmp_path):
    # The client itself refuses such a directory; others may not.
    model = packages.model(project)
    directory = packages.write(tmp_path / "p", package=None, requirements="", readme__md="hello")
    job = upload_and_deploy(server, model, packages.archive(directory))
    assert job["status"] == "FAILURE" and job["error_reason"] == "InvalidPackage"
    assert "package.py" in job["error_message"]


def tar_with(*members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        good = b"def get_model():\n    return None\n"
        info = tarfile.TarInfo("./package.py")
        info.size = len(good)
        tar.addfile(info, io.BytesIO(good))
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, content=b"x", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content if kind == tarfile.REGTYPE else None


@pytest.mark.parametrize(
    "bad, text",
    [
        (member("/etc/cron.d/evil"), "/etc/cron.d/evil"),
        (member("../../evil"), ".."),
        (member("link", tarfile.SYMTYPE, link="/etc/shadow"), "link"),
        (member("hard", tarfile.LNKTYPE, link="../../../etc/shadow"), "/etc/shadow"),
        (member("device", tarfile.CHRTYPE), "device"),
        (member("pipe", tarfile.FIFOTYPE), "pipe"),
    ],
    ids=["absolute", "parent", "symlink", "hardlink", "device", "fifo"],
)
def test_an_unsafe_archive_is_refused(server, project, bad, text):
    model = packages.model(project)
    job = upload_and_deploy(server, model, tar_with(bad))
    assert job["status"] == "FAILURE" and job["error_reason"] == "InvalidPackage", job
    assert text in job["error_message"]


def test_an_archive_that_unpacks_to_too_much_is_refused(own_server, tmp_path):
    server = own_server(env={"LUTHIER_MAX_PACKAGE_MIB": "8"})
    model = packages.model(fdl.Project(name="bomb").create())
    job = upload_and_deploy(server, model, tar_with(member("zeros", content=bytes(64 << 20))))
    assert job["status"] == "FAILURE" and job["error_reason"] == "TooLarge", job
    assert "8 MiB" in job["error_message"]


def test_not_an_archive(server, project):
    model = packages.model(project)
    job = upload_and_deploy(server, model, b"this is no archive")
    assert job["status"] == "FAILURE" and job["error_reason"] == "InvalidPackage"


def test_unsatisfiable_requirements_show_the_resolvers_words(server, project, tmp_path):
    directory = packages.write(
        tmp_path / "p", requirements="scikit-learn==1.5.2\nnumpy==1.16.0\n"
    )
    check_failure(server, project, directory, "RequirementsError", ["scikit-learn", "numpy"])


def test_an_index_out_of_reach(own_server, tmp_path):
    server = own_server(env={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_OFFLINE": ""})
    model = packages.model(fdl.Project(name="unreachable").create())
    directory = packages.write(tmp_path / "p", requirements="cachetools==5.3.3\n")
    with pytest.raises(AsyncJobFailed, match="IndexUnreachable"):
        packages.deploy(model, directory)


def test_a_model_that_never_finishes_loading(own_server, tmp_path):
    server = own_server("--load-timeout", "5")
    model = packages.model(fdl.Project(name="slow").create())
    directory = packages.write(
        tmp_path / "p",
        "import time\n\ndef get_model():\n    print('waiting for weights', flush=True)\n"
        "    time.sleep(3600)\n",
    )
    with pytest.raises(AsyncJobFailed, match="DeploymentTimeout") as failure:
        packages.deploy(model, directory)
    assert "waiting for weights" in str(failure.value)
    assert server.containers() == []


def upload_and_deploy(server, model, archive: bytes) -> dict:
    boundary = "an-unlikely-boundary"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        'filename="files.tar.gz"\r\n\r\n'
    ).encode() + archive + f"\r\n--{boundary}--\r\n".encode()
    status, uploaded = server.call(
        "POST",
        "/v3/files/upload",
        raw=body,
        content_type=f"multipart/form-data; boundary={boundary}",
    )
    assert status == 200, uploaded
    status, answer = server.call(
        "POST",
        f"/v3/models/{model.id}/deploy-artifact",
        {
            "file_id": uploaded["data"]["id"],
            "deployment_params": {"image_uri": packages.IMAGE},
        },
    )
    assert status in (200, 202), answer
    job = fdl.Job.get(id_=answer["data"]["job"]["id"])
    for job in job.watch(interval=1):
        pass
    return server.get(f"/v3/jobs/{job.id}")
