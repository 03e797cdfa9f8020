"""The first grid of runs, when there is nothing to fit yet."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.design.search import Information, natural, slopes
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import Form, LawError
from scaling.laws.optimum.counts import six_n_d

# Ranges of the prior. Published exponents are 0.28 to 0.37 (2203.15556, 2404.10102, 2305.16264); other data need
# a wider range.
EXPONENTS = (0.2, 0.6)
REDUCIBLE = (0.1, 0.8)     # share of the loss at the target that more N and D would still remove
SIDES = (0.3, 0.7)         # share of the reducible loss that N would remove
SIZES, LEVELS = (4, 5, 6), (3, 4, 5)  # values of N, and of D at every N: three give an exponent, four show misfit
STRIDES = (1, 2, 3, 4)     # between neighbours, in steps of the lattice
STEP, REACH = 2 ** 0.5, 21  # the lattice goes down from the target by REACH steps of this factor


@dataclass(frozen=True, eq=False)
class Grid:
    """A first grid.

    runs: N, D and cost (FLOPs), one row a run. cost: FLOPs of all runs together. held_out: N, D and cost of the
    run that checks the forecast. se: the relative standard error that the prior expects of that forecast.
    """
    runs: pd.DataFrame
    held_out: dict[str, float]
    budget: float
    cost: float
    se: float

    def to_json(self) -> dict:
        return {"budget": float(self.budget), "cost": float(self.cost), "se": float(self.se),
                "held_out": {name: float(value) for name, value in self.held_out.items()},
                "runs": [{name: float(value) for name, value in row.items()}
                         for row in self.runs.to_dict("records")]}

    def __str__(self) -> str:
        table = self.runs.pivot(index="N", columns="D", values="cost")
        table = table.map(lambda x: f"{x:.2g}" if x > 0 else "")
        table.index = [f"N = {x:.4g}" for x in table.index]
        table.columns = [f"D = {x:.4g}" for x in table.columns]
        held = ", ".join(f"{name} = {x:.4g}" for name, x in self.held_out.items())
        return "\n".join([
            f"{len(self.runs)} runs, {self.cost:.3g} of {self.budget:.3g} FLOPs; each costs",
            table.to_string(),
            f"then forecast, before it is trained: {held}; expected standard error {self.se:.1%}"])


def trunks(cooldown: float = 0.2) -> Callable:
    """A `together` for runs that share trunks (Hägele et al. 2024, arXiv:2405.18392).

    Runs of one N (and seed) branch off one trunk at constant learning rate. Each has a cooldown over the share
    `cooldown` of its own length, so the trunk of the longest run serves all.
    """
    def together(frame: pd.DataFrame, masks: np.ndarray) -> np.ndarray:
        cost = frame["cost"].to_numpy(float)
        labels = frame.groupby([name for name in ("N", "seed") if name in frame]).ngroup().to_numpy()
        members = [labels == label for label in np.unique(labels)]
        longest = sum((masks[:, own] * cost[own]).max(1) for own in members)
        return (1 - cooldown) * longest + cooldown * (masks @ cost)

    return together


def prior(law: str | Form = "chinchilla", *, N: float, D: float, draws: int = 32,
          seed: int = 0) -> pd.DataFrame:
    """Draws of Chinchilla's parameters from ranges around the published ones, for a loss of about 1 at (N, D).

    Each term is drawn as a share of the loss there, so the prior serves runs of any size and metrics of any
    unit.
    """
    if get_form(law).name != "chinchilla":
        raise LawError(f"there is no prior of {get_form(law).name}; give one as prior_draws=, a DataFrame of its "
                       "parameters with a draw in each row")
    rng = np.random.default_rng(seed)
    alpha, beta = rng.uniform(*EXPONENTS, (2, draws))
    reducible, side = rng.uniform(*REDUCIBLE, draws), rng.uniform(*SIDES, draws)
    return pd.DataFrame({"E": 1 - reducible, "A": reducible * side * N ** alpha,
                         "B": reducible * (1 - side) * D ** beta, "alpha": alpha, "beta": beta})


def first_grid(budget: float, law: str | Form = "chinchilla", prior_draws: pd.DataFrame | None = None, *,
               target: Mapping[str, float] | None = None, reserve: float = 0.5, ahead: float = 5.0,
               tokens_per_param: float = 20.0, sizes=None, data: tuple[float, float] | None = None,
               cost: Callable | None = None, together: Callable | None = None, noise: float = 0.01,
               seed: int = 0) -> Grid:
    """The grid in N and D that `budget` FLOPs should buy first, with FLOPs left for a run that checks its forecast.

    A grid has even steps of log N and of log D, at least four sizes, and at least three amounts of data at each.
    Each run costs at most 1 / `ahead` of the held-out run, and all runs together cost at most the rest of the
    budget. Of all such grids, the result is the one for which the prior expects the best forecast of the held-out
    run's loss.

    prior_draws: parameters of the law, one draw a row; by default `prior`. target: {"N": ..., "D": ...} of the
    held-out run; by default it has D = `tokens_per_param` * N and costs the share `reserve` of the budget.
    sizes: the possible N, such as those of a ladder; data: the least and the most D. cost(N, D), together: as in
    `suggest`. noise: the expected relative noise of one run.

    Raises LawError where the budget pays for no such grid.
    """
    for name, value in {"budget": budget, "reserve": reserve, "ahead": ahead, "noise": noise}.items():
        if not (np.isfinite(value) and value > 0):
            raise LawError(f"{name} must be positive, not {value}")
    form, cost = get_form(law), cost or six_n_d
    together = together or (lambda frame, masks: masks @ frame["cost"].to_numpy(float))
    held = dict(target) if target else _held_out(reserve * budget, tokens_per_param, cost, sizes, data)
    held["cost"] = float(cost(held["N"], held["D"]))
    left = budget - held["cost"]
    if left <= 0:
        raise LawError(f"the held-out run costs {held['cost']:.3g} FLOPs, all of the budget of {budget:.3g}: "
                       "raise the budget or choose a smaller target")
    frame, masks = _grids(held, left, ahead, cost, together, sizes, data)
    draws = prior(form, N=held["N"], D=held["D"], seed=seed) if prior_draws is None else prior_draws
    vectors = draws[list(form.names)].to_numpy(float)
    logs = np.log(frame[list(form.inputs)].to_numpy(float).T)
    end = np.log([[held[name]] for name in form.inputs])
    changes = natural(form, vectors, logs)
    each = slopes(lambda rows: np.log(form.predict(rows, logs)) / noise, vectors, changes)
    aim = slopes(lambda rows: np.log(form.predict(rows, end))[:, 0], vectors, changes)
    information = Information(each[:, :0], np.ones(0), each, aim, lambda sets: together(frame, sets))
    found = information.log_variances(masks).mean(1)
    best = int(found.argmin())
    return Grid(frame[masks[best]].reset_index(drop=True), held, float(budget),
                float(together(frame, masks[best:best + 1])[0]), float(np.exp(found[best] / 2)))


def _held_out(money: float, ratio: float, cost: Callable, sizes, data) -> dict[str, float]:
    """The largest run with D = ratio * N that costs at most `money` FLOPs, at one of the possible sizes."""
    options = np.geomspace(1.0, money, 4001) if sizes is None else np.sort(np.asarray(sizes, float))
    amounts = ratio * options if data is None else np.clip(ratio * options, *data)
    affordable = cost(options, amounts) <= money
    if not affordable.any():
        raise LawError(f"{money:.3g} FLOPs for the held-out run do not even pay for the smallest size; raise "
                       "the budget")
    best = int(np.flatnonzero(affordable).max())
    return {"N": float(options[best]), "D": float(amounts[best])}


def _grids(held, left: float, ahead: float, cost: Callable, together: Callable, sizes, data):
    """(the points of all grids, masks [grids, points] of the grids that keep the rules and cost at most `left`)."""
    down = STEP ** -np.arange(REACH)
    n = np.sort(held["N"] * down) if sizes is None else np.sort(np.asarray(sizes, float))
    d = np.sort(held["D"] * down)
    if data is not None:
        d = d[(d >= data[0] * (1 - 1e-9)) & (d <= data[1] * (1 + 1e-9))]
    ladder = STRIDES if sizes is None else tuple(range(1, len(n)))
    rows, columns = _combs(n, SIZES, ladder), _combs(d, LEVELS, STRIDES)
    points = np.array(list(itertools.product(n, d))).reshape(-1, 2)
    frame = pd.DataFrame(points, columns=["N", "D"])
    frame["cost"] = cost(points[:, 0], points[:, 1])
    allowed = frame["cost"].to_numpy().reshape(len(n), len(d)) <= held["cost"] / ahead
    kept = []
    for row in rows:
        block = row[None, :, None] & columns[:, None, :] & allowed
        good = np.where(row, block.sum(2) >= min(LEVELS), True).all(1)
        block = block[good].reshape(-1, allowed.size)
        if len(block):
            price = together(frame, block)
            kept.append(block[price <= left * (1 + 1e-9)])
    masks = np.concatenate(kept) if kept else np.zeros((0, len(frame)), bool)
    if not len(masks):
        raise LawError(f"no grid of {min(SIZES)} sizes with {min(LEVELS)} amounts of data each fits "
                       f"{left:.3g} FLOPs with runs of at most {held['cost'] / ahead:.3g}; change the "
                       "budget, the target, or the sizes")
    return frame, masks


def _combs(axis: np.ndarray, counts, strides) -> np.ndarray:
    """Masks [sets, len(axis)] that select a number of members from `counts`, at even strides."""
    found = []
    for count, stride in itertools.product(counts, strides):
        for start in range(len(axis) - (count - 1) * stride):
            mask = np.zeros(len(axis), bool)
            mask[start:start + count * stride:stride] = True
            found.append(mask)
    return np.array(found).reshape(-1, len(axis))
