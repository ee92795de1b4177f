"""A server of Luthier's that is measured, with the stock client."""

import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import fiddler as fdl
import models
import pandas as pd
from load import Target
from peers import ARROW, answers, consecutive, free_port, wait_until

CACHE = models.WORK / "cache"
IMAGE = "md-base/python/python-311:1.0.0"


def memory(pid: int, key: str) -> float:
    """MiB of `Rss` or `Pss` of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024.0
    raise RuntimeError(f"no {key} of {pid}")


class Luthier:
    def __init__(self, binary: str, cache: Path = None):
        self.binary, self.port, self.token = binary, free_port(), "bench"
        self.cache = cache or CACHE
        self.dir = Path(tempfile.mkdtemp(prefix="lb-"))
        self.url = f"http://127.0.0.1:{self.port}"
        self.launch()
        wait_until(lambda: answers(self.url + "/healthz"), "the server")
        # With a handler of our own the client does not print every request.
        logging.getLogger().addHandler(logging.NullHandler())
        fdl.init(url=self.url, token=self.token)
        self.idle = memory(self.process.pid, "Rss")
        self.project = fdl.Project(name="bench").create()

    def launch(self) -> None:
        with open(models.WORK / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.dir)]
                + ["--cache-dir", str(self.cache)],
                env={**os.environ, "LUTHIER_ADMIN_TOKEN": self.token},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def deploy(self, name: str, directory: Path, output="probability", **settings) -> tuple:
        """The model, and seconds from `add_artifact` to SUCCESS."""
        frame = pd.DataFrame(models.ROWS[:50]).assign(y=[0, 1] * 25)
        frame[output] = [0.25, 0.75] * 25 if output == "probability" else ["x", "y"] * 25
        task = fdl.ModelTask.BINARY_CLASSIFICATION if output == "probability" else fdl.ModelTask.NOT_SET
        model = fdl.Model.from_data(
            source=frame,
            name=name,
            project_id=self.project.id,
            spec=fdl.ModelSpec(inputs=models.NUMBERS + models.WORDS, outputs=[output], targets=["y"]),
            task=task,
        )
        model.create()
        # A model is batched once it was seen that rows do not matter to each other: for that there must be rows.
        published = model.publish(frame, environment=fdl.EnvType.PRE_PRODUCTION, dataset_name="rows")
        published.wait(interval=0.1)
        given = {"image_uri": IMAGE, "cpu": 100, "memory": 512, **settings}
        start = time.monotonic()
        job = model.add_artifact(model_dir=directory, deployment_params=fdl.DeploymentParams(**given))
        job.wait(interval=0.1)
        return model, time.monotonic() - start

    def target(self, model, tables: list, expected: list) -> Target:
        bodies = [models.compact({"model_id": str(model.id), "data": table}) for table in tables]
        return Target(self.port, "/v3/predict", bodies, consecutive(tables, expected), self.token)

    def arrow(self, model, tables: list, expected: list) -> Target:
        path, bodies = f"/v3/predict?model_id={model.id}", [models.arrow(table) for table in tables]
        return Target(self.port, path, bodies, consecutive(tables, expected), self.token, ARROW)

    def status(self, model) -> dict:
        request = urllib.request.Request(
            self.url + "/v1/deployments", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request) as answer:
            items = json.load(answer)["data"]["items"]
        return next(item for item in items if item["model_id"] == str(model.id))

    def running(self, model) -> list:
        return [replica for replica in self.status(model)["running"] if replica["state"] == "running"]

    def wait_for_replicas(self, model, count: int) -> list:
        def there():
            status = self.status(model)
            running = [r for r in status["running"] if r["state"] == "running"]
            return status["ready_replicas"] == len(running) == count and running

        return wait_until(there, f"{count} replicas")

    def change(self, model, **settings) -> None:
        """Changes a deployment, without waiting for it to take effect."""
        request = urllib.request.Request(
            f"{self.url}/v3/models/{model.id}/deployment",
            models.compact(settings),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request).close()

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        subprocess.run([self.binary, "purge", "--data", str(self.dir)], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def cold_deployment(binary: str) -> float:
    """Seconds to deploy with requirements that no cache holds: in a new cache."""
    cache = Path(tempfile.mkdtemp(prefix="lb-cache-"))
    try:
        # The base file system and interpreters belong to the machine, not to the environment.
        for layer in ("rootfs", "interpreters", "images", "records"):
            if (CACHE / layer).is_dir():
                subprocess.run(["cp", "-a", str(CACHE / layer), str(cache)], check=True)
        cold = Luthier(binary, cache)
        try:
            return cold.deploy("cold", models.BENCH / "pipeline")[1]
        finally:
            cold.close()
    finally:
        shutil.rmtree(cache)
