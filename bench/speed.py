"""How fast: one connection, sixteen, and ten thousand rows at once; Luthier, its peers and in process in turn."""

import contextlib
import json
import os
import statistics
import subprocess

import load
import models
from luthier import Luthier
from peers import PEERS, VENVS, Running

DIRECT = str(VENVS / "flask/bin/python")
MODELS = ("cheap", "pipeline")


class Side:
    """Luthier, as its peers are."""

    def __init__(self, luthier: Luthier, name: str, expected: list):
        self.luthier, self.expected = luthier, expected
        self.model, self.seconds = luthier.deploy(name, models.BENCH / name)
        verdict = (luthier.status(self.model)["batching"] or {}).get("verdict")
        print(f"{name} deployed in {self.seconds:.1f} s, batching: {verdict}", flush=True)

    def target(self, tables):
        return self.luthier.target(self.model, tables, self.expected)

    def arrow(self, tables):
        return self.luthier.arrow(self.model, tables, self.expected)

    def awake(self):
        return contextlib.nullcontext()


def direct(name: str) -> list:
    """Milliseconds in process: a row call upon call, a row after a pause, ten thousand rows."""
    command = [DIRECT, str(models.BENCH / "direct.py"), str(models.BENCH / name), str(models.WORK / "rows.json")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return [float(x) for x in subprocess.run(command, env=env, capture_output=True, check=True).stdout.split()]


def medians(rounds: list) -> dict:
    """The median of each figure over the rounds."""
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def measure(luthier: Luthier, rounds: int, seconds: float, only_batches: bool = False) -> dict:
    """`{model: {side: {figure: median}}}`; figures are p50 and p99 in ms of one row on one connection, rps at 16, and
    rows and arrow, ms of ten thousand rows."""
    results = {}
    for name in MODELS:
        expected = models.expected(DIRECT, name)
        few = [[row] for row in models.ROWS[: models.FEW]]
        sides = {"luthier": Side(luthier, name, expected)}
        try:
            for peer in PEERS:
                sides[peer] = Running(peer, name, expected)
            for peer in PEERS:
                sides[peer].ready()
            found = {side: [] for side in (*sides, "direct")}
            for _ in range(rounds):
                tight, paused, many = direct(name)
                found["direct"].append({"tight": tight, "p50": paused, "many": many})
                for side, running in sides.items():
                    with running.awake():
                        found[side].append(one_round(side, running, few, seconds))
                    print(f"  {name} {side}: {json.dumps(found[side][-1])}", flush=True)
            results[name] = {side: medians(each) for side, each in found.items()}
        finally:
            for side in list(sides)[1:]:
                sides[side].close()
    return results


def one_round(side: str, running, few: list, seconds: float) -> dict:
    one = running.target(few)
    times = load.latencies(one, seconds / 2, what=side)
    figures = {"p50": statistics.median(times), "p99": load.quantile(times, 0.99)}
    figures["rps"] = load.wrk(one, 16, seconds)
    rows = load.latencies(running.target([models.ROWS]), 2.0, most=15, what=side)
    figures["rows"] = statistics.median(rows)
    if side == "luthier" or running.peer.arrow:
        arrow = load.latencies(running.arrow([models.ROWS]), 2.0, most=25, what=side)
        figures["arrow"] = statistics.median(arrow)
    return figures
