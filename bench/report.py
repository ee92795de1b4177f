"""The table: figures beside aims, met or not."""

import json
import os
import time

from peers import PEERS


def row(what, ours, aim, met, peer="", ratio="", direct=""):
    verdict = {True: "met", False: "**not met**", None: ""}[met]
    return f"| {what} | {ours} | {peer} | {ratio} | {direct} | {aim} | {verdict} |"


def best(sides: dict, figure: str, highest: bool) -> tuple:
    """The best peer and its figure."""
    found = {name: sides[name][figure] for name in PEERS if figure in sides.get(name, {})}
    name = (max if highest else min)(found, key=found.get)
    return name, found[name]


def speed(results: dict) -> list:
    lines = []
    for model in ("cheap", "pipeline"):
        sides = results[model]
        ours, direct = sides["luthier"], sides["direct"]
        peer, p50 = best(sides, "p50", False)
        ratio = ours["p50"] / p50
        if model == "cheap":
            aim, met = "≤ 0.40 ms and ≤ 0.45 × best peer", ours["p50"] <= 0.40 and ratio <= 0.45
        else:
            aim, met = "≤ in process + 0.4 ms", ours["p50"] <= direct["tight"] + 0.4
        process = f"{direct['tight']:.2f} ms; {direct['p50']:.2f} ms after a pause"
        lines.append(
            row(f"{model}, p50 at concurrency 1", f"{ours['p50']:.2f} ms", aim, met, f"{p50:.2f} ms ({peer})",
                f"{ratio:.2f}", process)
        )  # fmt: skip
        peer, rps = best(sides, "rps", True)
        ratio, least = ours["rps"] / rps, 5 if model == "cheap" else 8
        lines.append(
            row(f"{model}, requests/s at 16", f"{ours['rps']:.0f}", f"≥ {least} × best peer", ratio >= least,
                f"{rps:.0f} ({peer})", f"{ratio:.2f}", f"{1000 / direct['tight']:.0f}")
        )  # fmt: skip
        for figure, title, most in (("rows", "JSON records", 15.0), ("arrow", "Arrow", 3.0)):
            peer, theirs = best(sides, figure, False)
            beyond = ours[figure] - direct["many"]
            aimed = model == "cheap"
            lines.append(
                row(f"{model}, 10,000 rows, {title}", f"{ours[figure]:.1f} ms ({beyond:.1f} beyond)",
                    f"≤ {most:.0f} ms beyond in process" if aimed else "", beyond <= most if aimed else None,
                    f"{theirs:.1f} ms ({peer})", f"{ours[figure] / theirs:.2f}", f"{direct['many']:.1f} ms")
            )  # fmt: skip
    return lines


def operations(found: dict) -> list:
    lines = []
    for model, u in found.get("update", {}).items():
        ratio = u["p99_during"] / u["p99_before"]
        text = f"{u['failed']} of {u['requests']} failed at {u['rate']:.0f}/s; p99 {u['p99_before']:.1f} → "
        text += f"{u['p99_during']:.1f} ms ({ratio:.1f} ×; {u['p99_job']:.1f} ms in the {u['seconds']:.1f} s of the job)"
        lines.append(
            row(f"{model}, update under load, 60 s", text, "0 failed, p99 ≤ 2 × before", u["failed"] == 0 and ratio <= 2)
        )
    for model, k in found.get("kill", {}).items():
        text = f"{k['failed']} of {k['requests']} failed at {k['rate']:.0f}/s"
        lines.append(
            row(f"{model}, kill -9 of a replica of two, {k['kills']} times", text, "0 failed", k["failed"] == 0)
        )
    if s := found.get("scale"):
        text = f"{s['apart']:.2f} s ({s['whole']:.2f} s with {s['loading']:.2f} s of loading)"
        lines.append(row("1 → 4 replicas, the fourth answers", text, "≤ 2 s, model load apart", s["apart"] <= 2.0))
    if r := found.get("restart"):
        text = f"{r['answering']:.2f} s, {r['adopted']} adopted, {r['restarted']} restarted"
        met = r["answering"] <= 1.0 and r["restarted"] == 0
        lines.append(row("kill -9 of the server until predicts are answered", text, "≤ 1 s, 0 of 20 restarted", met))
    return lines


def deployments(found: dict) -> list:
    d = found.get("deploy")
    if not d:
        return []
    return [
        row("add_artifact to SUCCESS, environment there", f"{d['there']:.1f} s", "", None),
        row("add_artifact to SUCCESS, wheels to fetch", f"{d['cold']:.1f} s", "", None),
        row("idle server, resident", f"{d['idle']:.0f} MiB", "", None),
        row("a replica of the cheap model, proportional", f"{d['replica']:.0f} MiB", "", None),
    ]


def everyone(results: dict) -> list:
    """Every side's figures."""
    lines = ["| model | side | p50 ms | p99 ms | requests/s at 16 | 10,000 rows ms | 10,000 rows Arrow ms |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for model, sides in results.items():
        for side, f in sides.items():
            if side == "direct":
                continue
            title = PEERS[side].title if side in PEERS else "Luthier"
            arrow = f"{f['arrow']:.1f}" if "arrow" in f else ""
            lines.append(
                f"| {model} | {title} | {f['p50']:.2f} | {f['p99']:.2f} | {f['rps']:.0f} | {f['rows']:.1f} | {arrow} |"
            )
    return lines


def show(found: dict, rounds: int, took: float) -> str:
    head = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, {rounds} rounds, medians; {took / 60:.0f} minutes\n"
    lines = [head, "| what | Luthier | best peer | ratio | in process | aim | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    if "speed" in found:
        lines += speed(found["speed"])
    lines += operations(found) + deployments(found)
    if "speed" in found:
        lines += ["", *everyone(found["speed"])]
    return "\n".join(lines)


def write(found: dict, path) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")
