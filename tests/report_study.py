"""A study made up for the report's tests: runs on a planted Chinchilla surface, and what is beside them."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd

from scaling import laws
from scaling.records import Records

LAW = {"E": 1.05, "A": 9.0, "B": 95.0, "alpha": 0.31, "beta": 0.36}
SIZES = [5_200, 24_600, 98_300, 393_000]
DATA = [262_144, 524_288, 1_048_576, 2_097_152]
TARGET = 1_180_000, 8_388_608
HOSTILE = "def f(x):\n    <script>alert('owned')</script> & </pre>\x00\ud800 \"quoted\""
SAMPLE = '''    """Return the contents of path as a string."""
    with open(path, "r") as f:
        return f.read()


def save(path, data):
    with open(path, "w") as f:
        f.write(data)
'''


def surface(params, data):
    return LAW["E"] + LAW["A"] * params ** -LAW["alpha"] + LAW["B"] * data ** -LAW["beta"]


def record(params, data, rate, loss, role="sweep"):
    """The record of one run, as `scaling.records` describes it. A loss of NaN: it diverged at step 17."""
    diverged = math.isnan(loss)
    return {
        "fingerprint": f"{params:x}-{data:x}-{rate:g}".replace("e-", "m"), "role": role,
        "family": "transformer",
        "experiment": {"family": {"width": 16}, "optim": {"learning_rate": rate}},
        "params_total": params + 8_192, "params_non_embedding": params, "tokens_seen": data,
        "tokens_unique": data, "flops": 6.6 * params * data, "flops_6nd": 6 * params * data,
        "steps": data // 4096, "learning_rate": rate, "seed": 0, "weight_decay": 0.1,
        "loss": loss * math.log(2), "bits_per_byte": loss,
        "bits_per_byte_package": loss * 1.06, "diverged": diverged, "diverged_step": 17 if diverged else None,
        "seconds": 3e-13 * params * data + 0.8, "data_fingerprint": "pycode-stdlib-1f3c",
        "git_commit": "abc123", "versions": {"python": "3.11.9", "jax": "0.10.2"},
        "finished": "2026-01-01T00:00:00+00:00"}


def sweep(seed=0):
    """Three learning rates at every size and amount of data, the middle one best; the last run diverged."""
    rng = np.random.default_rng(seed)
    runs = []
    for params in SIZES:
        best = 0.02 * (params / SIZES[0]) ** -0.35
        for data in DATA:
            for rate in best * np.array([0.4, 1.1, 3.0]):
                loss = surface(params, data) * (1 + 0.03 * math.log(rate / best) ** 2 + 0.003 * rng.normal())
                runs.append(record(params, data, float(f"{rate:.2g}"), loss))
    last = runs.pop()
    return runs + [record(last["params_non_embedding"], last["tokens_seen"], last["learning_rate"], math.nan)]


def curve(run, rng):
    """The points of a training curve: noisy, and lower in the last fifth, where the learning rate decays."""
    tokens = np.arange(1, run["steps"] + 1) * 4096
    late = np.clip((tokens / tokens[-1] - 0.8) / 0.2, 0, 1)
    loss = math.log(2) * (surface(run["params_non_embedding"], tokens) + 0.15 - 0.15 * late)
    loss = np.minimum(loss + 0.03 * rng.normal(size=len(tokens)), 5.5)
    return [{"step": i + 1, "tokens": int(t), "loss": float(x), "learning_rate": run["learning_rate"]}
            for i, (t, x) in enumerate(zip(tokens, loss))]


def fill(workdir, without=()):
    """Writes a whole study to `workdir`, except for the parts named in `without`, and returns its records."""
    runs = sweep()
    target = record(*TARGET, 0.003, surface(*TARGET) * 1.004, role="target")
    target["finished"] = "2100-01-01T00:00:00+00:00"
    alive = pd.DataFrame([run for run in runs if not run["diverged"]])
    points = alive.loc[alive.groupby(["params_non_embedding", "tokens_seen"])["bits_per_byte"].idxmin()]
    fit = laws.fit(points)
    boot = laws.bootstrap(fit, draws=60)
    budgets = np.geomspace(alive["flops"].min(), 1.3 * target["flops"], 12)
    if "fit" not in without:
        laws.save(workdir / "fit.json", fit, boot, laws.frontier(fit, budgets, boot=boot))
    if "forecast" not in without:
        known = laws.forecast.hashes(runs)
        wanted = {key: target[key] for key in ("params_non_embedding", "tokens_seen", "flops", "fingerprint")}
        laws.forecast.write(workdir / "forecast.json", fit, boot, wanted, known)
        laws.forecast.check(workdir / "forecast.json", target["bits_per_byte"], known)
    samples = [{"label": label, "params_non_embedding": size, "fingerprint": name, "prompt": prompt,
                "text": prompt + text}
               for prompt in ("def load(path):\n", "import os\n")
               for label, size, name, text in (
                   ("smallest", SIZES[0], runs[0]["fingerprint"], "  se tor _in sethe " * 9 + HOSTILE),
                   ("largest", TARGET[0], target["fingerprint"], SAMPLE))]
    study = {"title": "Quickstart: code language models", "config": "configs/quickstart.py",
             "metric": "bits_per_byte",
             "command": "python -m experiments.run --config=configs/quickstart.py", "git_commit": "abc123",
             "seconds": 247.3, "mfu": 0.31, "matmul_flops_per_second": 3.6e11,
             "plan": {"runs": 49, "programs": 5, "flops": 3.1e14, "seconds": 230.0},
             "versions": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"}}
    for name, content in {"samples": samples, "study": study}.items():
        if name not in without:
            (workdir / f"{name}.json").write_text(json.dumps(content))
    rng = np.random.default_rng(1)
    for run in [*runs, target]:
        if "records" not in without:
            Records(workdir).write(run)
        if "curves" not in without:
            path = workdir / "curves" / f"{run['fingerprint']}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(map(json.dumps, curve(run, rng))))
    return [*runs, target]
