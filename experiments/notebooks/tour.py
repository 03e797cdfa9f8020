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
# # A tour: from a question to a forecast that is checked
#
# How does the loss of a language model fall with its size and its data? This notebook trains a small sweep, fits a
# law, and writes down a forecast for a larger run. Then it trains that run, and says whether the forecast held.
#
# The models read Python's own standard library, so there is nothing to download. Two CPU cores are enough.

# %%
from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts: every core of a CPU then trains a run of its own

import types

import matplotlib.pyplot as plt

import scaling
from scaling import experiment, laws
from scaling.experiment import RateRule
from scaling.study import configs
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

SMALL = "SCALING_NOTEBOOK_SMALL" in os.environ  # the tests run this notebook on tiny models
WORKDIR = "runs/tour"

# %% [markdown]
# ## A config, and how to shrink it
#
# A config has every field of an experiment, with its default. Change any of them. Each field is also a flag of the
# command line: `config.data.batch = 4` is `--config.data.batch=4`.

# %%
config = experiment.config("transformer")
config.title, config.metric, config.prompts = "A tour", "bits_per_byte", ("def ",)
config.law = "best"  # the rule that chooses a law: the one of lowest error on runs that it was not fitted to
print(config.data)

# %% [markdown]
# We make everything small: one layer, short sequences, little data. Muon learns about twice as fast as AdamW in runs
# this short.

# %%
config.update_from_flattened_dict({
    "family.layers": 1, "family.head_dim": 8, "data.length": 128, "data.batch": 4, "data.evaluation_tokens": 65_536,
    "optim.name": "muon", "optim.warmup": 20, "optim.table_rate": 8.0})
config.widths = (8, 16, 24, 32)
config.tokens = (180_224, 262_144, 393_216, 589_824)
config.seeds = (4, 2, 2, 1)  # for each amount of data: short runs scatter more
config.target_width, config.target_tokens = 48, 1_572_864

if SMALL:
    config.update_from_flattened_dict({
        "data.name": f"text:{os.path.dirname(scaling.__file__)}/**/*.py", "data.length": 32, "data.evaluation_tokens": 8192,
        "widths": (8, 16, 24), "tokens": (8192, 16_384, 24_576, 32_768), "seeds": (1, 1, 1, 1), "law": "kaplan",
        "target_width": 16, "target_tokens": 65_536})

# %% [markdown]
# ## A sweep is a list
#
# A function makes one run of a width and an amount of data. A pilot found the learning rate at one width and one
# amount. A rule carries it to the others: longer runs and wider models want a lower rate.

# %%
rule = RateRule(seen=229_376, batch=8, horizon=-0.48, width=48, width_power=-0.45)


def run_of(config, width, tokens, seed=0):
    sized = config.copy_and_resolve_references()
    sized.family.width = width
    base = experiment.from_config(sized)
    return rule(base.replace({"data.tokens": tokens, "optim.learning_rate": 0.035, "seed": seed}))


def sweep(config):
    return [run_of(config, width, tokens, seed) for tokens, seeds in zip(config.tokens, config.seeds, strict=True)
            for width in config.widths for seed in range(seeds)]


def target(config, learning_rate):
    return run_of(config, config.target_width, config.target_tokens)  # the rule gives its rate


print(len(sweep(config)), "runs; the first one learns at", sweep(config)[0].optim.learning_rate)

# %% [markdown]
# ## The plan
#
# A study knows its cost before it trains. Whatever cannot run is refused here, in one sentence, and nothing is
# created.

# %%
definition = configs.define_study(types.SimpleNamespace(sweep=sweep, target=target), config)
study = Study(definition, WORKDIR, TrainingOptions(), pack=0, command="tour.ipynb")
print(study.describe())

# %% [markdown]
# ## Train
#
# Finished runs are kept in `WORKDIR`. If you stop this cell, or the runtime ends, run it again: it goes on where it
# was.

# %%
study.train()
table = scaling.load(WORKDIR)  # one row for each run
columns = ["params_non_embedding", "tokens_seen", "seed", "learning_rate", "flops", "bits_per_byte"]
table[columns].sort_values("bits_per_byte").head()

# %%
figure, axes = plt.subplots(figsize=(6, 3.6))
for params, some in table.groupby("params_non_embedding"):
    mean = some.groupby("tokens_seen")["bits_per_byte"].mean()
    axes.plot(mean.index, mean, "o-", label=f"N = {params:,}")
axes.set(xscale="log", xlabel="tokens seen D", ylabel="bits per byte")
axes.set_xticks(config.tokens, [f"{tokens / 1000:.0f}k" for tokens in config.tokens])
axes.minorticks_off()
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Which law?
#
# Six laws are fitted to the cheap runs, and predict the dear ones. `mape` is the mean size of their error. `coverage`
# is the share of held-out runs inside the 90% intervals. The spread between laws that tie is a part of every
# forecast.

# %%
runs = laws.Runs.from_workdir(WORKDIR)
chosen = laws.choose_law(runs, config.law, draws=60 if SMALL else 400)
print(chosen)

# %%
law = chosen.fit
boot = laws.bootstrap(law, draws=60 if SMALL else 400)
print(laws.table(law, boot))

# %% [markdown]
# Lines that begin with `!` would be reasons to doubt. The exponents of so small a sweep are not sharp, as their
# intervals say. A forecast can still be sharp, because many different laws agree close to the runs.

# %%
laws.plots.fit(law, boot)

# %% [markdown]
# ## Forecast, train, check
#
# `study.go()` does the rest. It writes `forecast.json` for the target, and only then trains the target. A forecast
# that was written after its run would not count. It uses the same law, with intervals that also hold what the seeds
# show.

# %%
page = study.go()

# %%
forecast = laws.forecast.read(f"{WORKDIR}/forecast.json")
low, high = forecast["interval"]
print(f"forecast {forecast['predicted']:.3f}, 90% interval [{low:.3f}, {high:.3f}]")
print(f"at {forecast['compute_ratio']:.1f} times the compute of the largest run that was fitted")

observed = scaling.load(WORKDIR).query("role == 'target'")["bits_per_byte"].item()
print(f"observed {observed:.3f}, {observed / forecast['predicted'] - 1:+.1%}:",
      "inside the interval" if low <= observed <= high else "outside the interval")

# %%
laws.plots.forecast(forecast, laws.forecast.read_check(f"{WORKDIR}/forecast.json"), law)

# %% [markdown]
# One forecast that holds proves little, and one that misses is no scandal: a 90% interval misses one time in ten. The
# page `docs/forecasts.md` keeps every forecast that was registered, with those that missed.

# %% [markdown]
# ## Text from the best model
#
# Every run can be restored. The largest model has seen 1.6 million bytes of Python. It has learned names, indents and
# brackets, and no sense.

# %%
best = scaling.restore(WORKDIR)  # the best run; a second argument names another
print(best)
print("def " + best.generate(["def "], tokens=100 if SMALL else 300, temperature=0.7, seed=1)[0])

# %% [markdown]
# ## From here
#
# * The whole study is one page: the file `page`. On Colab, `display(HTML(filename=...))` shows it here.
# * From a checkout, one command does all of this: `python -m experiments.run --config=configs/quickstart.py
#   --workdir=runs/quickstart`.
# * The notebook `families` does the same with images, `own_csv` starts from a table, and `checkpoints` looks into the
#   models.
# * On Colab, read `docs/colab.md` first if you want to keep your runs.
