"""The commands of the CLI against a real server."""

import json

import packages


def test_from_directory_to_explanation(server, tmp_path):
    directory = packages.write(tmp_path / "p")
    sample = tmp_path / "sample.csv"
    packages.DATA.to_csv(sample, index=False)
    deployed = server.cli(
        "deploy", str(directory), "--project", "cli", "--model", "small", "--sample", str(sample),
        "--outputs", "score", "--target", "target", "--image", packages.IMAGE,
    )
    assert deployed.returncode == 0, deployed.stderr
    assert deployed.stdout.strip() == "cli/small:v1"

    predicted = server.cli("predict", "cli/small", "--input", "-", stdin="a,b,name\n0.5,1,x\n")
    assert json.loads(predicted.stdout) == {"score": 2.0}, predicted.stderr

    row = json.dumps({"a": 0.5, "b": 1, "name": "x"})
    explained = server.cli("explain", "cli/small", "--row", row, "--json")
    gem = json.loads(explained.stdout)["explanations"]["score"]["GEM"]
    assert [item["feature-name"] for item in gem["contents"]] == ["a", "b", "name"]
    assert "baseline" in server.cli("explain", "cli/small", "--row", row, "--reference", "sample").stdout

    assert "cli/small:v1" in server.cli("ps").stdout
    assert "Deploy artifact" in server.cli("jobs").stdout
    job = json.loads(server.cli("jobs", "--json").stdout)["items"][0]["id"]
    assert job in server.cli("jobs", job).stdout
    assert server.cli("logs", "cli/small").returncode == 0


def test_doctor_finds_this_machine_fit(server):
    doctor = server.cli("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "cgroup" in doctor.stdout and "uv" in doctor.stdout


def test_failures_are_told_with_code_and_next_step(server, tmp_path):
    nothing = server.cli("predict", "no/model", "--input", "-", stdin="a\n1\n")
    assert nothing.returncode == 1 and nothing.stdout == ""
    assert "error[NotFound]" in nothing.stderr and "next:" in nothing.stderr
    empty = server.cli("deploy", str(tmp_path), "--project", "x", "--model", "y")
    assert "error[InvalidPackage]" in empty.stderr
