# %%
# On Colab this cell installs the package from its repository. Elsewhere it does nothing.
import os
import subprocess
import sys

REPOSITORY = os.environ.get("SCALING_REPOSITORY", "")
if "google.colab" in sys.modules:
    if not REPOSITORY:
        raise ValueError("REPOSITORY is empty: write the https address of the repository there, and run this cell again")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"scaling @ git+{REPOSITORY}"], check=True)

# %% [markdown]
# # Three families beside each other
#
# A Transformer, a VAE and a GAN learn different things from different data. They are trained, recorded and fitted by
# the same code. This notebook trains a small sweep of each, and draws them on the same axis of compute.

# %%
from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts: every core of a CPU then trains a run of its own

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import scaling
from scaling import experiment, laws
from scaling.experiment import RateRule
from scaling.figures import plot
from scaling.study.definition import Definition
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

SMALL = "SCALING_NOTEBOOK_SMALL" in os.environ  # the tests run this notebook on tiny models
WORKDIR = "runs/families"

# %% [markdown]
# ## Three recipes
#
# The fields of a recipe have the same names in all families. The Transformer reads Python's standard library, byte by
# byte. The VAE and the GAN see letters of 16 x 16 pixels, rendered from fonts. `rate` is the learning rate at the
# least data.

# %%
IMAGES = {"data.name": "glyphs/letters", "data.size": 16, "data.levels": 16, "data.evaluation_examples": 512,
          "optim.ema": 0.99}
MUON = {"optim.name": "muon", "optim.warmup": 20}
ADAM = {"optim.beta1": 0.0, "optim.beta2": 0.99, "optim.epsilon": 1e-8, "optim.weight_decay": 0.0, "optim.clip": 0.0,
        "optim.warmup": 20}  # without momentum, as games want it
RECIPES = {
    "transformer": {"data.length": 128, "data.batch": 6, "data.evaluation_tokens": 65_536, "family.head_dim": 8,
                    "optim.table_rate": 8.0, **MUON},
    "vae": {"data.batch": 12, **IMAGES, **MUON},
    "gan": {"data.batch": 12, "data.samples": 2048, "data.features": "random", **IMAGES, **ADAM},
}
METRICS = {"transformer": "bits_per_byte", "vae": "bits_per_dim", "gan": "fd_infinity_relative"}
RATES = {"transformer": 0.03, "vae": 0.012, "gan": 0.01}
AMOUNTS = {"transformer": (131_072, 262_144, 524_288), "vae": (4_000, 8_000, 16_000), "gan": (4_000, 8_000, 16_000)}
WIDTHS = (8, 16, 32)

if SMALL:
    RECIPES["transformer"] |= {"data.name": f"text:{os.path.dirname(scaling.__file__)}/**/*.py", "data.length": 32}
    RECIPES["vae"] |= {"family.body": "linear", "data.evaluation_examples": 64}
    RECIPES["gan"] |= {"data.samples": 128, "data.evaluation_examples": 64}
    AMOUNTS = {"transformer": (12_288, 24_576), "vae": (480, 960), "gan": (480, 960)}
    WIDTHS = (8,)

# %% [markdown]
# The metrics differ, and lower is better for each. Bits per byte is what a text costs when the model compresses it,
# and bits per dimension is the same for a pixel. The Fréchet distance compares samples of a GAN with real images,
# here by the features of a fixed random network.

# %% [markdown]
# ## Three sweeps
#
# `data.tokens` counts the data of a language model, and `data.examples` that of a model of images. `length_knob` is
# the name of whichever it is.

# %%
def sweep_of(family):
    config = experiment.config(family, **RECIPES[family])
    config.family.layers = 1
    rule = RateRule(seen=AMOUNTS[family][0], batch=config.data.batch, horizon=-0.36)
    runs = []
    for width in WIDTHS:
        config.family.width = width
        base = experiment.from_config(config)
        for amount in AMOUNTS[family]:
            whole = amount // base.data.per_step * base.data.per_step  # whole batches
            runs.append(rule(base.replace({base.data.length_knob: whole, "optim.learning_rate": RATES[family]})))
    return runs


for family, metric in METRICS.items():
    definition = Definition(f"A small sweep of {family}", metric, sweep_of(family), target=None)
    study = Study(definition, f"{WORKDIR}/{family}", TrainingOptions(), pack=0, command="families.ipynb")
    study.train()
    print(f"{family}: {len(study.plan.runs)} runs, {study.plan.flops():.2g} FLOPs")

# %% [markdown]
# Each sweep has its own folder, and each folder is a table.

# %%
tables = {family: scaling.load(f"{WORKDIR}/{family}") for family in METRICS}
for family, metric in METRICS.items():
    best = tables[family].sort_values(metric).iloc[0]
    print(f"best {family}: width {best['family.width']}, N = {best['params_non_embedding']:,}, {metric} {best[metric]:.3f}")

# %% [markdown]
# ## One figure
#
# Each line is one size on more and more data. The dashed line joins the runs that no cheaper run beats: this is the
# trend that counts. A small model on little data is the best buy for little compute, and a larger one takes over
# later.

# %%
def frontier(table, metric):
    """The runs that no cheaper run beats."""
    table = table.sort_values("flops")
    return table[table[metric] <= table[metric].cummin()]


figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharex=True, layout="constrained")
for panel, (family, metric) in zip(axes, METRICS.items(), strict=True):
    for width, some in tables[family].sort_values("flops").groupby("family.width"):
        panel.plot(some["flops"], some[metric], "o-", label=f"width {width}")
    on_it = frontier(tables[family], metric)
    panel.plot(on_it["flops"], on_it[metric], "k--", linewidth=1, label="frontier")
    panel.set(xscale="log", title=family, xlabel="compute C (FLOPs)", ylabel=metric.replace("_", " "))
    plot.finish(panel)  # round ticks
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## How steep is each?
#
# A power law through the frontier gives one number for each family: how much the metric falls when compute doubles.
# So few runs give a rough number, and it has no interval here. Losses that approach an entropy look flatter than they
# are, because this law has no floor. The commands in `configs/` run sweeps that are large enough for real fits.

# %%
rows = []
for family, metric in METRICS.items():
    points = frontier(tables[family], metric)
    if len(points) > 2:
        law = laws.fit(laws.Runs.from_dataframe(points[["flops", metric]], y=metric, x="flops"), "power")
        rows.append((family, metric, len(points), f"{1 - 2 ** -law.params['alpha']:.1%}"))
pd.DataFrame(rows, columns=["family", "metric", "runs on the frontier", "fall for twice the compute"])

# %% [markdown]
# ## Samples of each
#
# `scaling.restore` reads any run. First text, from the smallest and the largest Transformer on the most data.

# %%
def by_width(family):
    """The run of each width on the most data, restored."""
    table = tables[family].sort_values("examples_seen" if "examples_seen" in tables[family] else "tokens_seen")
    last = table.groupby("family.width").tail(1).sort_values("family.width")
    return {row["family.width"]: scaling.restore(f"{WORKDIR}/{family}", row["fingerprint"]) for _, row in last.iterrows()}


models = by_width("transformer")
for width in (min(models), max(models)):
    text = models[width].generate(["def "], tokens=60 if SMALL else 160, temperature=0.7, seed=3)[0]
    print(f"--- width {width}\ndef {text}\n")

# %% [markdown]
# Now letters. A row is a size, and a column is the same random draw for every size. The last row is real. A VAE draws
# every pixel from its own distribution, so its samples are grainy.

# %%
COUNT = 12
figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for panel, family in zip(axes, ("vae", "gan"), strict=True):
    models = by_width(family)
    rows = [model.sample(COUNT) for model in models.values()]
    rows.append(next(next(iter(models.values())).batches())["image"][:COUNT])
    grid = np.concatenate([np.concatenate(list(row[..., 0]), axis=1) for row in map(np.asarray, rows)])
    panel.imshow(grid, cmap="gray", vmin=0, vmax=15)
    size = grid.shape[0] / len(rows)
    panel.set_yticks([(row + 0.5) * size for row in range(len(rows))], [f"width {width}" for width in models] + ["real"])
    panel.set(title=f"{family}: samples", xlabel="one draw in each column", xticks=[])
plt.show()

# %% [markdown]
# ## From here
#
# * From a checkout: `python -m experiments.run --config=configs/vae_scaling.py:quick --workdir=runs/vae` and
#   `configs/gan_scaling.py:quick` train sweeps that can be fitted and forecast.
# * `python -m experiments.report --workdirs=runs/quickstart,runs/vae,runs/gan --output=runs/families` compares the
#   exponents of families, with intervals.
# * `data.features="classifier"` measures the GAN by a network that knows letters. `docs/architecture.md` says how to
#   add a family.
