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
# # A scaling law for your own table
#
# You have a table with one row for each training run. This notebook fits a law to it, tests the law on runs that it
# has not seen, and forecasts a larger run. It trains nothing, and needs no accelerator.
#
# The table here is simulated, so that we know the truth and can check every answer. To use your own, name its file in
# `TABLE`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from scaling import laws

SMALL = "SCALING_NOTEBOOK_SMALL" in os.environ  # the tests run this notebook with fewer resamples
TABLE = "runs.csv"
DRAWS = 60 if SMALL else 1000

# %% [markdown]
# ## The table
#
# It needs a column for the parameters N, one for the tokens (or images) D, and one for the loss. Common names such as
# `params`, `tokens` and `loss` are found. CSV, Parquet, JSON and JSON lines will do.
#
# We simulate seven sizes, each on four amounts of data. The noise of a run is 0.3%. One run diverged and has no loss.

# %%
TRUTH = {"E": 1.69, "A": 406.0, "B": 411.0, "alpha": 0.34, "beta": 0.28}  # loss = E + A N^-alpha + B D^-beta


def true_loss(N, D):
    return TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]


rng = np.random.default_rng(3)
table = pd.DataFrame([(n, d) for n in 1e7 * 2.0 ** np.arange(7) for d in (4e8, 1.6e9, 6.4e9, 2.56e10)],
                     columns=["params", "tokens"])
table["loss"] = true_loss(table["params"], table["tokens"]) * np.exp(0.003 * rng.standard_normal(len(table)))
table.loc[24, "loss"] = float("nan")
table.to_csv("runs.csv", index=False)
table.head()

# %% [markdown]
# Always look at the runs before you fit them. The lines should fall smoothly, and no run should stand out.

# %%
figure, axes = plt.subplots(figsize=(6, 3.6))
for tokens, some in pd.read_csv(TABLE).groupby("tokens"):
    axes.plot(some["params"], some["loss"], "o-", label=f"{tokens:.1e} tokens")
axes.set(xscale="log", xlabel="parameters N", ylabel="loss")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The fit
#
# `where` says which rows to keep. Without it the fit refuses the table and names the row that has no loss. It never
# drops a run by itself. The bootstrap refits the law to resampled runs, and gives every parameter an interval.

# %%
runs = laws.Runs.from_csv(TABLE, where="loss > 0")
law = laws.fit(runs, "chinchilla")
boot = laws.bootstrap(law, draws=DRAWS)
print(laws.table(law, boot))

# %% [markdown]
# Lines that begin with `!` are reasons to doubt. Report every one of them with your result. `a_N` is the exponent of
# the best size: N grows as compute to the power `a_N`.
#
# Here we know the truth. Do the intervals hold it? A 90% interval misses about one time in ten.

# %%
rows = [(name, truth, *boot.interval(name)) for name, truth in TRUTH.items()]
check = pd.DataFrame(rows, columns=["parameter", "truth", "low", "high"])
check["holds"] = (check["low"] <= check["truth"]) & (check["truth"] <= check["high"])
check

# %%
laws.plots.fit(law, boot)

# %% [markdown]
# The residuals must show no pattern. The line should stay between the dashes. A bow means that the law has the wrong
# shape, and a forecast would continue the bow.

# %%
laws.plots.residuals(law)

# %% [markdown]
# ## A back-test
#
# A fit that looks good proves little. So fit only the small runs, and predict the large ones. Rival laws take the
# same test. They are fitted below the cut, and scored above it.

# %%
tested = laws.holdout(law, cut=1e19, laws=["kaplan"], draws=DRAWS)
print(tested)

# %%
laws.plots.holdout(tested)

# %% [markdown]
# `mape` is the mean size of the error, and `bias` the mean error with its sign. `coverage` is the share of held-out
# runs inside their 90% intervals. The law that made the data predicts to within its noise. The wrong law misses by
# more than ten times as much.
#
# On your own table, no law is the true one. `laws.choose_law` scores six of them behind several cuts, and says which
# ones the runs refute.

# %%
rivals = {"rivals": ("kaplan",)} if SMALL else {}
chosen = laws.choose_law(runs, "best", draws=DRAWS, **rivals)
print(chosen)

# %% [markdown]
# ## A forecast
#
# What loss will a model of two billion parameters have after 200 billion tokens? The interval has three parts: the
# parameters of the law, the noise of one run, and the spread of the laws that the runs do not refute.

# %%
TARGET = {"N": 2e9, "D": 2e11}
calibrated = laws.calibrate(chosen, draws=DRAWS)
low, high = calibrated.predict(**TARGET)
print(f"forecast {chosen.fit.predict(**TARGET):.3f}, 90% interval [{low:.3f}, {high:.3f}]")
print(f"truth    {true_loss(**TARGET):.3f}")

# %% [markdown]
# ## The best size for a budget
#
# The frontier gives the best size for each amount of compute. The dotted lines are sizes that lose at most 0.1%: the
# valley is flat, so a model may well be smaller than the best one.

# %%
budgets = np.geomspace(1e20, 1e22, 9)
frontier = laws.frontier(law, budgets, boot=boot)
laws.plots.frontier(frontier, law)

# %% [markdown]
# ## Which runs to buy next
#
# `laws.suggest` finds the runs that narrow a forecast most for a budget of compute.

# %%
wanted = laws.suggest(boot, budget=2e21, target=TARGET, most=4)
print(wanted)

# %% [markdown]
# ## From here
#
# * The same from a shell: `python -m experiments.fit --points=runs.csv --output=fits/first`, and
#   `experiments.forecast`, which writes a forecast down before its run exists.
# * The page `docs/laws.md` goes through all of this slowly, and `docs/laws-choosing.md` says how sure one can be of a
#   law.
# * A law of your own is a formula of a few lines: `docs/laws-forms.md`.
