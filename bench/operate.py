"""How it holds while things change: an update, a killed replica, more replicas, a killed server."""

import concurrent.futures
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import load
import models
from luthier import Luthier
from peers import answers, wait_until

UPDATE_SECONDS = 60.0
BEFORE_SECONDS = 20.0
# Half of what it can do, as far as a client in Python on the same cores can ask for it.
MOST_RATE = 3000.0
SCALE_ROUNDS = 3


def few(expected: list) -> tuple:
    return [[row] for row in models.ROWS[: models.FEW]], expected


def half(target: load.Target) -> float:
    """Half of the requests per second that it can do."""
    load.wrk(target, 16, 1)
    return min(MOST_RATE, load.wrk(target, 16, 3) / 2)


def failures(record: load.Record) -> int:
    failed = record.failed()
    for failure in failed[:3]:
        print(f"  failed: {failure}", flush=True)
    return len(failed)


def update(luthier: Luthier, name: str, expected: list) -> dict:
    """A new artifact under load at half capacity, for a minute."""
    model, _ = luthier.deploy(f"{name}-update", models.BENCH / name)
    target = luthier.target(model, *few(expected))
    rate = half(target)
    with tempfile.TemporaryDirectory() as directory:
        package = shutil.copytree(models.BENCH / name, Path(directory) / "package")
        (package / "CHANGED").write_text("so that it is another revision")
        first = luthier.status(model)["serving_revision"]
        under = load.Paced(target, rate)
        time.sleep(BEFORE_SECONDS + 1.0)
        begin = time.monotonic()
        job = model.update_artifact(model_dir=package)
        job.wait(interval=0.2)
        took = time.monotonic() - begin
        time.sleep(max(0.0, UPDATE_SECONDS - took))
        record = under.end()
    if luthier.status(model)["serving_revision"] == first:
        raise RuntimeError("the update did not take effect")
    begin -= under.begin
    before = record.between(begin - BEFORE_SECONDS, begin)
    during = record.between(begin, begin + UPDATE_SECONDS)
    job_only = record.between(begin, begin + took)
    luthier.change(model, active=False)
    return {
        "rate": rate,
        "requests": len(record),
        "failed": failures(record),
        "seconds": took,
        "p50_before": before.p(0.5),
        "p99_before": before.p(0.99),
        "p99_during": during.p(0.99),
        "p99_job": job_only.p(0.99),
    }


def kill(luthier: Luthier, name: str, expected: list) -> dict:
    """One of two replicas is killed under load, three times."""
    model, _ = luthier.deploy(f"{name}-kill", models.BENCH / name, replicas=2)
    target = luthier.target(model, *few(expected))
    rate = half(target)
    under = load.Paced(target, rate)
    for _ in range(3):
        time.sleep(2.0)
        victim = luthier.wait_for_replicas(model, 2)[0]
        os.kill(victim["pid"], signal.SIGKILL)
        gone = victim["id"]
        wait_until(lambda: gone not in [r["id"] for r in luthier.running(model)], "the end of a replica")
        luthier.wait_for_replicas(model, 2)
    time.sleep(2.0)
    record = under.end()
    luthier.change(model, active=False)
    return {"rate": rate, "kills": 3, "requests": len(record), "failed": failures(record), "p99": record.p(0.99)}


def scale(luthier: Luthier) -> dict:
    """From one replica to four: until the fourth has answered, and how much of that the model took to load."""
    model, _ = luthier.deploy("whoami", models.BENCH / "whoami", output="replica")
    target = luthier.target(model, [models.ROWS[:1]], [])
    request = target.requests()[0]
    rounds = []
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        connections = [load.Connection(luthier.port) for _ in range(8)]

        def ask(connection):
            answer = connection.ask(request)[1]
            return json.loads(answer.whole())["data"]["predictions"][0]["replica"]

        for _ in range(SCALE_ROUNDS):
            seen, begin = {}, time.monotonic()
            luthier.change(model, replicas=4)
            while len(seen) < 4:
                for replica in threads.map(ask, connections):
                    seen.setdefault(replica, time.monotonic() - begin)
                if time.monotonic() - begin > 60:
                    raise RuntimeError("no four replicas answered")
            running = {r["container"]: r for r in luthier.wait_for_replicas(model, 4)}
            fourth = max(seen, key=seen.get)
            loading = running[fourth]["import_seconds"] + running[fourth]["load_seconds"]
            rounds.append((seen[fourth] - loading, seen[fourth], loading))
            luthier.change(model, replicas=1)
            luthier.wait_for_replicas(model, 1)
        for connection in connections:
            connection.close()
    luthier.change(model, active=False)
    apart, whole, loading = sorted(rounds)[len(rounds) // 2]
    return {"apart": apart, "whole": whole, "loading": loading}


def restart(luthier: Luthier, expected: list) -> dict:
    """The server is killed with twenty replicas running, and started again."""
    deployed = []
    for number in range(2):
        model, _ = luthier.deploy(f"many-{number}", models.BENCH / "cheap", replicas=10, cpu=10, memory=160)
        deployed.append(model)
    before = [{r["id"]: r["pid"] for r in luthier.wait_for_replicas(model, 10)} for model in deployed]
    targets = [luthier.target(model, *few(expected)) for model in deployed]
    begin = time.monotonic()
    luthier.process.kill()
    luthier.process.wait()
    luthier.launch()
    wait_until(lambda: answers(luthier.url + "/healthz"), "the server")
    healthy = time.monotonic() - begin
    for target in targets:
        connection = load.Connection(target.port)
        _, answer = connection.ask(target.requests()[0])
        load.check(answer, target.expected[0], "after the restart")
        connection.close()
    answering = time.monotonic() - begin
    after = [{r["id"]: r["pid"] for r in luthier.wait_for_replicas(model, 10)} for model in deployed]
    kept = sum(len(old.items() & new.items()) for old, new in zip(before, after))
    for model in deployed:
        luthier.change(model, active=False)
    return {"healthy": healthy, "answering": answering, "adopted": kept, "restarted": 20 - kept}
