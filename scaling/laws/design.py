"""Which runs to buy next: those that make a forecast, a best size or an exponent most certain for the FLOPs they cost.

    boot = bootstrap(fit(runs, "chinchilla", delta="noise"))
    plan = suggest(boot, budget=1e20, target={"N": 7e10, "D": 1.4e12})
    print(plan)

`suggest` adds to runs that there are; `first_grid` proposes the first. How runs are chosen is in `_design_search`.

A design is as good as the law it is made for: it buys runs where the law would show what is asked, not where it would
show that it is wrong. Where residuals have structure, fit a better law first, or buy a grid.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws._design_grid import Grid, first_grid, prior, trunks  # noqa: F401
from scaling.laws._design_search import Information, natural, slopes
from scaling.laws._design_targets import Target, best_loss, best_size, loss_at, quantity, target_of  # noqa: F401
from scaling.laws.allocation import six_n_d
from scaling.laws.diagnose import LEVELS_APART
from scaling.laws.fitting import Fit
from scaling.laws.forms import Form, LawError, get
from scaling.laws.runs import Runs
from scaling.laws.uncertainty import Bootstrap, bootstrap

LEVELS = 17         # of each input in the default lattice, at most
BEYOND = 4.0        # the default lattice reaches so many times above the data; below the smallest runs, laws bend
SCALE_FLOOR = 1e-6  # of the noise: a law that fits exactly leaves none to weigh
DISTRUST = ("residual-structure", "group-structure", "lack-of-fit")  # diagnostics of a law that is not the right one


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Runs to buy, one a row of `runs`: the law's inputs, seed (how many runs of that point come before it), cost
    (FLOPs of it alone), gain (the share by which the target's variance would grow without it), gain_per_flop; with a way
    to run also batch and y.

    Standard errors of the target, now, as expected with the runs, and as found where they were run, are relative (shares
    of it) where `relative`. cost is of all runs together, which may be less than their sum. fit and boot are after the
    last batch.
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
        """How much of the target's variance a FLOP takes away."""
        return (self.se_now ** 2 - self.se_after ** 2) / self.cost

    def to_json(self) -> dict:
        return {"target": self.target, "estimate": float(self.estimate), "se_now": float(self.se_now),
                "se_after": float(self.se_after), "se_found": self.se_found, "relative": self.relative, "budget": float(self.budget),
                "cost": float(self.cost), "variance_per_flop": float(self.variance_per_flop),
                "form": self.fit.form.name, "notes": list(self.notes),
                "runs": [{name: float(value) if isinstance(value, float) else int(value) for name, value in row.items()}
                         for row in self.runs.to_dict("records")]}

    def __str__(self) -> str:
        def error(value):
            return f"{value:.2%}" if self.relative else f"{value:.3g}"
        columns = {name: "{:.5g}".format for name in self.runs.columns if name not in ("seed", "batch", "gain")}
        table = self.runs.to_string(index=False, formatters=columns | {"gain": "{:.1%}".format})
        lines = [f"{self.target}: {self.estimate:.5g}, standard error now {error(self.se_now)}, expected after "
                 f"{error(self.se_after)}", f"{len(self.runs)} runs, {self.cost:.3g} of {self.budget:.3g} FLOPs:", table]
        return "\n".join([*lines, *(f"  ! {note}" for note in self.notes)])


def suggest(source: Fit | Bootstrap, candidates=None, budget: float = 0.0, *, target, cost: Callable | None = None,
            together: Callable | None = None, seeds: int = 1, most: int | None = None, run: Callable | None = None,
            batches: int = 1, draws: int = 64, seed: int = 0) -> Suggestion:
    """Choose the runs within `budget` FLOPs that are expected to shrink the target's variance most.

    source: a fit, or better its bootstrap. candidates: a DataFrame with the law's inputs (by the law's names or the
    data's columns) and perhaps "cost"; by default a lattice from the smallest runs to four times beyond the largest. cost(N, D) -> FLOPs of one run,
    for arrays, by default 6 N D; for a law of other inputs it takes those by name.
    target: {"N": ..., "D": ...}, the loss there; a parameter's name; a function of a DataFrame of parameters; or one
    of best_loss(C), best_size(C).
    together(candidates, masks [sets, candidates]) -> FLOPs [sets], where runs share work; see `trunks`.
    seeds: how many runs of one point there may be, those bought counted: with 1 no point is bought twice.
    most: how many runs at most. run(runs) -> losses, a way to have runs (see `simulate`): they are then bought in
    `batches` of equal budget, and the law is fitted anew after each. draws: how many parameter vectors of the bootstrap
    the design is averaged over.

    Raises LawError for a budget that buys nothing, inputs or costs that are not positive, or an unknown target.
    """
    boot = source if isinstance(source, Bootstrap) else bootstrap(source, draws=max(200, draws), seed=seed)
    for name, value in {"budget": budget, "seeds": seeds, "batches": batches, "draws": draws, "most": most or 1}.items():
        if not (np.isfinite(value) and value > 0):
            raise LawError(f"{name} must be positive, not {value}")
    if batches > 1 and run is None:
        raise LawError("batches need a way to run: pass run=, or buy these runs and ask again")
    target = target_of(target)
    form = boot.fit.form
    table = _priced(form, _lattice(boot.fit) if candidates is None else candidates, boot.fit.runs, cost)
    together = together or (lambda frame, masks: masks @ frame["cost"].to_numpy(float))
    center, first = _standard_error(target, boot)
    bought, spent, change = [], 0.0, 0.0
    for batch in range(batches):
        allowance = budget * (batch + 1) / batches - spent
        frame = _open(form, table, boot.fit, seeds, allowance)
        if frame.empty:
            if bought:
                break
            raise LawError(f"the cheapest of the candidates that are left costs {table['cost'].min():.3g} FLOPs, and the "
                           f"budget is {budget:.3g}" if (table["cost"] > allowance).all() else
                           "every candidate that the budget affords was bought already; give others, or raise seeds")
        information = _information(form, frame, boot, target, together, draws)
        taken = information.search(allowance, most and most - sum(map(len, bought)))
        chosen, price, now = _described(information, frame, taken)
        change += now
        spent += price
        if run is not None:
            chosen = chosen.assign(batch=batch, y=np.asarray(run(chosen), float))
            boot = _refitted(boot, chosen, seed + batch + 1)
        bought.append(chosen)
        if most and sum(map(len, bought)) >= most:
            break
    found = None if run is None else _standard_error(target, boot)[1]
    return Suggestion(pd.concat(bought, ignore_index=True), target.name, target.shown(center), first,
                      float(first * np.exp(change / 2)), target.log, float(budget), spent, boot.fit, boot, found,
                      _notes(boot.fit))


def simulate(law: str | Form | Callable, params: Mapping[str, float] | None = None, noise: float = 0.01,
             seed: int = 0) -> Callable:
    """A way to run: run(frame) -> losses of a planted law with normal noise of its logarithm, new in every call.

    law: a form with its params, or a function of the inputs, law(N=..., D=...).
    """
    rng = np.random.default_rng(seed)
    form = None if callable(law) and not isinstance(law, Form) else get(law)

    def run(frame) -> np.ndarray:
        if form is None:
            exact = law(N=frame["N"].to_numpy(float), D=frame["D"].to_numpy(float))
        else:
            vector = np.array([[params[name] for name in form.names]], float)
            exact = form.predict(vector, np.log(frame[list(form.inputs)].to_numpy(float).T))[0]
        return exact * np.exp(noise * rng.standard_normal(len(frame)))

    return run


# ------------------------------------------------------------------------------------------------- candidates


def _lattice(law: Fit) -> pd.DataFrame:
    """Points from the smallest inputs of the data to beyond the largest, in steps of the square root of 2 or wider."""
    axes = []
    for name, logs in zip(law.form.inputs, law.logs):
        if name in law.form.constant and np.ptp(logs) == 0:
            axes.append(logs[:1])
            continue
        low, high = logs.min(), logs.max() + np.log(BEYOND)
        step = max(0.5 * np.log(2), (high - low) / (LEVELS - 1))
        axes.append(np.arange(low, high + 0.5 * step, step))
    points = np.exp(np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]))
    return pd.DataFrame(dict(zip(law.form.inputs, points)))


def _priced(form: Form, candidates, runs: Runs, cost: Callable | None) -> pd.DataFrame:
    """The candidates with the law's inputs by its own names, and what each costs."""
    frame = pd.DataFrame(candidates).reset_index(drop=True)
    frame = frame.rename(columns={runs.columns[name]: name for name in form.inputs
                                  if name not in frame and runs.columns.get(name) in frame})
    if missing := [name for name in form.inputs if name not in frame]:
        raise LawError(f"the candidates need a column {missing[0]}, an input of {form.name}; they have "
                       f"{', '.join(map(str, frame.columns))}")
    if "cost" not in frame:
        if cost is None and not {"N", "D"} <= set(form.inputs):
            raise LawError(f"what does a run cost? {form.name} is in {', '.join(form.inputs)}: give the candidates a column "
                           "cost, or a function cost of these inputs")
        values = {name: frame[name].to_numpy(float) for name in form.inputs}
        frame["cost"] = six_n_d(values["N"], values["D"]) if cost is None else cost(**values)
    frame = frame[[*form.inputs, *(name for name in frame if name not in form.inputs)]]
    for name in (*form.inputs, "cost"):
        values = frame[name].to_numpy(float)
        if not np.all(np.isfinite(values) & (values > 0)):
            raise LawError(f"{name} of the candidates must be positive and finite")
    return frame


def _open(form: Form, table: pd.DataFrame, law: Fit, seeds: int, allowance: float) -> pd.DataFrame:
    """The affordable candidates, each as often as it may still be bought, with the number of its seed."""
    apart = np.abs(np.log(table[list(form.inputs)].to_numpy(float))[:, None] - law.logs.T[None]).max(2)
    held = law.runs.frame["seeds"].to_numpy(float) if "seeds" in law.runs.frame else np.ones(len(law.runs))
    before = ((apart < LEVELS_APART) * held).sum(1).astype(int)
    parts = [table.assign(seed=before + k)[(before + k < seeds) & (table["cost"] <= allowance * (1 + 1e-9))]
             for k in range(seeds)]
    return pd.concat(parts, ignore_index=True)


# ------------------------------------------------------------------------------------------------- the design


def _information(form: Form, frame, boot: Bootstrap, target: Target, together: Callable, draws: int) -> Information:
    law = boot.fit
    vectors = boot.draws[list(form.names)].to_numpy()
    vectors = vectors[np.unique(np.linspace(0, len(vectors) - 1, draws).astype(int))]
    logs = np.log(frame[list(form.inputs)].to_numpy(float).T)
    noise = max(law.noise, SCALE_FLOOR)

    def seen(rows):
        return law.spec.transform(form.predict(rows, np.concatenate([law.logs, logs], axis=1))) / noise

    with np.errstate(all="ignore"):
        changes = natural(form, vectors, law.logs)
        each, wanted = slopes(seen, vectors, changes), slopes(lambda rows: target.values(law, rows), vectors, changes)
    usable = np.isfinite(each).all((1, 2)) & np.isfinite(wanted).all(1)
    if usable.mean() < 0.5:
        raise LawError(f"{target.name} cannot be computed from most draws of the fit; choose a target that the law knows")
    if not wanted[usable].any():
        raise LawError(f"{target.name} does not depend on the parameters of {form.name} that are fitted")
    each, wanted = each[usable], wanted[usable]
    count = len(law.runs)
    return Information(each[:, :count], law.weights, each[:, count:], wanted, lambda masks: together(frame, masks))


def _described(information: Information, frame: pd.DataFrame, taken: list[int]) -> tuple[pd.DataFrame, float, float]:
    """(the chosen runs with what each contributes, cost of all, expected change of the target's log variance)."""
    whole, price = information.change(taken), information.cost(taken)
    without = [information.change([k for k in taken if k != left]) for left in taken]
    gain = np.expm1(np.array(without) - whole)
    chosen = frame.iloc[taken].assign(gain=gain)
    chosen["gain_per_flop"] = chosen["gain"] / chosen["cost"]
    order = [name for name in frame if name not in ("cost", "seed")]
    return chosen.sort_values([*order, "seed"], ignore_index=True), price, whole


def _standard_error(target: Target, boot: Bootstrap) -> tuple[float, float]:
    """(the target at the fit, half the width of its central 68% over the draws)."""
    form = boot.fit.form
    with np.errstate(all="ignore"):
        center = float(target.values(boot.fit, boot.fit.vector[None])[0])
        values = target.values(boot.fit, boot.draws[list(form.names)].to_numpy())
    if not np.isfinite(center):
        raise LawError(f"{target.name} cannot be computed from this fit of {form.name}")
    low, high = np.quantile(values[np.isfinite(values)], [0.1587, 0.8413])
    return center, float(high - low) / 2


def _refitted(boot: Bootstrap, chosen: pd.DataFrame, seed: int) -> Bootstrap:
    """The law of the runs there were and of those just bought."""
    law = boot.fit
    columns, new = law.runs.columns, {}
    for role, column in columns.items():
        source = {"y": "y", "C": "cost"}.get(role, role)
        if source in chosen:
            new[column] = chosen[source].to_numpy(float)
    weights = law.settings["weights"]
    if isinstance(weights, str):
        new[weights] = 1.0
    elif weights is not None:
        raise LawError("to refit after a batch, weights must be a column of the runs: fit(runs, weights='seeds')")
    if "seeds" in law.runs.frame:
        new["seeds"] = 1
    frame = pd.concat([law.runs.frame, pd.DataFrame(new)], ignore_index=True)
    runs = dataclasses.replace(law.runs, frame=frame, rows=np.arange(len(frame)))
    return bootstrap(law.again(runs), draws=len(boot.draws), seed=seed)


def _notes(law: Fit) -> list[str]:
    """Warnings of the fit that a design should not be trusted under."""
    return [f"The design trusts the law, but: {said}" for said in law.diagnostics
            if getattr(said, "code", "") in DISTRUST]
