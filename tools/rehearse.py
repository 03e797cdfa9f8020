"""Rehearses a study before its runs are trained: how far off would its forecast be, and where would seeds help?

    python -m experiments.run --config=pilot.py --workdir=runs/pilot     # a few seeds of the cells, without a target
    python -m tools.rehearse --config=configs/forecasts.py:transformer-pycode-100 --pilot=runs/pilot --studies=20

The pilot gives the scatter of a seed and, by fits to its cells, the laws that may be true: those that it does not refute. A
rehearsal plants one of them, draws a result for every run of the config's sweep with that scatter, and lets each rule
forecast the target. So a rule and a design are chosen by what they would do, before a result of theirs is known.

The first table has, for each law, the standard error of its forecast at the target if it is true and fitted (least squares,
linearised at the pilot's fit). The second has the cells: `variance` is a cell's part in the variance of the forecast (the
mean over laws), `cost` its part in the FLOPs, and `better` the seeds that the same FLOPs would buy where one narrows the
forecast most (in proportion to the root of variance over cost). The third has the rules: the size of the error of the
forecast over rehearsed studies, and the law that was taken most often.

A rehearsal trusts its truths. A surface that bends beyond the pilot's cells is more than it knows of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from absl import app, flags

from scaling import laws
from scaling.fields import ConfigError
from scaling.laws.fitting.fit import jacobian_at
from scaling.laws.scores.choose import RIVALS, RULES, apply_rule, rolling_cuts
from scaling.laws.scores.compare import compare
from scaling.results import planned, seeds, tuned
from scaling.study import configs
from scaling.study.judging import HOW
from scaling.training.counts import counts

ENDLESS = 2 ** 62  # units of data of the source, which do not matter to N, D and C

_CONFIG = flags.DEFINE_string("config", None, "A config file of a study with a target, as for experiments.run.")
_PILOT = flags.DEFINE_string("pilot", None, "The workdir of the pilot: runs of the same ladder, with two seeds or more.")
_STUDIES = flags.DEFINE_integer("studies", 20, "Rehearsed studies for each truth.", lower_bound=1)
_RULES = flags.DEFINE_list("rules", list(RULES), "Rules and laws that forecast.")


@dataclass(frozen=True)
class Design:
    """The cells of a sweep, N, D, C (FLOPs of a run) and seeds a row, its target {N, D}, and the FLOPs of the target over
    those of the largest run."""
    cells: pd.DataFrame
    target: Mapping[str, float]
    ratio: float

    @classmethod
    def of_study(cls, study) -> Design:
        rows = pd.DataFrame([_counted(experiment) for experiment in study.sweep])
        cells = rows.groupby(["N", "D"], as_index=False).agg(C=("C", "first"), seeds=("C", "size"))
        goal = _counted(study.target(study.sweep[0].optim.learning_rate))
        return cls(cells, {name: goal[name] for name in "ND"}, goal["C"] / cells["C"].max())

    @property
    def flops(self) -> float:
        return float((self.cells["C"] * self.cells["seeds"]).sum())


def _counted(experiment) -> dict[str, float]:
    found = counts(experiment, ENDLESS)
    return {"N": found["params_non_embedding"], "D": found[f"{experiment.data.unit}_seen"], "C": found["flops"]}


@dataclass(frozen=True)
class Pilot:
    """What a pilot says: fits of the laws that it does not refute, and the standard deviation of a seed's log result."""
    truths: Mapping[str, laws.Fit]
    scatter: float

    @classmethod
    def of_records(cls, records: pd.DataFrame, metric: str) -> Pilot:
        """Raises a ConfigError where no cell has two seeds."""
        runs = tuned.clean(records, metric)
        cells = tuned.tuned_cells(runs, metric)
        noise = seeds.seed_noise(runs, cells, metric)
        if np.isnan(noise.variance):
            raise ConfigError("the pilot has one seed a cell, which shows no scatter; train two or more of each")
        table = pd.DataFrame({"N": cells[tuned.PARAMS], "D": cells["data"], "loss": cells[metric], "seeds": cells["seeds"]})
        chosen = laws.choose_law(table, "best", **HOW)
        return cls({law: chosen.fits[law] for law in chosen.spread}, float(noise.variance) ** 0.5)


def variances(design: Design, pilot: Pilot) -> dict[str, np.ndarray]:
    """{law: each cell's part in the variance of the log forecast}, of least squares with every cell's mean."""
    inputs = np.log(design.cells[["N", "D"]].to_numpy(float).T)
    goal = np.log([[design.target["N"]], [design.target["D"]]])
    spread = pilot.scatter ** 2 / design.cells["seeds"].to_numpy()
    found = {}
    for law, fit in pilot.truths.items():
        slopes = jacobian_at(fit.form, fit.vector, inputs)
        size = np.linalg.norm(slopes, axis=0)
        size[size == 0] = 1.0  # a parameter that nothing depends on, such as E at 0 under a product
        slopes, at = slopes / size, jacobian_at(fit.form, fit.vector, goal)[0] / size
        information = slopes.T @ (slopes / spread[:, None])
        weights = (slopes / spread[:, None]) @ np.linalg.pinv(information, rcond=1e-12) @ at
        found[law] = weights ** 2 * spread
    return found


def better_seeds(design: Design, shares: np.ndarray) -> np.ndarray:
    """Seeds of each cell in proportion to the root of its share of the variance, times its seeds, over its cost; as many
    as cost the same."""
    each = design.cells["C"].to_numpy()
    wanted = np.sqrt(shares * design.cells["seeds"].to_numpy() / each)
    return wanted * design.flops / (wanted * each).sum()


def rehearse(design: Design, truth: laws.Fit, scatter: float, rules: Sequence[str], seed: int) -> list[dict]:
    """One row a rule: the law that it took, and the error of its forecast (over what the truth gives, less 1)."""
    cells = design.cells
    normal = np.random.default_rng(seed).standard_normal(len(cells))
    loss = truth.predict(N=cells["N"], D=cells["D"]) * np.exp(scatter * normal / np.sqrt(cells["seeds"]))
    table = cells[["N", "D", "seeds"]].assign(loss=loss)
    compared = compare(table, RIVALS, cuts=rolling_cuts(6 * cells["N"] * cells["D"]), draws=60, quick=True, **HOW)
    right, rows = float(truth.predict(**design.target)), []
    for rule in rules:
        chosen = apply_rule(compared, rule, 0.9)
        said = chosen.together({law: np.asarray(chosen.fits[law].predict(**design.target)) for law in chosen.fits})
        rows.append({"rule": rule, "law": chosen.law, "error": float(said) / right - 1})
    return rows


def main(argv):
    del argv
    if not _CONFIG.value or not _PILOT.value:
        raise app.UsageError("name a study by --config and the workdir of its pilot by --pilot")
    study = configs.define_study(configs.load_config(_CONFIG.value), configs.read_config(_CONFIG.value))
    if study.target is None:
        raise app.UsageError(f"--config={_CONFIG.value} forecasts nothing; name a variant with a target")
    design, pilot = Design.of_study(study), Pilot.of_records(planned.load_planned(_PILOT.value)[0], study.metric)
    print(f"{design.cells['seeds'].sum()} runs in {len(design.cells)} cells, {design.flops:.3g} FLOPs; the target has "
          f"{design.ratio:.3g} times the largest run's; one seed scatters by {pilot.scatter:.2%}")
    parts = variances(design, pilot)
    print("\nstandard error of the forecast, if the law is true")
    for law, part in parts.items():
        print(f"  {law}: {np.sqrt(part.sum()):.2%}")
    shares = np.mean([part / part.sum() for part in parts.values()], axis=0)
    cost = design.cells["C"] * design.cells["seeds"] / design.flops
    cells = design.cells.assign(variance=shares, cost=cost, better=better_seeds(design, shares))
    print("\n" + cells.to_string(index=False, formatters={
        "N": "{:,.0f}".format, "D": "{:,.0f}".format, "C": "{:.3g}".format, "variance": "{:.1%}".format,
        "cost": "{:.1%}".format, "better": "{:.1f}".format}))
    rows = pd.DataFrame([row | {"truth": law} for law, truth in pilot.truths.items() for seed in range(_STUDIES.value)
                         for row in rehearse(design, truth, pilot.scatter, _RULES.value, seed)])
    print(f"\n{_STUDIES.value} rehearsed studies for each truth")
    shown = dict.fromkeys(("median |error|", "90%", "bias"), "{:.2%}".format)
    print(summary(rows).to_string(index=False, formatters=shown))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows of `rehearse` with a `truth`: one row a truth and rule, and those of a rule over all truths."""
    def of(group):
        size = group["error"].abs()
        return pd.Series({"median |error|": size.median(), "90%": size.quantile(0.9), "bias": group["error"].mean(),
                          "law": group["law"].mode()[0]})
    every = pd.concat([rows, rows.assign(truth="all")])
    return every.groupby(["truth", "rule"], sort=False)[list(rows)].apply(of).reset_index()


if __name__ == "__main__":
    app.run(main)
