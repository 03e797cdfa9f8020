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
# # A directory of checkpoints across scale
#
# You have models of several sizes, at several stages of training. What changes with size, and what with time? This
# notebook trains such a directory, opens it, and measures four things: loss by position, attention, weights, and
# samples.
#
# To look at your own directory, set `WORKDIR` to it, and skip the cell that trains.

# %%
from scaling.devices.layouts import one_cpu_device_per_core

one_cpu_device_per_core()  # before JAX starts: every core of a CPU then trains a run of its own

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from flax import nnx

import scaling
from scaling import experiment, nn
from scaling.study.definition import Definition
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

SMALL = "SCALING_NOTEBOOK_SMALL" in os.environ  # the tests run this notebook on tiny models
WORKDIR = "runs/checkpoints"

# %% [markdown]
# ## Models of three sizes, at five times
#
# Each size is trained on five amounts of data, with everything else equal. Such runs share a trunk. The longest run
# is trained once, and each shorter one leaves it, cools its learning rate down to zero, and is saved. So the five
# models of a size are one model at five times, each of them finished properly. That costs little more than the
# longest run alone.

# %%
config = experiment.config("transformer", **{
    "family.layers": 2, "family.head_dim": 8, "data.length": 128, "data.batch": 6, "data.evaluation_tokens": 65_536,
    "optim.name": "muon", "optim.warmup": 20, "optim.table_rate": 8.0, "optim.learning_rate": 0.02})
WIDTHS, TOKENS = (8, 16, 32), tuple(round(49_152 * 2**i) for i in range(5))
if SMALL:
    WIDTHS, TOKENS = (8, 16), (12_288, 24_576)
    config.update_from_flattened_dict({"data.name": f"text:{os.path.dirname(scaling.__file__)}/**/*.py", "data.length": 32,
                                       "data.evaluation_tokens": 8192})

sweep = []
for width in WIDTHS:
    config.family.width = width
    base = experiment.from_config(config)
    step = base.data.per_step
    sweep += experiment.grid(base, {"data.tokens": [tokens // step * step for tokens in TOKENS]})  # in whole steps

study = Study(Definition("Checkpoints", "bits_per_byte", sweep, target=None), WORKDIR, TrainingOptions(), pack=0,
              command="checkpoints.ipynb")
study.train()

# %% [markdown]
# ## Open the directory
#
# `scaling.load` gives one row for each finished run. `scaling.restore` reads its weights, by the name in the column
# `fingerprint`.

# %%
table = scaling.load(WORKDIR).sort_values("bits_per_byte", ascending=False)  # of equal sizes and data, the best comes last
models = {(row["params_non_embedding"], row["tokens_seen"]): scaling.restore(WORKDIR, row["fingerprint"])
          for _, row in table.iterrows()}
last = {size: models[size, tokens] for size, tokens in sorted(models)}  # the model of each size on the most data
through = {tokens: models[size, tokens] for size, tokens in sorted(models) if size == max(last)}
largest = last[max(last)]
print(f"{len(models)} models; the largest is {largest}")
table.pivot_table(index="params_non_embedding", columns="tokens_seen", values="bits_per_byte").round(3)

# %% [markdown]
# All figures below have the same two panels. The left one compares the sizes after all of training. The right one
# follows the largest size through time. Darker is larger, or later.

# %%
def two_panels(draw, xlabel, ylabel, **settings):
    """Calls draw(axes, model, label, colour) for every size at the last time, and for every time of the largest size."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), sharey=True, layout="constrained")
    panels = ({f"N = {size:,}": run for size, run in last.items()},
              {f"{tokens:,} tokens": run for tokens, run in through.items()})
    for panel, shown, title in zip(axes, panels, ("sizes, after all data", "the largest size, through time"), strict=True):
        for label, colour in zip(shown, plt.cm.viridis_r(np.linspace(0.15, 0.95, len(shown))), strict=True):
            draw(panel, shown[label], label, colour)
        panel.set(title=title, xlabel=xlabel, **settings)
        panel.minorticks_off()
        panel.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0].set_ylabel(ylabel)
    plt.show()


# %% [markdown]
# ## Loss by position
#
# A model that uses its context predicts late bytes better than early ones. `run.family.module(run.params)` is the
# network itself. It gives the loss of each byte of held-out text.

# %%
@functools.partial(jax.jit, static_argnums=0)
def nats(family, params, tokens):
    network = family.module(params)
    return network.scores(network.hidden(tokens[:, :-1]), tokens[:, 1:])[0]


held_out = np.concatenate([np.asarray(batch["tokens"], np.int32) for batch in largest.batches()])  # that no model saw
print(f"{held_out.shape[0]} windows of {held_out.shape[1]} bytes")


def draw_loss(panel, run, label, colour):
    bits = np.asarray(nats(run.family, run.params, held_out)).mean(0) / np.log(2)
    edges = np.unique(np.geomspace(1, len(bits) + 1, 9).astype(int))
    means = [bits[low - 1:high - 1].mean() for low, high in zip(edges, edges[1:])]
    panel.plot((edges[:-1] * edges[1:]) ** 0.5, means, "o-", color=colour, label=label, markersize=4)


two_panels(draw_loss, "position in the window (bytes)", "loss (bits per byte)", xscale="log",
           xticks=(ticks := [1, 2, 4, 8, 16, 32, 64, 128]), xticklabels=ticks)

# %% [markdown]
# The first bytes are hard for every model, since there is no context. Early in training, and in the smallest model, the
# curve is flat after a few bytes: the model knows which bytes follow which. In larger models it falls further, later in
# training. That fall is what attention learned.

# %% [markdown]
# ## Attention
#
# To how many bytes does a position attend? The answer is the exponential of the entropy of its attention: 1 for a
# head that looks at one byte, and 64 for one that looks at 64 bytes alike. We open the blocks one by one, and compute
# the attention by hand.

# %%
def attention_widths(run, tokens):
    """The number of bytes that the last position of a window attends to, a mean over windows, for each layer and head."""
    family, network = run.family, run.family.module(run.params)
    graph, stacked = nnx.split(network.layers)  # all layers, stacked along the first axis
    positions = jnp.arange(tokens.shape[1])[None]
    x, found = network.embed_at(tokens, positions), []
    for layer in range(family.layers):
        block = nnx.merge(graph, jax.tree.map(lambda weights, layer=layer: weights[layer], stacked))
        part, normed = block.attention, block.attention_norm(x)
        q = nn.rotate(part.q_norm(part.q(normed)), positions)[:, -1]
        k = nn.rotate(part.k_norm(part.k(normed)), positions)
        weights = jax.nn.softmax(jnp.einsum("bhd,bthd->bht", q, k) * family.head_dim**-0.5)
        entropy = -jnp.sum(weights * jnp.log(weights + 1e-9), -1)
        found.append(np.exp(np.asarray(entropy)).mean(0))
        x = block(x, positions)[0]
    return np.stack(found)


def draw_attention(panel, run, label, colour):
    widths = attention_widths(run, held_out[:64, :-1])
    for layer, heads in enumerate(widths):
        place = layer + 1 + 0.06 * (np.arange(len(heads)) - len(heads) / 2)
        panel.plot(place, heads, "o", color=colour, alpha=0.7, label=label if layer == 0 else None)


two_panels(draw_attention, "layer, one dot for each head", "bytes attended to", yscale="log",
           xticks=range(1, largest.family.layers + 1), yticks=(ticks := [1, 2, 4, 8, 16, 32, 64, 128]), yticklabels=ticks)

# %% [markdown]
# Early in training, every head attends to about as many bytes as there are. Training makes most heads narrow, and
# leaves some wide. All sizes do this, and wider models have more heads to do it with.

# %% [markdown]
# ## Weights
#
# The stable rank of a matrix says in how many directions its weights have their energy: the sum of the squares of its
# singular values, over the largest of them. It is divided here by the full rank, so that sizes can be compared.

# %%
KINDS = {"attention.q": "queries", "mlp.up": "into the MLP", "mlp.down": "out of the MLP"}


def rank_used(run, path):
    """The stable rank over the full rank, a mean over layers."""
    weights = functools.reduce(lambda tree, name: tree[name], path.split("."), run.params["model"]["layers"])["weight"]
    matrices = np.asarray(weights[...], np.float32)
    matrices = matrices.reshape(matrices.shape[0], matrices.shape[1], -1)
    values = np.linalg.svd(matrices, compute_uv=False)
    return float(np.mean((values**2).sum(-1) / values[:, 0] ** 2 / values.shape[1]))


def draw_ranks(panel, run, label, colour):
    panel.plot(list(KINDS.values()), [rank_used(run, path) for path in KINDS], "o", color=colour, label=label)


two_panels(draw_ranks, "matrix", "stable rank / full rank")

# %% [markdown]
# By this measure a random square matrix uses a quarter of its rank, and a random one of the shape of the MLP about
# 0.4. Values that fall with time mean that a few directions grow faster than the rest. `python -m
# tools.inspect_checkpoint` measures all matrices, and compares any two checkpoints.

# %% [markdown]
# ## Samples through time
#
# The same prompt and the same random numbers, for the largest model at each time.

# %%
for tokens, run in through.items():
    text = run.generate(["def "], tokens=40 if SMALL else 120, temperature=0.7, seed=2)[0]
    print(f"--- after {tokens:,} tokens\ndef {text}\n")

# %% [markdown]
# ## All of it as one table
#
# The numbers of each model in one row can be drawn, fitted and correlated like any others.

# %%
rows = []
for (size, tokens), run in sorted(models.items()):
    bits = np.asarray(nats(run.family, run.params, held_out)).mean(0) / np.log(2)
    half = len(bits) // 2
    rows.append({"N": size, "D": tokens, "bits per byte": bits.mean(),
                 "late minus early": bits[half:].mean() - bits[:half].mean(),
                 "bytes attended to": attention_widths(run, held_out[:64, :-1]).mean(),
                 "rank used, mlp.down": rank_used(run, "mlp.down")})
pd.DataFrame(rows).round(3)

# %% [markdown]
# ## From here
#
# * Runs that are not finished have their whole state in `checkpoints/`, and trunks in `trunks/`.
#   `docs/checkpoints.md` says how to read, compare and average them.
# * `scaling.laws.fit` takes this table: is there a law for what you measured?
# * Two runs are compared on the same held-out examples by `scaling.results.pairs`.
