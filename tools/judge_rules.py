"""Judges the rules that choose a law, over many simulated studies whose truth is known.

    python -m tools.judge_rules --studies=40                     # one row a truth and rule
    python -m tools.judge_rules --studies=40 --ratio=100 --truths=additive,kaplan
    python -m tools.judge_rules --table=runs.csv --by=group      # published runs, a group at a time

A simulated study has four sizes, four amounts of data and a run of each, as the quick studies of this package have. Runs of
one size share a trunk, and with it half the variance of their noise. The shortest and the longest runs are badly tuned,
which only raises their loss. The truth is the additive law, another law of the package, or something between laws. Every
rule then forecasts a run of --ratio times the largest compute, and is scored on that run: the median size and the mean of
its error, the share of intervals that hold it as they come from the bootstrap of the law and as `calibrate` makes them, and
the width of the latter.

Of a table of real runs, every group is fitted below 1 / --ratio of its largest compute, and forecasts its runs above half
of that.
"""
from collections.abc import Callable

import numpy as np
import pandas as pd
from absl import app, flags

from scaling.laws.forecasts.calibrated import Calibrated, calibrate
from scaling.laws.runs import Runs
from scaling.laws.scores.choose import RIVALS, apply_rule, rolling_cuts
from scaling.laws.scores.compare import compare

SIZES, DATA = 1e4 * np.array([1.0, 2.25, 4.0, 9.0]), 2.6e5 * np.array([1.0, 2.0, 4.0, 8.0])
NOISE, SHARED, BADLY = 0.004, 0.5, 0.004  # of log loss: of a run, the trunk's share of its variance, at badly tuned ends
TRUTHS: dict[str, Callable] = {  # of sizes and data as multiples of the smallest; losses from 2.4 down to 1.8
    "additive": lambda n, d: 1.39 + 0.55 * n ** -0.39 + 0.5 * d ** -0.53,
    "interaction": lambda n, d: 1.39 + 0.65 * n ** -0.39 + 0.6 * d ** -0.53 - 0.2 * n ** -0.39 * d ** -0.53,
    "power mean, q = 0.75": lambda n, d: 1.39 + ((0.41 * n ** -0.39) ** 0.75 + (0.37 * d ** -0.53) ** 0.75) ** (1 / 0.75),
    "power mean, q = 1.5": lambda n, d: 1.39 + ((0.65 * n ** -0.39) ** 1.5 + (0.65 * d ** -0.53) ** 1.5) ** (1 / 1.5),
    "kaplan": lambda n, d: 2.1 * (n ** (-0.1 / 0.13) + d ** -1.0) ** 0.13,
    "bounded": lambda n, d: 1.39 + (lambda h: 4.0 * h / (1 + h))(0.17 * n ** -0.42 + 0.16 * d ** -0.57)}
RULES = ("chinchilla", "best", "stacked", "median")
ENOUGH, MOST = 12, 8  # runs of a group that are fitted in all, and below the first cut: six parameters and two more

_STUDIES = flags.DEFINE_integer("studies", 40, "Simulated studies for each truth.", lower_bound=1)
_RATIO = flags.DEFINE_float("ratio", 10.0, "Compute of the forecast over the largest compute.", lower_bound=1.0)
_TRUTHS = flags.DEFINE_list("truths", list(TRUTHS), "Which truths.")
_TABLE = flags.DEFINE_string("table", None, "Instead of simulations: a table of runs.")
_BY = flags.DEFINE_string("by", "group", "With --table: the column of the groups.")
_WHERE = flags.DEFINE_string("where", None, "With --table: which rows.")
_LEVEL = flags.DEFINE_float("level", 0.9, "Level of the intervals.")


def simulated(truth: str, seed: int, noise: float = NOISE, badly: float = BADLY) -> pd.DataFrame:
    """The 16 runs of a study, N, D, loss and trunk a row."""
    rng = np.random.default_rng([list(TRUTHS).index(truth), seed])
    place, row = (each.ravel() for each in np.meshgrid(np.arange(4), np.arange(4)))
    own, trunk = rng.standard_normal(16), rng.standard_normal(4)[place]
    error = noise * (np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * trunk)
    error += badly * np.abs(rng.standard_normal(16)) * np.isin(row, (0, 3))
    loss = TRUTHS[truth](SIZES[place] / SIZES[0], DATA[row] / DATA[0]) * np.exp(error)
    return pd.DataFrame({"N": SIZES[place], "D": DATA[row], "loss": loss, "trunk": place})


def target(truth: str, ratio: float, seed: int, noise: float = NOISE) -> tuple[dict[str, float], float]:
    """({N, D} of the run that is forecast, its loss). It grows from the largest run in N and D by equal factors."""
    grown = np.sqrt(ratio)
    normal = np.random.default_rng([list(TRUTHS).index(truth), seed, 1]).standard_normal()
    loss = TRUTHS[truth](SIZES[-1] * grown / SIZES[0], DATA[-1] * grown / DATA[0])
    return {"N": SIZES[-1] * grown, "D": DATA[-1] * grown}, float(loss * np.exp(noise * normal))


def forecasts(truth: str, seed: int, ratio: float, level: float = 0.9, rules=RULES, draws: int = 300) -> list[dict]:
    """One row a rule: error (forecast over observed, less 1), and of the plain and the calibrated interval whether it holds
    the observed value and its width (of half of it, relative)."""
    clustered = {"cluster": "trunk", "correlation": SHARED}
    compared = compare(simulated(truth, seed), RIVALS, cuts=rolling_cuts(6 * np.outer(SIZES, DATA).ravel()), level=level,
                       draws=60, method="noise", quick=True, delta="noise", **clustered)
    at, observed = target(truth, ratio, seed)
    return [scored(calibrate(apply_rule(compared, rule, level), draws, **clustered), at, observed, level)
            | {"truth": truth, "rule": rule, "seed": seed} for rule in rules]


def scored(boot: Calibrated, at: dict[str, float], observed: float, level: float) -> dict:
    """The error of a forecast, and the plain and the calibrated interval, as `forecasts` has them."""
    row = {"law": boot.selection.law, "factor": boot.selection.factor, "error": boot.fit.predict(**at) / observed - 1}
    for name, each in (("plain", boot.leading), ("calibrated", boot)):
        low, high = each.predict(**at, level=level)
        row |= {f"{name}_holds": low <= observed <= high, f"{name}_width": (high - low) / 2 / observed}
    return row


def of_table(path: str, by: str, where: str | None, ratio: float, level: float = 0.9) -> list[dict]:
    """Rows as `forecasts` has them, with the group as truth and one for every run above half of its largest compute."""
    runs, rows = Runs.from_csv(path, where=where), []
    for group in sorted(runs.frame[by].unique()):
        part = runs.select((runs.frame[by] == group).to_numpy(), "another group")
        compute = part.flops
        below = part.select(compute <= compute.max() / ratio, "held out")
        above = part.select(compute > compute.max() / 2, "fitted")
        cuts = rolling_cuts(below.flops) if len(below) >= ENOUGH else []
        if not cuts or (below.flops < cuts[0]).sum() < MOST:
            print(f"{group}: {len(below)} runs below 1 / {ratio:g} of the largest compute are too few")
            continue
        compared = compare(below, RIVALS, cuts=cuts, level=level, draws=60, quick=True, delta="noise")
        for rule in RULES:
            boot = calibrate(apply_rule(compared, rule, level), 300)
            for n, d, y in zip(above.values("N"), above.values("D"), above.y):
                rows.append(scored(boot, {"N": n, "D": d}, y, level) | {"truth": group, "rule": rule, "seed": 0})
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows by `forecasts`: one row a truth and rule, and the means over truths."""
    def of(group):
        return pd.Series({"|error|": group.error.abs().median(), "bias": group.error.mean(),
                          "covered, plain": group.plain_holds.mean(), "covered": group.calibrated_holds.mean(),
                          "half width": group.calibrated_width.median(), "factor": group.factor.median(),
                          "law": group.law.mode()[0]})
    every = rows.assign(truth="all")
    return pd.concat([rows, every]).groupby(["truth", "rule"], sort=False)[list(rows)].apply(of)


def main(argv):
    del argv
    if _TABLE.value:
        rows = of_table(_TABLE.value, _BY.value, _WHERE.value, _RATIO.value, _LEVEL.value)
    else:
        rows = [row for truth in _TRUTHS.value for seed in range(_STUDIES.value)
                for row in forecasts(truth, seed, _RATIO.value, _LEVEL.value)]
    table = summary(pd.DataFrame(rows)).reset_index()
    for name in ("|error|", "bias", "half width"):
        table[name] = table[name].map("{:.2%}".format)
    for name in ("covered, plain", "covered"):
        table[name] = table[name].map("{:.0%}".format)
    what = _TABLE.value or f"{_STUDIES.value} studies for each truth"
    print(f"{what}; forecast at {_RATIO.value:g} times the largest fitted compute, {_LEVEL.value:.0%} intervals")
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    app.run(main)
