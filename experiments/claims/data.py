"""Too little data harms, and repeats of it are worth less and less."""

import numpy as np
from scipy import optimize

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

METRIC = "bits_per_byte"
EPOCHS = (1, 2, 4, 16, 64)
SIZES = {"5m": (32, 524_288, 6), "30m": (48, 2_097_152, 6)}  # width, tokens, seeds


def parts(budget):
    width, tokens, seeds = SIZES[budget]
    fresh = [tokens, tokens // 2, tokens // 4, tokens // 8, tokens // 16]
    runs = []
    for seed in range(seeds):
        runs += [_recipes.transformer(width, amount, seed) for amount in fresh]
        whole = runs[-len(fresh)].data
        runs += [_recipes.transformer(width, tokens, seed, **{"data.unique_tokens": _unique(whole, epochs)})
                 for epochs in EPOCHS[1:]]
    return {"transformer": Part(runs, METRIC)}


def _unique(data, epochs):
    """The tokens that `epochs` epochs of a run repeat, in whole sequences."""
    return data.tokens // data.length // epochs * data.length


def analyse(name: str, part: Trained) -> Finding:
    del name
    runs = part.runs.assign(epochs=(part.runs["tokens_seen"] / part.runs["tokens_unique"]).round().clip(lower=1))
    most = runs["tokens_seen"].max()
    repeated, fresh = runs[runs["tokens_seen"] == most], runs[runs["epochs"] == 1]
    few = statistics.mean(regained(runs, most))
    many = statistics.paired(repeated, METRIC, "epochs", 1, EPOCHS[-1], ["seed"])
    half_life = statistics.resampled(runs, worth, ["tokens_seen", "epochs"], resamples=100)
    means = repeated.groupby("epochs")[METRIC].mean()
    panel = Panel("epochs", "bits per byte", log_y=True, lines=[
        Line("repeated", list(means.index), list(means)), Line("fresh", [1, EPOCHS[-1]], [means[1]] * 2, dots=False)])
    said = (f"R_D* is {half_life.value:.1f} epochs, 90% [{half_life.low:.1f}, {half_life.high:.1f}], by equation 5 of the "
            "source: 16 epochs are as good as the amount of fresh data that gives the same loss, between runs on "
            f"{', '.join(f'{tokens:,.0f}' for tokens in sorted(fresh['tokens_seen'].unique()))} fresh tokens.")
    return Finding({"few": few, "many": many}, panel, said)


def regained(runs, most):
    """For each seed, the share of the fall of the loss from a quarter of the tokens to all of them that four epochs of the
    quarter reach."""
    table = runs.pivot_table(index="seed", columns=["tokens_seen", "epochs"], values=METRIC)
    fresh = sorted(tokens for tokens, epochs in table.columns if epochs == 1)
    quarter = table[fresh[-3], 1]
    return ((quarter - table[most, 4]) / (quarter - table[most, 1])).dropna().to_numpy()


def worth(runs) -> float:
    """R_D* of Muennighoff et al., equation 5: e epochs of U tokens are worth U + U R (1 - exp(-(e - 1) / R)) fresh ones.

    The worth of 16 epochs is read off the losses of runs on fresh data, log loss against log tokens.
    """
    means = runs.groupby(["tokens_seen", "epochs"])[METRIC].mean().reset_index()
    fresh = means[means["epochs"] == 1].sort_values("tokens_seen")
    most = fresh["tokens_seen"].max()
    loss = means[(means["epochs"] == 16) & (means["tokens_seen"] == most)][METRIC].iloc[0]
    tokens, unique = np.log(fresh["tokens_seen"].to_numpy()), most / 16
    worth = np.exp(np.interp(-loss, -fresh[METRIC].to_numpy(), tokens)) / unique

    def gap(r):
        return 1 + r * (1 - np.exp(-15 / r)) - worth

    if gap(1e-3) > 0 or gap(1e4) < 0:
        return float("inf") if gap(1e4) < 0 else 0.0
    return float(optimize.brentq(gap, 1e-3, 1e4))


CLAIM = Claim(
    id="data", statement="Too little data harms, and repeats are worth less and less.",
    source="Muennighoff et al. 2023, arXiv:2305.16264, section 6 and equation 5",
    published={"transformer": "four epochs nearly free; R_D* = 15.4"},
    rules={"few": Criterion("the share of what four times the data bring that four epochs bring as well", low=0.9,
                            why="Nine tenths of the worth of fresh data is nearly all; by the published R_D* it is 0.95."),
           "many": Criterion("the rise of the loss from one epoch to 64, as a difference of logarithms", low=0.03,
                             why="Three percent of the loss is what a third of the tokens costs, which no one overlooks.")},
    parts=parts, analyse=analyse,
    cost={"5m": "54 runs of 12 thousand parameters", "30m": "54 runs of 28 thousand parameters"},
    more="Larger models overfit repeats sooner; more epochs or a larger width would make the second number larger.")
