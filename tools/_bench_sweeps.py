"""Whole sweeps, from the command to the last record: the package's command, and peers launched once per configuration.

The package trains a sweep by `python -m experiments.run --config=tools/_bench_config.py:NAME`. A peer is a script for one
configuration (`tools._bench_peer`), launched for each in turn, with all cores. Runs that differ only in their learning
rate cost the same, so of those only a few launches are measured and the time is multiplied.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tools._bench_workers import ROOT, Failed, Watch, path_of_modules

PEERS = ("torch", "nanodo")
CACHES = ("JAX_COMPILATION_CACHE_DIR", "SCALING_COMPILATION_CACHE", "SCALING_REMEMBERED")  # they would name warm ones


def sweeps(bench):
    with tempfile.TemporaryDirectory() as folder:
        for sweep in bench.sweeps:
            bench.attempt(sweep.name, _sweep, sweep, pathlib.Path(folder) / sweep.name.replace(" ", "-"))


def _sweep(bench, sweep, folder):
    folder.mkdir()
    bench.say(f"{sweep.name}: prepares the data")
    data = {length: _export(sweep, length, batch, folder) for length, batch in {(m.length, m.batch) for m in sweep.models}}
    peers = [who for who in PEERS if who in bench.team.peers]
    found: dict = {who: [] for who in ("ours", *peers)}
    launches: dict = {who: {} for who in peers}
    watch, used = Watch(), sum(os.times()[2:4])
    for repeat in range(bench.sweep_repeats):
        bench.say(f"{sweep.name}: the package's command, {sweep.runs} runs")
        found["ours"].append(ours(sweep, folder / f"ours-{repeat}"))
        for who in peers:
            total = 0.0
            for number, (model, tokens) in enumerate(sweep.launches):
                bench.say(f"{sweep.name}: {who}, launch {number + 1} of {len(sweep.launches)}")
                seconds = peer(who, sweep, model, tokens, data[model.length], folder / f"{who}-{repeat}-{number}.json",
                               bench.team.nanodo)
                launches[who].setdefault(f"{model.name}, {tokens} tokens", []).append(seconds)
                total += sweep.rates * seconds
            found[who].append(total)
    bench.add("sweeps", f"{sweep.name}, {sweep.runs} runs", "s", found.pop("ours"), found, launches=launches,
              measured_launches=bench.sweep_repeats * len(sweep.launches),
              others=watch.others(sum(os.times()[2:4]) - used))


def ours(sweep, workdir) -> float:
    """Seconds from the command to its last record. What it does after that (fit, report) is stopped."""
    caches = workdir.with_name(workdir.name + "-cache")  # empty: nothing that an earlier command compiled
    command = [sys.executable, "-m", "experiments.run", f"--config=tools/_bench_config.py:{sweep.name.replace(' ', '_')}",
               f"--workdir={workdir}"]
    log, records = workdir.with_suffix(".log"), workdir / "records"
    start = time.time()
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=_uncached() | {
            "PYTHONPATH": path_of_modules(), "XDG_CACHE_HOME": str(caches)})
        try:
            while process.poll() is None and len(found := _records(records)) < sweep.runs:
                time.sleep(0.05)
            found = _records(records)
            if len(found) < sweep.runs:
                raise Failed(f"the command ended with {len(found)} of {sweep.runs} runs: {log.read_text()[-300:]}")
            return max(path.stat().st_mtime for path in found) - start
        finally:
            process.kill()
            process.wait()


def _uncached() -> dict:
    """The environment without the variables that name caches."""
    return {name: value for name, value in os.environ.items() if name not in CACHES}


def _records(folder):
    return list(folder.glob("*.jsonl")) if folder.exists() else []


def peer(who, sweep, model, tokens, data, output, nanodo=None) -> float:
    """Seconds of one launch of a peer's script, from its command to its end, which comes after its record."""
    settings = {"who": who, "case": model._asdict(), "tokens": tokens, "rate": sweep.learning_rates[sweep.rates // 2],
                "data": str(data), "output": str(output), "nanodo": nanodo and str(nanodo)}
    start = time.time()
    done = subprocess.run([sys.executable, "-m", "tools._bench_peer", json.dumps(settings)], cwd=ROOT, text=True,
                          capture_output=True, env=_uncached() | {"PYTHONPATH": str(ROOT)})
    seconds = time.time() - start
    if done.returncode or not output.exists():
        raise Failed(f"the script of {who} ended with status {done.returncode}: {done.stderr[-300:]}")
    return seconds


EXPORT = """
import json, sys
import numpy as np
from scaling.experiment import Text
fields, path = json.loads(sys.argv[1]), sys.argv[2]
data = Text(**fields)
source = data.load()
sets = {f"evaluation_{i}": source.evaluation(split, data.evaluated)["tokens"] for i, split in enumerate(source.splits)}
np.savez(path, train=source.arrays()["tokens"], **sets)
"""


def _export(sweep, length, batch, folder):
    """A file with the tokens of the package's data set, in the order of training, and its evaluation sets."""
    path = folder / f"tokens-{length}.npz"
    fields = {"length": length, "batch": batch, "evaluation_tokens": sweep.evaluation_tokens}
    done = subprocess.run([sys.executable, "-c", EXPORT, json.dumps(fields), str(path)], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": path_of_modules(), "JAX_PLATFORMS": "cpu"})
    if done.returncode:
        raise Failed(f"the data could not be prepared: {done.stderr[-300:]}")
    return path
