"""The runs that may be bought: a lattice around the data, the cost of each, and those not bought yet."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import LEVELS_APART
from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import Form, LawError
from scaling.laws.optimum.counts import six_n_d
from scaling.laws.runs import Runs

LEVELS = 17   # of each input in the lattice, at most
BEYOND = 4.0  # the lattice reaches this many times below and above the data


def lattice(law: Fit) -> pd.DataFrame:
    """Points among and around the data, in steps of the square root of 2 or wider."""
    axes = []
    for name, logs in zip(law.form.inputs, law.logs):
        if name in law.form.constant and np.ptp(logs) == 0:
            axes.append(logs[:1])
            continue
        low, high = logs.min() - np.log(BEYOND), logs.max() + np.log(BEYOND)
        step = max(0.5 * np.log(2), (high - low) / (LEVELS - 1))
        axes.append(np.arange(low, high + 0.5 * step, step))
    points = np.exp(np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]))
    return pd.DataFrame(dict(zip(law.form.inputs, points)))


def priced(form: Form, candidates, runs: Runs, cost: Callable | None) -> pd.DataFrame:
    """The candidates with the law's inputs by its own names, and with the cost of each.

    Raises LawError where an input or the cost is missing, or is not positive and finite.
    """
    frame = pd.DataFrame(candidates).reset_index(drop=True)
    frame = frame.rename(columns={runs.columns[name]: name for name in form.inputs
                                  if name not in frame and runs.columns.get(name) in frame})
    inputs = ", ".join(form.inputs)
    if missing := [name for name in form.inputs if name not in frame]:
        raise LawError(f"the candidates need a column {missing[0]}, an input of {form.name}; they have "
                       f"{', '.join(map(str, frame.columns))}")
    if "cost" not in frame:
        if cost is None and not {"N", "D"} <= set(form.inputs):
            raise LawError(f"the cost of a run is unknown, since {form.name} is in {inputs}: give the candidates a "
                           "column cost, or pass a function cost= of these inputs")
        values = {name: frame[name].to_numpy(float) for name in form.inputs}
        frame["cost"] = six_n_d(values["N"], values["D"]) if cost is None else cost(**values)
    frame = frame[[*form.inputs, *(name for name in frame if name not in form.inputs)]]
    for name in (*form.inputs, "cost"):
        values = frame[name].to_numpy(float)
        if not np.all(np.isfinite(values) & (values > 0)):
            raise LawError(f"{name} of the candidates must be positive and finite")
    return frame


def unbought(table: pd.DataFrame, law: Fit, seeds: int, allowance: float) -> pd.DataFrame:
    """The affordable candidates with the number of the seed, each as often as it may still be bought."""
    points = np.log(table[list(law.form.inputs)].to_numpy(float))
    apart = np.abs(points[:, None] - law.logs.T[None]).max(2)
    frame = law.runs.frame
    held = frame["seeds"].to_numpy(float) if "seeds" in frame else np.ones(len(frame))
    before = ((apart < LEVELS_APART) * held).sum(1).astype(int)
    affordable = table["cost"] <= allowance * (1 + 1e-9)
    parts = [table.assign(seed=before + k)[(before + k < seeds) & affordable] for k in range(seeds)]
    return pd.concat(parts, ignore_index=True)
