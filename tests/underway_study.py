"""The made-up study of `report_study` in the middle of its sweep: finished, failed, running, silent and planned runs."""

import json
import os
import time

import numpy as np
from report_study import SIZES, curve, sweep

from scaling.results.records import Records

STEP = 1e6  # FLOPs that a step executes, for each parameter
RUNNING, SILENT = 2, 1  # runs of the largest size that have begun


def begin(workdir, finished=lambda run: run["params_non_embedding"] < SIZES[-1]):
    """Writes the workdir, and returns its runs by state. `finished` says which runs have a record; of the others, some have
    begun, and one log ends in a torn line."""
    runs = sweep()
    runs[0] |= {"diverged": True, "diverged_step": 17, "diverged_because": "not finite"}
    runs[0] |= {"bits_per_byte": None, "loss": None}
    planned = {run["fingerprint"]: about(run) for run in runs}
    study = {"title": "Code language models, under way", "metric": "bits_per_byte", "unit": "tokens", "law": "chinchilla",
             "config": {"fit_edges": True}, "runs": sorted(planned), "planned": planned,
             "plan": {"runs": len(runs), "programs": 4, "flops": 3.1e14, "flops_executed": 3.8e14, "seconds": 230.0}}
    (workdir / "study.json").write_text(json.dumps(study))
    left, rng = [run for run in runs if not finished(run)], np.random.default_rng(1)
    for run in runs:
        if finished(run):
            Records(workdir).write(run)
            write_lines(workdir / "curves" / f"{run['fingerprint']}.jsonl", curve(run, rng))
    for number, run in enumerate(left[:RUNNING + SILENT]):
        points = curve(run, rng)
        half, cooldown = points[:len(points) // 2 + 1], planned[run["fingerprint"]]["cooldown"]
        write_lines(log := workdir / "logs" / f"{run['fingerprint']}-trunk.jsonl", half)
        if number == 0:  # its branch has begun, and its writer is in the middle of a line
            write_lines(log, [point for point in points if point["step"] <= cooldown])
            branch = workdir / "logs" / f"{run['fingerprint']}-branch-{run['steps']}.jsonl"
            write_lines(branch, [point for point in points if cooldown < point["step"] < cooldown + 5])
            branch.write_text(branch.read_text() + '{"step": 9')
        if number >= RUNNING:
            os.utime(log, (time.time() - 7200,) * 2)
    return {"finished": [run for run in runs[1:] if finished(run)], "failed": runs[:1], "running": left[:RUNNING],
            "silent": left[RUNNING:RUNNING + SILENT], "planned": left[RUNNING + SILENT:]}


def about(run):
    """What study.json lists of a planned run."""
    return {"role": "sweep", "family": "transformer", "params_non_embedding": run["params_non_embedding"],
            "tokens_seen": run["tokens_seen"], "learning_rate": run["learning_rate"], "seed": 0, "steps": run["steps"],
            "cooldown": int(0.8 * run["steps"]), "flops_executed_per_step": STEP * run["params_non_embedding"],
            "trunk": run["fingerprint"], "pack": f"pack-{run['fingerprint']}"}


def write_lines(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(point) + "\n" for point in points))
