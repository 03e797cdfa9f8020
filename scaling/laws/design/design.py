"""Which runs to buy next: the runs that make a forecast, a best size or an exponent most certain for the FLOPs.

    boot = bootstrap(fit(runs, "chinchilla", delta="noise"))
    print(suggest(boot, None, 1e20, target={"N": 7e10, "D": 1.4e12}))

`suggest` adds to the runs there are, and `first_grid` proposes the first. `search` explains how runs are chosen.

A design trusts its law: it buys the runs that make the target certain if the law holds, and not the runs that
would show that the law is wrong. Where residuals have structure, fit a better law first, or buy a grid.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.design.candidates import lattice, priced, unbought
from scaling.laws.design.search import Information, natural, slopes
from scaling.laws.design.targets import Target, target_of
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.search import fit_again
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap

SCALE_FLOOR = 1e-6  # least noise: a law that fits exactly would leave none to divide by
DISTRUST = ("residual-structure", "group-structure", "lack-of-fit")  # diagnostics of a fit of the wrong law


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Runs to buy.

    runs: one row a run, with the law's inputs, seed (the number of earlier runs at this point), cost (FLOPs of
    this run alone), gain (the share by which the target's variance would grow without it) and gain_per_flop;
    where runs were simulated or trained, also batch and y.

    se_now, se_after and se_found: the standard errors of the target now, as expected with the runs, and as found
    where they were run. They are shares of the target where `relative`. cost: FLOPs of all runs together, which
    may be less than their sum. fit and boot: those after the last batch.
    """
    runs: pd.DataFrame
    target: str
    estimate: float
    se_now: float
    se_after: float
    relative: bool
    budget: float
    cost: float
    fit: Fit
    boot: Bootstrap
    se_found: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def variance_per_flop(self) -> float:
        """The variance of the target that one FLOP removes."""
        return (self.se_now ** 2 - self.se_after ** 2) / self.cost

    def to_json(self) -> dict:
        def plain(value):
            return value.item() if isinstance(value, np.generic) else value
        return {"target": self.target, "estimate": self.estimate, "se_now": self.se_now,
                "se_after": self.se_after, "se_found": self.se_found, "relative": self.relative,
                "budget": self.budget, "cost": self.cost, "variance_per_flop": self.variance_per_flop,
                "form": self.fit.form.name, "notes": list(self.notes),
                "runs": [{name: plain(value) for name, value in row.items()}
                         for row in self.runs.to_dict("records")]}

    def __str__(self) -> str:
        def error(value):
            return f"{value:.2%}" if self.relative else f"{value:.3g}"
        numbers = [name for name in self.runs.columns if name not in ("seed", "batch", "gain")]
        shown = dict.fromkeys(numbers, "{:.5g}".format) | {"gain": "{:.1%}".format}
        return "\n".join([
            f"{self.target}: {self.estimate:.5g}, standard error now {error(self.se_now)}, expected after "
            f"{error(self.se_after)}",
            f"{len(self.runs)} runs, {self.cost:.3g} of {self.budget:.3g} FLOPs:",
            self.runs.to_string(index=False, formatters=shown), *(f"  ! {note}" for note in self.notes)])


def suggest(source: Fit | Bootstrap, candidates=None, budget: float = 0.0, *, target,
            cost: Callable | None = None, together: Callable | None = None, seeds: int = 1,
            most: int | None = None, run: Callable | None = None, batches: int = 1, draws: int = 64,
            seed: int = 0) -> Suggestion:
    """Choose the runs within `budget` FLOPs that are expected to shrink the target's variance most.

    source: a fit, or better its bootstrap.
    candidates: a DataFrame with the law's inputs (by the law's names or the data's columns) and perhaps "cost".
    The default is a lattice from four times below the smallest run to four times above the largest. Laws bend
    for very small runs, so give your own candidates where yours do.
    cost(N, D) -> FLOPs of one run takes arrays; by default 6 N D. For a law of other inputs it takes those by
    name.
    target: {"N": ..., "D": ...} for the loss there, a parameter's name, a function of a DataFrame of parameters,
    or one of best_loss(C) and best_size(C).
    together(candidates, masks [sets, candidates]) -> FLOPs [sets] of runs that share work; see `grid.trunks`.
    seeds: the most runs at one point, with those already bought; with 1 no point is bought twice.
    most: the most runs in all.
    run(runs) -> losses trains runs, or simulates them (see `simulate`). Runs are then bought in `batches` of
    equal budget, and the law is fitted again after each batch.
    draws: the number of parameter vectors of the bootstrap that the design averages over.

    Raises LawError for a budget that buys nothing, for inputs or costs that are not positive, and for an unknown
    target.
    """
    boot = source if isinstance(source, Bootstrap) else bootstrap(source, max(200, draws), seed=seed)
    limits = {"budget": budget, "seeds": seeds, "batches": batches, "draws": draws,
              "most": 1 if most is None else most}
    for name, value in limits.items():
        if not (np.isfinite(value) and value > 0):
            raise LawError(f"{name} must be positive, not {value}")
    if batches > 1 and run is None:
        raise LawError("batches need a way to run: pass run=, or buy one batch, fit again and ask again")
    target, law = target_of(target), boot.fit
    table = priced(law.form, lattice(law) if candidates is None else candidates, law.runs, cost)
    together = together or (lambda frame, masks: masks @ frame["cost"].to_numpy(float))
    centre, first = _standard_error(target, boot)
    bought, spent, change = [], 0.0, 0.0
    for batch in range(batches):
        allowance = budget * (batch + 1) / batches - spent
        left = None if most is None else most - sum(map(len, bought))
        frame = unbought(table, boot.fit, seeds, allowance)
        if bought and (frame.empty or left == 0):
            break
        if frame.empty:
            cheapest = table["cost"].min()
            raise LawError(
                f"the cheapest candidate costs {cheapest:.3g} FLOPs, and the budget is {budget:.3g}"
                if cheapest > allowance else
                "every candidate that the budget affords was bought already; give other candidates, or raise seeds")
        information = _information(frame, boot, target, together, draws)
        chosen, price, now = _described(information, frame, information.search(allowance, left))
        change, spent = change + now, spent + price
        if run is not None:
            chosen = chosen.assign(batch=batch, y=np.asarray(run(chosen), float))
            boot = _refitted(boot, chosen, seed + batch + 1)
        bought.append(chosen)
    return Suggestion(
        runs=pd.concat(bought, ignore_index=True), target=target.name, estimate=target.shown(centre),
        se_now=first, se_after=float(first * np.exp(change / 2)), relative=target.log, budget=float(budget),
        cost=spent, fit=boot.fit, boot=boot,
        se_found=None if run is None else _standard_error(target, boot)[1],
        notes=[f"The design trusts the law, but: {said}" for said in boot.fit.diagnostics
               if said.code in DISTRUST])


def simulate(law: str | Form | Callable, params: Mapping[str, float] | None = None, noise: float = 0.01,
             seed: int = 0) -> Callable:
    """run(frame) -> losses of a planted law, with normal noise in their logarithm that is new in each call.

    law: a form with its params, or a function of N and D, law(N=..., D=...).
    """
    rng = np.random.default_rng(seed)
    if isinstance(law, (str, Form)):
        form = get_form(law)
        vector = np.array([[(params or {})[name] for name in form.names]], float)

        def exact(frame):
            return form.predict(vector, np.log(frame[list(form.inputs)].to_numpy(float).T))[0]
    else:
        surface = law

        def exact(frame):
            return surface(N=frame["N"].to_numpy(float), D=frame["D"].to_numpy(float))

    def run(frame) -> np.ndarray:
        return exact(frame) * np.exp(noise * rng.standard_normal(len(frame)))

    return run


def _information(frame, boot: Bootstrap, target: Target, together: Callable, draws: int) -> Information:
    law, form = boot.fit, boot.fit.form
    vectors = boot.draws[list(form.names)].to_numpy()
    vectors = vectors[np.unique(np.linspace(0, len(vectors) - 1, draws).astype(int))]
    logs = np.concatenate([law.logs, np.log(frame[list(form.inputs)].to_numpy(float).T)], axis=1)
    noise = max(law.noise, SCALE_FLOOR)
    with np.errstate(all="ignore"):
        changes = natural(form, vectors, law.logs)
        each = slopes(lambda rows: law.spec.transform(form.predict(rows, logs)) / noise, vectors, changes)
        wanted = slopes(lambda rows: target.values(law, rows), vectors, changes)
    usable = np.isfinite(each).all((1, 2)) & np.isfinite(wanted).all(1)
    if usable.mean() < 0.5:
        raise LawError(f"{target.name} cannot be computed from most draws of the fit; choose a target "
                       "that it determines")
    if not wanted[usable].any():
        raise LawError(f"{target.name} does not depend on the parameters of {form.name} that are fitted")
    each, wanted, count = each[usable], wanted[usable], len(law.runs)
    return Information(each[:, :count], law.weights, each[:, count:], wanted,
                       lambda masks: together(frame, masks))


def _described(information: Information, frame: pd.DataFrame, taken: list[int]):
    """(the chosen runs with the gain of each, cost of all, expected change of the log variance)."""
    whole, price = information.change(taken), information.cost(taken)
    without = [information.change([k for k in taken if k != left]) for left in taken]
    chosen = frame.iloc[taken].assign(gain=np.expm1(np.array(without) - whole))
    chosen["gain_per_flop"] = chosen["gain"] / chosen["cost"]
    order = [name for name in frame if name != "cost"]
    return chosen.sort_values(order, ignore_index=True), price, whole


def _standard_error(target: Target, boot: Bootstrap) -> tuple[float, float]:
    """(the target at the fit, half the width of its central 68% over the draws)."""
    with np.errstate(all="ignore"):
        centre = float(target.values(boot.fit, boot.fit.vector[None])[0])
        values = target.values(boot.fit, boot.draws[list(boot.fit.form.names)].to_numpy())
    finite = np.isfinite(values)
    if not (np.isfinite(centre) and finite.mean() >= 0.5):
        raise LawError(f"{target.name} cannot be computed from this fit of {boot.fit.form.name} or from most of "
                       "its resamples: the runs do not determine the law")
    low, high = np.quantile(values[finite], [0.1587, 0.8413])
    return centre, float(high - low) / 2


def _refitted(boot: Bootstrap, chosen: pd.DataFrame, seed: int) -> Bootstrap:
    """The bootstrap of the law, fitted to the earlier runs and those just bought."""
    law, new = boot.fit, {}
    for role, column in law.runs.columns.items():
        source = "cost" if role == "C" and role not in chosen else role
        if source in chosen:
            new[column] = chosen[source].to_numpy(float)
    weights = law.settings["weights"]
    if isinstance(weights, str):
        new[weights] = 1.0
    elif weights is not None:
        raise LawError("to refit after a batch, weights must be a column of the runs: "
                       "fit(runs, weights='seeds')")
    if "seeds" in law.runs.frame:
        new["seeds"] = 1
    frame = pd.concat([law.runs.frame, pd.DataFrame(new)], ignore_index=True)
    runs = dataclasses.replace(law.runs, frame=frame, rows=np.arange(len(frame)))
    return bootstrap(fit_again(law, runs), draws=len(boot.draws), seed=seed)
