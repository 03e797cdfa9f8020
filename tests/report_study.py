"""Made-up studies for tests: records of runs on a planted Chinchilla surface, and all other files of a workdir."""

from __future__ import annotations

import functools
import io
import json
import math

import matplotlib.image
import numpy as np
import pandas as pd

from scaling import laws
from scaling.results.records import Records

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


# A study of images: a distance that falls with size and hardly with data.
GAN_LAW = {"E": 0.012, "A": 9.0, "B": 0.6, "alpha": 0.48, "beta": 0.31}
GAN_SIZES = [10_400, 41_000, 160_000, 610_000]
GAN_DATA = [16_384, 65_536, 262_144]
GAN_TARGET = 2_400_000, 524_288
FLOOR = 0.0035


def record(params, data, rate, loss, role="sweep"):
    """The record of one run, as `scaling.results.records` describes it. With a loss of NaN it diverged at step 17."""
    diverged = math.isnan(loss)
    return {
        "fingerprint": f"{params:x}-{data:x}-{rate:g}".replace("e-", "m"), "role": role,
        "family": "transformer",
        "experiment": {"family": {"width": 16}, "optim": {"learning_rate": rate}},
        "params_total": params + 8_192, "params_non_embedding": params, "tokens_seen": data,
        "tokens_unique": data, "flops": 6.6 * params * data,
        "flops_executed": 8.1 * params * data, "flops_6nd": 6 * params * data,
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
    """The points of a training curve: noisy, and lower in the last fifth, as if the learning rate decayed there."""
    tokens = np.arange(1, run["steps"] + 1) * 4096
    late = np.clip((tokens / tokens[-1] - 0.8) / 0.2, 0, 1)
    loss = math.log(2) * (surface(run["params_non_embedding"], tokens) + 0.15 - 0.15 * late)
    loss = np.minimum(loss + 0.03 * rng.normal(size=len(tokens)), 5.5)
    return [{"step": i + 1, "tokens": int(t), "loss": float(x), "learning_rate": run["learning_rate"]}
            for i, (t, x) in enumerate(zip(tokens, loss))]


@functools.cache
def fitted():
    """(fit, bootstrap, frontier) of the study of text, which are the same in every workdir."""
    alive = pd.DataFrame([run for run in sweep() if not run["diverged"]])
    points = alive.loc[alive.groupby(["params_non_embedding", "tokens_seen"])["bits_per_byte"].idxmin()]
    fit = laws.fit(laws.Runs.from_dataframe(points, "bits_per_byte"))
    boot = laws.bootstrap(fit, draws=60)
    budgets = np.geomspace(alive["flops"].min(), 1.3 * record(*TARGET, 0.003, 1.0)["flops"], 12)
    return fit, boot, laws.frontier(fit, budgets, boot=boot)


def fill(workdir, without=(), off=1.004, scored=True):
    """Writes a whole study to `workdir`, except for the parts named in `without`, and returns its records.

    off: what the target reaches, as a multiple of the planted law's value. scored: False for a study that has not trained
    its target yet.
    """
    runs = sweep()
    target = record(*TARGET, 0.003, surface(*TARGET) * off, role="target")
    target["finished"] = "2100-01-01T00:00:00+00:00"
    fit, boot, frontier = fitted()
    if "fit" not in without:
        laws.save_fit(workdir / "fit.json", fit, boot, frontier)
    if "forecast" not in without:
        known = laws.record_hashes(runs)
        wanted = {key: target[key] for key in ("params_non_embedding", "tokens_seen", "flops", "fingerprint")}
        laws.forecast.write(workdir / "forecast.json", fit, boot, wanted, known)
        if scored:
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
             "seconds": 247.3, "mfu": 0.31, "hardware_utilisation": 0.38, "matmul_flops_per_second": 3.6e11,
             "plan": {"runs": 49, "programs": 5, "flops": 3.1e14, "flops_executed": 3.8e14, "seconds": 230.0},
             "versions": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8"}}
    for name, content in {"samples": samples, "study": study}.items():
        if name not in without:
            (workdir / f"{name}.json").write_text(json.dumps(content))
    rng = np.random.default_rng(1)
    for run in [*runs, *([target] if scored else [])]:
        if "records" not in without:
            Records(workdir).write(run)
        if "curves" not in without:
            path = workdir / "curves" / f"{run['fingerprint']}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(map(json.dumps, curve(run, rng))))
    return [*runs, target]


def distance(params, data):
    law = GAN_LAW
    return law["E"] + law["A"] * params ** -law["alpha"] + law["B"] * data ** -law["beta"]


def image_record(params, data, rate, value, seed=0, unique=None, role="sweep"):
    """The record of one run of a GAN. With a `value` of NaN it diverged."""
    lost = math.isnan(value)
    kept = {name: x for name, x in record(params, data, rate, value, role).items()
            if not name.startswith(("tokens", "bits", "loss"))}

    def none(x):
        return None if lost else x

    return kept | {
        "fingerprint": f"{params:x}-{data:x}-{unique or 0:x}-{rate:g}-{seed}".replace("e-", "m"),
        "family": "gan", "seed": seed, "examples_seen": data, "examples_unique": unique or data,
        "experiment": {"family": {"width": 16}, "optim": {"learning_rate": rate},
                       "data": {"examples": data, "unique_examples": unique or 0}},
        "fd": none(value * 1.2), "fd_infinity": none(value), "fd_infinity_se": none(0.02 * value),
        "kid": none(value / 30), "missed": none(min(0.9, 4 * value)),
        "coverage": none(1 - min(0.9, 4 * value)),
        "critic_advantage": none(min(0.45, 6 * value)), "fd_infinity_font": none(value * 1.4),
        "diverged_because": "the discriminator won" if lost else None,
        "judge": {"name": "classifier", "weights": "f00d" * 16, "dimension": 128, "samples": 4096},
        "data_fingerprint": "glyphs-77aa"}


def image_sweep(seed=0):
    """Three learning rates everywhere, three seeds at the middle one, and at the most data also fewer unique images."""
    rng, runs = np.random.default_rng(seed), []

    def add(params, data, rate, factor, seed, unique=None, diverged=False):
        value = distance(params, unique or data) * factor * math.exp(0.03 * rng.normal())
        runs.append(image_record(params, data, rate, math.nan if diverged else value, seed, unique))

    for params in GAN_SIZES:
        for data in GAN_DATA:
            for rate, factor in ((1e-3, 1.3), (4e-3, 1.0), (1.6e-2, 1.5)):
                for s in range(3 if rate == 4e-3 else 1):
                    add(params, data, rate, factor, s, diverged=rate > 1e-2 and params > 1e5)
        for unique in (512, 4096):
            add(params, GAN_DATA[-1], 4e-3, 1.0, 0, unique)
    return runs


def picture(rows=4, columns=8, size=16, seed=0):
    """A PNG of a grid of squares, as a study draws it."""
    image = np.random.default_rng(seed).integers(0, 255, (rows, columns)).astype(np.uint8)
    buffer = io.BytesIO()
    pixels = np.kron(image, np.ones((size, size), np.uint8))
    matplotlib.image.imsave(buffer, pixels, format="png", cmap="gray")
    return buffer.getvalue()


@functools.cache
def fitted_images():
    """((fit, bootstrap, frontier), (fit, bootstrap) of KID) of the study of images, the same in every workdir."""
    alive = pd.DataFrame([run for run in image_sweep() if not run["diverged"]])
    points = alive[alive["learning_rate"] == 4e-3].groupby(["params_non_embedding", "examples_seen"]).agg(
        {"fd_infinity": "min", "flops": "first", "fingerprint": "first"}).reset_index()
    fit = laws.fit(laws.Runs.from_dataframe(points, "fd_infinity"), delta="noise")
    boot = laws.bootstrap(fit, draws=60)
    budgets = np.geomspace(alive["flops"].min(), 1.3 * image_record(*GAN_TARGET, 3e-3, 1.0)["flops"], 12)
    kid = laws.fit(laws.Runs.from_dataframe(points.assign(kid=points["fd_infinity"] ** 0.5), "kid"))
    return (fit, boot, laws.frontier(fit, budgets, boot=boot)), (kid, laws.bootstrap(kid, draws=60))


def fill_images(workdir, without=()):
    """Writes a study of images to `workdir`, except for the parts named in `without`, and returns its
    records."""
    runs = image_sweep()
    target = image_record(*GAN_TARGET, 3e-3, distance(*GAN_TARGET) * 1.01, role="target")
    target["finished"] = "2100-01-01T00:00:00+00:00"
    (fit, boot, frontier), kid = fitted_images()
    about = {name: target[name] for name in ("params_non_embedding", "examples_seen", "flops", "fingerprint")}
    known = laws.record_hashes(runs)
    if "fit" not in without:
        laws.save_fit(workdir / "fit.json", fit, boot, frontier)
        laws.save_fit(workdir / "fits" / "kid.json", *kid)
    if "forecast" not in without:
        laws.forecast.write(workdir / "forecast.json", fit, boot, about, known)
        laws.forecast.check(workdir / "forecast.json", target["fd_infinity"], known)
    shown = [(run["params_non_embedding"], run["fingerprint"]) for run in runs
             if run["examples_seen"] == GAN_DATA[-1] and run["seed"] == 2]
    pictures = [{"params_non_embedding": size, "fingerprint": name, "name": kind, "rows": 4, "columns": 8,
                 "path": f"pictures/{name}-{kind}.png", "examine": {}}
                for size, name in reversed(shown) for kind in ("samples", "interpolations")]
    examine = [{"params_non_embedding": size, "fingerprint": name, "label": label,
                "metrics": {"iwae_bits_per_dim": 1.4 - 0.1 * i, "iwae_bits_per_dim_se": 0.004,
                            "active_latents": 0.12 + 0.1 * i}}
               for i, (label, (size, name)) in enumerate(zip(("smallest", "largest"), (shown[0], shown[-1])))]
    files = {"pictures": pictures, "examine": examine, "baselines": {
        "floor": {"fd_infinity": FLOOR, "kid": 1e-4},
        "memoriser": [{"examples_unique": d, "fd_infinity": 8 / d + FLOOR} for d in (512, 4096, *GAN_DATA)]},
        "study": {"title": "Small GANs on glyphs", "metric": "fd_infinity", "unit": "examples",
                  "family": "gan", "law": "chinchilla",
                  "command": "python -m experiments.run --config=configs/gan_scaling.py",
                  "seconds": 1700.0, "versions": {"jax": "0.10.2"}}}
    for name, content in files.items():
        if name not in without:
            (workdir / f"{name}.json").write_text(json.dumps(content))
    (workdir / "pictures").mkdir(exist_ok=True)
    for i, entry in enumerate(pictures):
        (workdir / entry["path"]).write_bytes(picture(seed=i))
    (workdir / "curves").mkdir(exist_ok=True)
    for run in [*runs, target]:
        Records(workdir).write(run)
        seen = np.geomspace(64, run["examples_seen"], 40)
        points = [{"step": int(x / 64), "examples": float(x), "gen/loss": float(1 + 0.1 * np.sin(x)),
                   "disc/loss": float(0.5 + 10 / x**0.5), "learning_rate": run["learning_rate"]}
                  for x in seen]
        (workdir / "curves" / f"{run['fingerprint']}.jsonl").write_text("\n".join(map(json.dumps, points)))
    return [*runs, target]
