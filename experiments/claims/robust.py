"""Robust error falls with compute, towards a plateau, and robustness costs clean error."""

import functools

import jax
import numpy as np
import pandas as pd

from experiments._ladders import CLASSIFIER
from experiments.claims import _scores
from scaling import laws
from scaling.claims import LEVEL, Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained, statistics

RADIUS = 0.05  # of all attacks, as a share of the range of a pixel
# width and images of each amount of compute, so that both grow; the next has about three times the compute
RUNGS = {"5m": ((12, 6_000), (16, 10_000), (20, 20_000), (28, 32_000)),
         "30m": ((12, 6_000), (16, 12_000), (24, 24_000), (32, 48_000), (48, 64_000)),
         "2h": ((12, 8_000), (16, 16_000), (24, 32_000), (32, 64_000), (48, 96_000), (64, 160_000)),
         "gpu": ((16, 16_000), (32, 48_000), (64, 128_000), (128, 384_000), (256, 1_000_000), (384, 4_000_000))}
SEEDS = {"5m": 3, "30m": 4, "2h": 4, "gpu": 4}
ARMS = {"attacked": RADIUS, "plain": 0.0}  # the radius of attacks in training
IMAGES = 128  # of the check of gradients


def parts(budget):
    runs = []
    for seed in range(SEEDS[budget]):
        config = CLASSIFIER.config(**{"seed": seed, "data.evaluation_examples": 1024, "family.test_radius": RADIUS})
        runs += [CLASSIFIER.run(config, width, images, **{"family.radius": radius})
                 for width, images in RUNGS[budget] for radius in ARMS.values()]
    return {"digits": Part(runs, "robust_error")}


def tabulate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its seed, arm, rung (from the smallest), compute, clean error and robust error."""
    arm = runs["family.radius"].map({radius: name for name, radius in ARMS.items()})
    return pd.DataFrame({"seed": runs["seed"], "arm": arm, "rung": runs["params_non_embedding"].rank(method="dense"),
                         "flops": runs["flops"], "error": runs["error"], "robust_error": runs["robust_error"]})


def plateau_law(table: pd.DataFrame) -> tuple[laws.Fit, dict[str, Estimate]]:
    """E + A C^-alpha of robust errors of runs at `flops`, with intervals of E and of alpha by refits.

    Errors lie above zero, so that E is at least zero, and an interval which reaches zero says that no plateau is seen. The
    noise of a share is more even than that of its logarithm, so that squares of differences are minimised.
    """
    points = laws.Runs.from_dataframe(table, "robust_error", compute="flops", x="flops")
    found = laws.fit(points, "saturating_power", loss="mse")
    boot = laws.bootstrap(found, 400)
    ends = {name: boot.interval(name, LEVEL) for name in ("E", "alpha")}
    return found, {name: Estimate(found.params[name], float(low), float(high), len(table))
                   for name, (low, high) in ends.items()}


def judge(table: pd.DataFrame, masked: list[float]) -> Finding:
    """table: that of `tabulate`. masked: that of `masked_shares`."""
    attacked, plain = (table[table["arm"] == name] for name in ARMS)
    found, law = plateau_law(attacked)
    means = attacked.groupby("rung")[["flops", "error", "robust_error"]].mean()
    price = statistics.paired(table, "error", "arm", "plain", "attacked", ["rung", "seed"], log=False)
    best = attacked["rung"].max()
    last, plain_last = (some[some["rung"] == best] for some in (attacked, plain))
    gaps = means["robust_error"] - means["error"]
    gap = statistics.mean((last["robust_error"] - last["error"]).to_numpy())
    grid = np.geomspace(means["flops"].min(), 10 * means["flops"].max(), 40)
    panel = Panel("FLOPs", "error", log_y=True, lines=[
        Line("robust error", list(means["flops"]), list(means["robust_error"])),
        Line("clean error", list(means["flops"]), list(means["error"])),
        Line("the law", list(grid), list(found.predict(x=grid)), dots=False)])
    said = (f"At the largest compute, models that were trained on attacked images have a robust error of "
            f"{last['robust_error'].mean():.1%} and a clean one of {last['error'].mean():.1%}, a gap of {gap.value:.1%}, "
            f"90% [{gap.low:.1%}, {gap.high:.1%}]; at the smallest it was {gaps.iloc[0]:.1%}. Models of plain training, as "
            f"large, have {plain_last['robust_error'].mean():.1%} and {plain_last['error'].mean():.1%}. The robust error "
            f"falls as C^-{law['alpha'].value:.2f} towards {law['E'].value:.1%}.")
    said += (f" Random search alone fools {np.mean(masked):.1%} of the images in the largest of them, beyond those that "
             "attacks by gradients fool.")
    return Finding({"falls": fall(attacked), "plateau": law["E"], "price": price, "masked": statistics.mean(masked)}, panel,
                   said)


def fall(attacked: pd.DataFrame) -> Estimate:
    """The exponent by which the robust error falls in compute on average, by the means over seeds of every rung."""
    return statistics.slope(np.log(attacked.groupby("rung")["flops"].transform("mean")), -np.log(attacked["robust_error"]))


@functools.partial(jax.jit, static_argnums=0)
def _examined(family, params, batch):
    return family.examine(params, batch, jax.random.key(0))


def masked_shares(part: Trained) -> list[float]:
    """For each of the largest runs that were trained on attacked images, the share of held-out images that random search
    fools and attacks by gradients do not."""
    table = tabulate(part.runs)
    largest = part.runs[((table["arm"] == "attacked") & (table["rung"] == table["rung"].max())).to_numpy()]
    found = []
    for run in _scores.restored(Trained(largest, part.workdir)):
        batch = run.source.evaluation(run.source.splits[0], IMAGES) | {"example": np.arange(IMAGES, dtype=np.int32)}
        found.append(float(np.mean(_examined(run.family, run.params, batch)["masked_gradients"].over)))
    return found


def analyse(name: str, part: Trained) -> Finding:
    del name
    return judge(tabulate(part.runs), masked_shares(part))


CLAIM = Claim(
    id="robust", statement="Robust error falls with compute towards a plateau, and robustness costs clean error.",
    source="Bartoldson et al. 2024, arXiv:2404.09349, abstract (adversarial training on CIFAR-10, l-infinity); Tsipras et "
           "al. 2019, arXiv:1805.12152, section 2 (robustness at odds with accuracy)",
    published={"": "robust accuracy plateaus at 90%, so a robust error of 10%"},
    rules={"falls": Criterion("the exponent by which the robust error falls in compute, on average", low=0.05,
                              why="At 0.05, ten times the compute takes away a tenth of the error; less would be no trend "
                                  "that anyone could use."),
           "plateau": Criterion("the robust error that is left at unlimited compute, by E + A C^-alpha", low=0.02,
                                why="The published one is 0.10, of other images and another radius. Below 0.02 a plateau "
                                    "would matter to nobody, and an interval that reaches it shows none."),
           "price": Criterion("the clean error with attacks in training less that without, at equal N and D", low=0.0,
                              why="The claim is about the sign alone."),
           "masked": Criterion("the share of images that random search fools and gradients do not", high=0.05,
                               why="Where gradients mislead, robust errors are too low to be believed (Athalye et al. "
                                   "1802.00420). A twentieth is small beside the robust errors themselves.")},
    parts=parts, analyse=analyse,
    cost={"5m": "24 runs of 2 to 10 thousand parameters on rendered digits, half of them trained on attacked images",
          "30m": "40 runs of 2 to 29 thousand parameters", "2h": "48 runs of 2 to 51 thousand parameters",
          "gpu": "48 runs of 3 thousand to 1.8 million parameters"},
    more="Errors near chance follow no power law, and a plateau shows only over powers of ten in compute. Attacks of "
         "more steps would find more errors. Attacked images may belong to another class, which is what the source finds "
         "behind its plateau.")
