"""The measurements behind `make bench`: python run.py LUTHIER FLASK_VENV. See bench/README.md."""

import json
import logging
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import fiddler as fdl
import pandas as pd

BENCH = Path(__file__).parent
CACHE = BENCH.parent / "target/bench/cache"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "4"))
NUMBERS = [f"num_{i}" for i in range(10)]
WORDS = [f"cat_{i}" for i in range(10)]
ROW = {**{n: 50.0 + i for i, n in enumerate(NUMBERS)}, **{n: "alpha" for n in WORDS}}
IMAGE = "md-base/python/python-311:1.0.0"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.02)


def answers(url) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


class Target:
    """Something that answers predictions over HTTP."""

    def __init__(self, port, path, body, token=""):
        self.port, self.path, self.token = port, path, token
        self.body = json.dumps(body)

    def wrk(self, connections: int) -> dict:
        output = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "10s", "-s", str(BENCH / "post.lua")]
            + [f"http://127.0.0.1:{self.port}{self.path}"],
            env={**os.environ, "BODY": self.body, "TOKEN": self.token},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        result = json.loads(output.split("RESULT ")[1])
        if result["errors"]:
            raise RuntimeError(f"errors under load on {self.path}: {output}")
        return result


def memory(pid: int, key: str) -> float:
    """MiB of `Rss` or `Pss` of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024.0
    raise RuntimeError(f"no {key} of {pid}")


class Luthier:
    def __init__(self, binary: str):
        self.binary, self.port, self.token = binary, free_port(), "bench"
        self.dir = Path(tempfile.mkdtemp(prefix="lb-"))
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.dir)]
            + ["--cache-dir", str(CACHE)],
            env={**os.environ, "LUTHIER_ADMIN_TOKEN": self.token},
            stdout=subprocess.DEVNULL,
            stderr=open(BENCH.parent / "target/bench/server.log", "wb"),
        )
        wait_until(lambda: answers(self.url + "/healthz"), "the server")
        # With a handler of our own the client does not print every request.
        logging.getLogger().addHandler(logging.NullHandler())
        fdl.init(url=self.url, token=self.token)
        self.idle = memory(self.process.pid, "Rss")
        self.project = fdl.Project(name="bench").create()

    def deploy(self, name: str, directory: Path) -> tuple:
        frame = pd.DataFrame([ROW, {**ROW, "num_0": 1.0}]).assign(probability=[0.25, 0.75], y=[0, 1])
        model = fdl.Model.from_data(
            source=frame,
            name=name,
            project_id=self.project.id,
            spec=fdl.ModelSpec(
                inputs=NUMBERS + WORDS, outputs=["probability"], targets=["y"]
            ),
            task=fdl.ModelTask.BINARY_CLASSIFICATION,
        )
        model.create()
        start = time.monotonic()
        job = model.add_artifact(
            model_dir=directory,
            deployment_params=fdl.DeploymentParams(image_uri=IMAGE, cpu=500, memory=512),
        )
        job.wait(interval=0.2)
        seconds = time.monotonic() - start
        body = {"model_id": str(model.id), "data": [ROW]}
        return model, Target(self.port, "/v3/predict", body, self.token), seconds

    def running(self, model) -> dict:
        request = urllib.request.Request(
            self.url + "/v1/deployments", headers={"Authorization": f"Bearer {self.token}"}
        )
        items = json.load(urllib.request.urlopen(request))["data"]["items"]
        return next(i for i in items if i["model_id"] == str(model.id))["running"][0]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        subprocess.run([self.binary, "purge", "--data", str(self.dir)], check=True)
        shutil.rmtree(self.dir)


class Flask:
    def __init__(self, venv: str, directory: Path):
        self.port = free_port()
        self.process = subprocess.Popen(
            [f"{venv}/bin/gunicorn", "-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{self.port}"]
            + ["--chdir", str(BENCH), "flask_app:app"],
            env={**os.environ, "PACKAGE": str(directory), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: answers(f"http://127.0.0.1:{self.port}/"), "gunicorn")
        self.target = Target(self.port, "/predict", [ROW])

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def in_process(venv: str, directory: Path) -> tuple[float, float]:
    """Milliseconds of a call: one upon the other, and after a pause."""
    command = [f"{venv}/bin/python", str(BENCH / "direct.py"), str(directory), json.dumps(ROW)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    tight, paused = subprocess.run(command, env=env, capture_output=True, check=True).stdout.split()
    return float(tight), float(paused)


def main(binary: str, venv: str) -> None:
    started = time.strftime("%Y-%m-%d")
    print(f"{started}, {os.cpu_count()} CPUs, {ROUNDS} rounds, medians\n")
    luthier = Luthier(binary)
    peers = []
    try:
        print("| model | | Luthier | Flask + gunicorn + gevent | ratio | in process | in process, after a pause |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        deployed = {}
        for name in ("cheap", "pipeline"):
            directory = BENCH / name
            model, target, seconds = luthier.deploy(name, directory)
            deployed[name] = (model, seconds)
            flask = Flask(venv, directory)
            peers.append(flask)
            sides = {"luthier": target, "flask": flask.target}
            for side in sides.values():
                side.wrk(1)
            latency = {side: [] for side in sides}
            rate = {side: [] for side in sides}
            direct = []
            for _ in range(ROUNDS):
                for side, target in sides.items():
                    latency[side].append(target.wrk(1)["p50_ms"])
                direct.append(in_process(venv, directory))
                for side, target in sides.items():
                    rate[side].append(target.wrk(16)["rps"])
            tight, paused = (statistics.median(column) for column in zip(*direct))
            mine, theirs = (statistics.median(latency[s]) for s in sides)
            print(
                f"| {name} | p50 of one row, one connection | {mine:.2f} ms | {theirs:.2f} ms "
                f"| {mine / theirs:.2f} | {tight:.2f} ms | {paused:.2f} ms |"
            )
            mine, theirs = (statistics.median(rate[s]) for s in sides)
            print(
                f"| {name} | rows per second, 16 connections | {mine:.0f} | {theirs:.0f} "
                f"| {mine / theirs:.2f} | {1000.0 / tight:.0f} | {1000.0 / paused:.0f} |"
            )
        cheap = deployed["cheap"][0]
        replica = luthier.running(cheap)
        _, _, cached = luthier.deploy("cached", BENCH / "pipeline")
        cold = cold_environment(luthier)
        print("\n| | |\n| --- | --- |")
        print(f"| add_artifact to SUCCESS, environment there (cheap) | {deployed['cheap'][1]:.1f} s |")
        print(f"| add_artifact to SUCCESS, environment there (pipeline) | {cached:.1f} s |")
        print(f"| add_artifact to SUCCESS, environment new and wheels to fetch | {cold:.1f} s |")
        print(f"| idle server, resident | {luthier.idle:.0f} MiB |")
        print(f"| one replica of the cheap model, proportional | {memory(replica['pid'], 'Pss'):.0f} MiB |")
    finally:
        for peer in peers:
            peer.close()
        luthier.close()


def cold_environment(luthier: Luthier) -> float:
    """Deploys with a set of requirements that no cache holds: this run's own, in a new cache."""
    global CACHE
    warm, CACHE = CACHE, Path(tempfile.mkdtemp(prefix="lb-cache-"))
    try:
        # The base file system and interpreters belong to the machine, not to the environment.
        for layer in ("rootfs", "interpreters", "images"):
            if (warm / layer).is_dir():
                subprocess.run(["cp", "-a", str(warm / layer), str(CACHE)], check=True)
        cold = Luthier(luthier.binary)
        try:
            return cold.deploy("cold", BENCH / "pipeline")[2]
        finally:
            cold.close()
            fdl.init(url=luthier.url, token=luthier.token)
    finally:
        shutil.rmtree(CACHE)
        CACHE = warm


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
