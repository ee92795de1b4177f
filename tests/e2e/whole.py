"""What must hold after every fault: the wanted replicas run and serve, and nothing else is there."""

import json
import os
import signal
from pathlib import Path

import harness


def deployment(server, model) -> dict:
    """The deployment of a model as the server shows it."""
    items = server.get("/v1/deployments")["items"]
    return next(item for item in items if item["model_id"] == str(model.id))


def replicas(server, model) -> list:
    """(id, pid) of each replica that runs."""
    running = deployment(server, model)["running"]
    return sorted((r["id"], r["pid"]) for r in running if r["state"] == "running")


def pids(server, file: str) -> list:
    """The processes that the containers' files name: `shim.json` or `running.json`."""
    found = (server.data / "containers").glob(f"*/{file}")
    return [json.loads(path.read_text())["pid"] for path in found]


def end(*processes: int) -> None:
    """Kills and waits until none is left."""
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    harness.wait_for(lambda: not any(map(runs, processes)), "the killed to be gone")


def runs(pid: int) -> bool:
    """Whether it is there and not only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(") ", 1)[1][0] not in "ZX"


def leaked(server, count: int) -> list:
    """What is there beside `count` whole containers."""
    found = []

    def expect(what, there):
        if len(there) != count:
            found.append(f"{len(there)} {what} for {count} containers: {there}")

    expect("state directories", server.containers())
    run = server.data / "run"
    expect("run directories", sorted(p.name for p in run.iterdir()) if run.is_dir() else [])
    expect("sockets", sorted(run.glob("*/s/*")) if run.is_dir() else [])
    expect("cgroups", sorted({Path(path).name for path in cgroups_of(server)}))
    expect("shims", shims(server))
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount: {line}" for line in mounts if f"{server.data}/" in line]
    return found


def cgroups_of(server) -> list:
    """The cgroups of containers of this run, without those of the server that most tests share."""
    others = server.others
    return [path for path in harness.cgroups() if Path(path).name not in others]


def remove_cgroups(server) -> None:
    """Takes away the cgroups of a server whose containers were killed, as a restart does."""

    def removed():
        for path in cgroups_of(server):
            try:
                os.rmdir(path)
            except OSError:
                # Somebody in it is still dying.
                return False
        return True

    harness.wait_for(removed, "the cgroups to go")


def shims(server) -> list:
    """The shims that run for this server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if command[1:2] == ["shim"] and command[2].startswith(f"{server.data}/"):
                found.append(int(entry.name))
    return found


def settled(server, model, count: int, seconds: float = 60) -> list:
    """Waits until exactly `count` replicas of the one model of this server serve and nothing else
    is there; gives them."""

    def is_whole():
        seen = deployment(server, model)
        return (
            len(replicas(server, model)) == len(seen["running"]) == count
            and seen["ready_replicas"] == count
            and not leaked(server, count)
        )

    def state():
        return f"{leaked(server, count)}, {deployment(server, model)}\n{server.log()[-6000:]}"

    harness.wait_for(is_whole, "the wanted state", seconds, told=state)
    return replicas(server, model)
