"""The measurements behind `make bench-env`: python measure.py LUTHIER. See bench/README.md."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))
import luthier as serving  # noqa: E402  (the other benchmark, for its server)

ROUNDS = int(os.environ.get("ROUNDS", "3"))
STARTS = int(os.environ.get("STARTS", "5"))
IMAGE = serving.IMAGE
REQUIREMENTS = "scikit-learn==1.5.2\n"
ONE_MORE = REQUIREMENTS + "cowsay==6.1\n"
UV = str(BENCH.parent / ".venv/bin/uv")
CACHE = BENCH.parent / "target/bench/cache"


def timed(command, env=None) -> float:
    start = time.monotonic()
    ended = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if ended.returncode != 0:
        raise RuntimeError(f"{command}: {ended.stdout}{ended.stderr}")
    return seconds


def remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


class Ours:
    """Environments made by `luthier run`: the time is from its start to the line that says ready."""

    def __init__(self, binary: str, work: Path):
        self.binary, self.work, self.cache = binary, work, work / "cache"
        self.packages = {}
        for name, text in (("first", REQUIREMENTS), ("second", ONE_MORE)):
            package = work / name
            package.mkdir()
            (package / "requirements.txt").write_text(text)
            self.packages[name] = package
        self.places = {}

    def fresh(self) -> None:
        """Empties the caches; the base file system and interpreters belong to the machine."""
        remove(self.cache)
        self.cache.mkdir()
        for layer in ("rootfs", "interpreters", "images", "records"):
            if (CACHE / layer).is_dir():
                subprocess.run(["cp", "-al", str(CACHE / layer), str(self.cache)], check=True)

    def ready(self, name="first", offline=False) -> float:
        env = {**os.environ, "UV_OFFLINE": "1"} if offline else dict(os.environ)
        start = time.monotonic()
        process = subprocess.Popen(
            [self.binary, "run", "--data", str(self.work / "data"), "--cache-dir", str(self.cache)]
            + ["--image", IMAGE, str(self.packages[name]), "--", "true"],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seconds, lines = None, []
        for line in process.stderr:
            lines.append(line)
            told = re.match(r"environment (\w+) is (ready|there already)", line)
            if told and seconds is None:
                seconds = time.monotonic() - start
                self.places[name] = next((self.cache / "envs").glob(told[1] + "*"))
        if process.wait() != 0 or seconds is None:
            raise RuntimeError("".join(lines))
        return seconds

    def drop(self, name="first") -> None:
        remove(self.places[name])

    def lock(self, name="first") -> Path:
        """What the environment was made of, with hashes, for the others."""
        path = self.work / f"{name}.lock"
        shutil.copy(self.places[name] / "requirements.lock", path)
        return path


class Pip:
    """With a directory of wheels where the others have a cache: an index need not let pip cache."""

    def __init__(self, python: str, work: Path):
        self.python, self.work, self.wheels = python, work, work / "pip-wheels"

    def fetch(self, lock: Path) -> None:
        download = [self.python, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "-r", str(lock)]
        timed([*download, "--dest", str(self.wheels)])

    def ready(self, lock: Path, name="first", cached=True) -> float:
        venv = self.work / f"pip-{name}"
        remove(venv)
        install = [str(venv / "bin/pip"), "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(lock)]
        install += ["--no-index", "--find-links", str(self.wheels)] if cached else ["--no-cache-dir"]
        return timed([self.python, "-m", "venv", str(venv)]) + timed(install)


class Uv:
    def __init__(self, python: str, work: Path, compiled: bool):
        self.python, self.work = python, work
        self.name = "uvc" if compiled else "uv"
        self.compiled = ["--compile-bytecode"] if compiled else []

    def fresh(self) -> None:
        remove(self.work / f"{self.name}-cache")

    def ready(self, lock: Path, name="first", offline=False) -> float:
        venv = self.work / f"{self.name}-{name}"
        remove(venv)
        env = {"UV_CACHE_DIR": str(self.work / f"{self.name}-cache"), "UV_NO_CONFIG": "1"}
        sync = [UV, "pip", "sync", "--quiet", "--require-hashes", "--link-mode", "hardlink", *self.compiled]
        sync += ["--offline"] if offline else []
        sync += ["--python", str(venv / "bin/python"), str(lock)]
        return timed([UV, "venv", "--quiet", "--python", self.python, str(venv)], env) + timed(sync, env)


def disk(*places) -> float:
    """MiB of the last place that the others do not hold already."""
    output = subprocess.run(["du", "-sk", *map(str, places)], capture_output=True, text=True, check=True).stdout
    return int(output.splitlines()[-1].split()[0]) / 1024.0


def row(what, cells, aim=""):
    print(f"| {what} | " + " | ".join(cells) + f" | {aim} |", flush=True)


def seconds(values) -> str:
    return f"{statistics.median(values):.2f} s" if values else "—"


def environments(binary: str, work: Path) -> None:
    ours = Ours(binary, work)
    ours.fresh()
    ours.ready("first")
    python = subprocess.run(
        [str(BENCH.parent / "scripts/python"), "3.11"], capture_output=True, text=True, check=True
    ).stdout.strip()
    pip, uv, compiled = Pip(python, work), Uv(python, work, False), Uv(python, work, True)
    ours.ready("second")
    first, second = ours.lock("first"), ours.lock("second")
    pip.fetch(second)
    sides = ("ours", "pip", "uv", "uvc")
    names = ("cold", "nothing", "warm", "offline", "more")
    times = {name: {side: [] for side in sides} for name in names}
    for _ in range(ROUNDS):
        for side in (ours, uv, compiled):
            side.fresh()
        times["cold"]["ours"].append(ours.ready())
        times["cold"]["pip"].append(pip.ready(first, cached=False))
        times["cold"]["uv"].append(uv.ready(first))
        times["cold"]["uvc"].append(compiled.ready(first))
        times["nothing"]["ours"].append(ours.ready())
        ours.drop()
        times["warm"]["ours"].append(ours.ready())
        times["warm"]["pip"].append(pip.ready(first))
        times["warm"]["uv"].append(uv.ready(first))
        times["warm"]["uvc"].append(compiled.ready(first))
        ours.drop()
        times["offline"]["ours"].append(ours.ready(offline=True))
        times["offline"]["pip"].append(pip.ready(first))
        times["offline"]["uv"].append(uv.ready(first, offline=True))
        times["offline"]["uvc"].append(compiled.ready(first, offline=True))
        # Once, so that the package that is more is in every cache.
        ours.ready("second")
        ours.drop("second")
        for side in (pip, uv, compiled):
            side.ready(second, "second")
        times["more"]["ours"].append(ours.ready("second"))
        times["more"]["pip"].append(pip.ready(second, "second"))
        times["more"]["uv"].append(uv.ready(second, "second"))
        times["more"]["uvc"].append(compiled.ready(second, "second"))
    print("| environment ready | Luthier | venv + pip | uv | uv, compiled | aim |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, what, aim in (
        ("cold", "cold: nothing cached", ""),
        ("warm", "warm: every package cached", ""),
        ("offline", "warm, without a network", ""),
        ("more", "differs from another by one cached package", "≤ 1.0 s"),
        ("nothing", "known lock: it is there", "≤ 0.1 s"),
    ):
        row(what, [seconds(times[name][side]) for side in sides], aim)
    figures = [disk(ours.cache / "uv", ours.cache / "bytecode", ours.places["first"], ours.places["second"])]
    figures.append(disk(work / "pip-first", work / "pip-second"))
    for side in (uv, compiled):
        places = (work / f"{side.name}-cache", work / f"{side.name}-first", work / f"{side.name}-second")
        figures.append(disk(*places))
    row("disk of the second environment, one small package more", [f"{mib:.0f} MiB" for mib in figures])


class Starts:
    """Starts of one replica, with the environment's compiled modules and without."""

    def __init__(self, binary: str, work: Path):
        self.luthier = serving.Luthier(binary)
        self.stash = work / "stash"
        self.stash.mkdir()
        self.model, _ = self.luthier.deploy("pipeline", BENCH / "pipeline")
        self.deployment = serving.fdl.ModelDeployment.of(model_id=self.model.id)
        status = self.status()
        # On the file system of the environment, so that modules are moved and not copied.
        self.env = CACHE / "envs" / status["environment"]
        self.moved = []

    def status(self) -> dict:
        return self.luthier.status(self.model)

    def start(self) -> tuple:
        """Seconds from the wish to ready, and those of importing and loading as the runner tells."""
        self.set_active(False)
        serving.wait_until(lambda: not self.status()["running"], "the replica to stop")
        begin = time.monotonic()
        self.set_active(True)
        serving.wait_until(lambda: self.status()["ready_replicas"] == 1, "the replica")
        whole = time.monotonic() - begin
        running = self.status()["running"][0]
        return whole, (running.get("import_seconds") or 0) + (running.get("load_seconds") or 0)

    def set_active(self, active: bool) -> None:
        self.deployment.active = active
        self.deployment.update()

    def hide(self) -> None:
        for number, place in enumerate(sorted(self.env.glob("lib/**/__pycache__"))):
            place.rename(self.stash / str(number))
            self.moved.append((self.stash / str(number), place))

    def show(self) -> None:
        for kept, place in self.moved:
            kept.rename(place)
        self.moved = []

    def close(self) -> None:
        self.show()
        self.luthier.close()


def starts(binary: str, work: Path) -> None:
    side = Starts(binary, work)
    times = {True: [], False: []}
    try:
        side.start()
        for _ in range(STARTS):
            times[True].append(side.start())
            side.hide()
            times[False].append(side.start())
            side.show()
    finally:
        side.close()
    print("\n| replica of a scikit-learn pipeline | with shared bytecode | without | ratio | aim |")
    print("| --- | --- | --- | --- | --- |")
    for index, what, aim in ((0, "wish to ready", "≤ 0.40"), (1, "import and load", "")):
        mine, bare = (statistics.median(t[index] for t in times[kind]) for kind in (True, False))
        row(what, [f"{mine:.2f} s", f"{bare:.2f} s", f"{mine / bare:.2f}"], aim)


def main(binary: str) -> None:
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, {ROUNDS} rounds, {STARTS} starts, medians\n")
    # On the file system of the cache: environments are made of hard links.
    work = Path(tempfile.mkdtemp(prefix="env-", dir=BENCH.parent / "target/bench"))
    try:
        environments(binary, work)
        starts(binary, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main(sys.argv[1])
