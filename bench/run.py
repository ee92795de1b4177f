"""The measurements behind `make bench`: python run.py LUTHIER. See bench/README.md."""

import os
import sys
import time

import models
import operate
import report
import speed
from luthier import Luthier, cold_deployment, memory

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS_OF_LOAD", "3"))
PARTS = ("speed", "update", "kill", "scale", "restart", "deploy")
ONLY = tuple(os.environ["ONLY"].split(",")) if os.environ.get("ONLY") else PARTS


def deployments(luthier: Luthier, binary: str) -> dict:
    model, there = luthier.deploy("cheap-again", models.BENCH / "cheap")
    replica = memory(luthier.running(model)[0]["pid"], "Pss")
    return {"there": there, "cold": cold_deployment(binary), "idle": luthier.idle, "replica": replica}


def main(binary: str) -> None:
    unknown = set(ONLY) - set(PARTS)
    if unknown:
        sys.exit(f"ONLY takes {', '.join(PARTS)}, and not {', '.join(unknown)}")
    begin = time.monotonic()
    expected = {name: models.expected(speed.DIRECT, name) for name in speed.MODELS}
    found = {}
    luthier = Luthier(binary)
    try:
        if "speed" in ONLY:
            found["speed"] = speed.measure(luthier, ROUNDS, SECONDS)
        for part in ("update", "kill"):
            if part in ONLY:
                how = getattr(operate, part)
                found[part] = {name: how(luthier, name, expected[name]) for name in speed.MODELS}
                print(f"  {part}: {found[part]}", flush=True)
        if "scale" in ONLY:
            found["scale"] = operate.scale(luthier)
            print(f"  scale: {found['scale']}", flush=True)
        if "restart" in ONLY:
            found["restart"] = operate.restart(luthier, expected["cheap"])
            print(f"  restart: {found['restart']}", flush=True)
        if "deploy" in ONLY:
            found["deploy"] = deployments(luthier, binary)
    finally:
        luthier.close()
    report.write(found, models.WORK / "result.json")
    print("\n" + report.show(found, ROUNDS, time.monotonic() - begin))


if __name__ == "__main__":
    main(sys.argv[1])
