"""Too little data harms, and repeats of it are worth less and less."""

import numpy as np
from scipy import optimize

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.results.metrics import find_metric

UNITS = {"transformer": "tokens", "vae": "examples", "gan": "examples"}
EPOCHS = {"transformer": (1, 2, 4, 16, 64), "vae": (1, 2, 4, 16, 64), "gan": (1, 4, 64)}
# width, tokens or images, seeds
SIZES = {"5m": {"transformer": (32, 524_288, 6), "vae": (16, 16_384, 4), "gan": (12, 8_192, 8)},
         "30m": {"transformer": (48, 2_097_152, 6), "vae": (24, 65_536, 6), "gan": (16, 16_384, 16)},
         "2h": {"transformer": (64, 8_388_608, 6), "vae": (32, 262_144, 6), "gan": (24, 65_536, 16)},
         "gpu": {"transformer": (256, 12_582_912, 8), "vae": (128, 2_097_152, 8), "gan": (64, 524_288, 16)}}


def parts(budget):
    found = {}
    for family, (width, amount, seeds) in SIZES[budget].items():
        recipe, unit, epochs, runs = getattr(_recipes, family), UNITS[family], EPOCHS[family], []
        fresh = [amount // less for less in ((1, 4) if family == "gan" else (1, 2, 4, 8, 16))]
        for seed in range(seeds):
            runs += [recipe(width, each, seed) for each in fresh]
            whole = runs[-len(fresh)].data
            runs += [recipe(width, amount, seed, **{f"data.unique_{unit}": _unique(whole, times)}) for times in epochs[1:]]
        found[family] = Part(runs, _recipes.METRICS[family])
    return found


def _unique(data, epochs):
    """The tokens or images that `epochs` epochs of a run repeat, in whole examples."""
    return data.seen // data.per_example // epochs * data.per_example


def analyse(name: str, part: Trained) -> Finding:
    metric, unit, epochs = _recipes.METRICS[name], UNITS[name], EPOCHS[name]
    columns = {"seen": f"{unit}_seen", "unique": f"{unit}_unique", "loss": metric}
    runs = part.runs.assign(**{key: part.runs[column] for key, column in columns.items()})
    runs = runs.assign(epochs=(runs["seen"] / runs["unique"]).round().clip(lower=1))
    most = runs["seen"].max()
    repeated, fresh = runs[runs["seen"] == most], runs[runs["epochs"] == 1]
    few = (statistics.resampled(runs, regained, ["seen", "epochs"], resamples=200) if name == "gan" else
           statistics.mean(by_seed(runs)))
    many = statistics.paired(repeated, "loss", "epochs", 1, epochs[-1], ["seed"])
    means = repeated.groupby("epochs")["loss"].mean()
    panel = Panel("epochs", find_metric(metric).label, log_y=True, lines=[
        Line("repeated", list(means.index), list(means)), Line("fresh", [1, epochs[-1]], [means[1]] * 2, dots=False)])
    if name == "gan":
        return Finding({"distance": few, "many": many}, panel)
    half_life = statistics.resampled(runs, worth, ["seen", "epochs"], resamples=100)
    said = (f"R_D* is {half_life.value:.1f} epochs, 90% [{half_life.low:.1f}, {half_life.high:.1f}], by equation 5 of the "
            "source: 16 epochs are as good as the amount of fresh data that gives the same loss, between runs on "
            f"{', '.join(f'{amount:,.0f}' for amount in sorted(fresh['seen'].unique()))} fresh {unit}.")
    return Finding({"few": few, "many": many}, panel, said)


def by_seed(runs):
    """For each seed, the share of the fall of the loss from a quarter of the data to all of them that four epochs of the
    quarter reach."""
    table = runs.pivot_table(index="seed", columns=["seen", "epochs"], values="loss")
    most, quarter = _ends(runs)
    return ((table[quarter, 1] - table[most, 4]) / (table[quarter, 1] - table[most, 1])).dropna().to_numpy()


def regained(runs) -> float:
    """This share of the means over seeds of the log loss, for runs whose seeds scatter much."""
    means = np.log(runs["loss"]).groupby([runs["seen"], runs["epochs"]]).mean()
    most, quarter = _ends(runs)
    return float((means[quarter, 1] - means[most, 4]) / (means[quarter, 1] - means[most, 1]))


def _ends(runs):
    """All data, and about a quarter of them."""
    fresh = runs.loc[runs["epochs"] == 1, "seen"].unique()
    return fresh.max(), min(fresh, key=lambda amount: abs(amount / fresh.max() - 0.25))


def worth(runs) -> float:
    """R_D* of Muennighoff et al., equation 5: e epochs of U tokens are worth U + U R (1 - exp(-(e - 1) / R)) fresh ones.

    The worth of 16 epochs is read off the losses of runs on fresh data, log loss against log tokens.
    """
    means = runs.groupby(["seen", "epochs"])["loss"].mean().reset_index()
    fresh = means[means["epochs"] == 1].sort_values("seen")
    most = fresh["seen"].max()
    loss = means[(means["epochs"] == 16) & (means["seen"] == most)]["loss"].iloc[0]
    amounts, unique = np.log(fresh["seen"].to_numpy()), most / 16
    worth = np.exp(np.interp(-loss, -fresh["loss"].to_numpy(), amounts)) / unique

    def gap(r):
        return 1 + r * (1 - np.exp(-15 / r)) - worth

    if gap(1e-3) > 0 or gap(1e4) < 0:
        return float("inf") if gap(1e4) < 0 else 0.0
    return float(optimize.brentq(gap, 1e-3, 1e4))


CLAIM = Claim(
    id="data", statement="Too little data harms, and repeats are worth less and less.",
    source="Muennighoff et al. 2023, arXiv:2305.16264, section 6 and equation 5",
    published={"transformer": "four epochs nearly free; R_D* = 15.4", "vae": "none was published",
               "gan": "none was published"},
    rules={"few": Criterion("the share of what four times the data bring that four epochs bring as well", low=0.9,
                            why="Nine tenths of the worth of fresh data is nearly all; by the published R_D* it is 0.95."),
           "distance": Criterion("the share of what four times the data bring to the log distance that four epochs bring "
                                 "as well", low=0.7,
                                 why="Distances of equal runs scatter by 8%, so that eight seeds tell 0.95 from 0.7, and "
                                     "not from 0.9."),
           "many": Criterion("the rise of the loss from one epoch to 64, as a difference of logarithms", low=0.03,
                             why="Three percent of the loss is what a third of the tokens costs, which no one overlooks.")},
    parts=parts, analyse=analyse,
    cost={"5m": "54 runs of a Transformer of 12 thousand parameters, 36 of a VAE of 18, and 32 of a GAN of 12: "
                "half an hour of one core",
          "30m": "54 runs of a Transformer of 28 thousand parameters, 54 of a VAE of 36, and 64 of a GAN of 19",
          "2h": "54 runs of a Transformer of 49 thousand parameters, 54 of a VAE, and 64 of a GAN",
          "gpu": "72 runs of a Transformer of 0.8 million parameters, 72 of a VAE, and 64 of a GAN"},
    more="Larger models overfit repeats sooner; more epochs or a larger width would make the second number larger.")
