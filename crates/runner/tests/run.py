"""Builds the runner once and tests it on every CPython it is for: `python3 crates/runner/tests/run.py`.

Further arguments go to pytest. Needs `cargo` and `uv`; environments are kept in
`target/runner-tests`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "runner-tests"

# name: (Python, requirements); the oldest and the newest pandas each, and some in between.
ENVIRONMENTS = {
    "py39-pandas13": ("3.9", ["pandas==1.3.5", "numpy==1.21.6"]),
    "py39-pandas15": ("3.9", ["pandas==1.5.3", "numpy==1.23.5"]),
    "py310-pandas20": ("3.10", ["pandas==2.0.3", "numpy==1.26.4"]),
    "py311-pandas22": ("3.11", ["pandas==2.2.3", "numpy<3"]),
    "py312-pandas23": ("3.12", ["pandas==2.3.3", "numpy<3"]),
    "py313-pandas3": ("3.13", ["pandas>=3,<4"]),
    "py312-bare": ("3.12", []),
}
DRIVER = ("3.11", ["pyarrow", "pytest", "pytest-xdist"])


def uv(*args):
    # Interpreters that pyenv keeps are as good as any on the path.
    versions = sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, versions)])
    subprocess.run(["uv", *args], check=True, env={**os.environ, "PATH": path})


def environment(name, python, requirements):
    place = WORK / "envs" / name
    stamp = place / "requirements.json"
    wanted = json.dumps([python, requirements])
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        uv("venv", "--quiet", "--python", python, str(place))
        if requirements:
            interpreter = str(place / "bin" / "python")
            uv("pip", "install", "--quiet", "--python", interpreter, *requirements)
        stamp.write_text(wanted)
    return place / "bin" / "python"


def build():
    # The same place in which the server's own build makes it, so that it is made once.
    built = TARGET / "runner"
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--package", "luthier-runner", "--release"]
        + ["--target-dir", str(built)],
        cwd=ROOT,
        check=True,
    )
    layer = WORK / "runner"
    shutil.rmtree(layer, ignore_errors=True)
    layer.mkdir(parents=True)
    for file in (TESTS.parent / "python").glob("*.py"):
        shutil.copy(file, layer)
    library = built / "release" / "libluthier_runner.so"
    shutil.copy(library, layer / "luthier_runner.abi3.so")
    return layer


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    layer = build()
    pythons = {name: str(environment(name, *spec)) for name, spec in ENVIRONMENTS.items()}
    driver = environment("driver", *DRIVER)
    env = {
        **os.environ,
        "RUNNER_LAYER": str(layer),
        "RUNNER_PYTHONS": json.dumps(pythons),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(driver), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", str(TESTS)]
    sys.exit(subprocess.run([*command, *sys.argv[1:]], env=env).returncode)


if __name__ == "__main__":
    main()
