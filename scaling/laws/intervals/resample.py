"""What a bootstrap redraws: runs that belong together, residuals as large as the errors, and their signs."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import LawError

if TYPE_CHECKING:
    from scaling.laws.fitting.fit import Fit

WEBB_BELOW = 12        # clusters: fewer leave too few patterns of signs (2048 of 12), so six values are drawn
ROBUST = 1.345         # noise standard deviations beyond which a residual's own pull is bounded
LARGEST = 0.98         # leverage that residuals are still corrected for: a factor of 50


def groups(fit: Fit, cluster) -> tuple[np.ndarray, str]:
    """(number of each run's cluster [n], a name): of a column of the runs, of one label a run, or of None, a
    cluster each."""
    n = len(fit.y)
    if cluster is None:
        return np.arange(n), ""
    frame = fit.runs.frame
    if isinstance(cluster, str):
        if cluster not in frame.columns:
            there = ", ".join(map(str, frame.columns))
            raise LawError(f"no column {cluster!r} to cluster by; the columns are {there}")
        labels, name = frame[cluster], cluster
    else:
        labels, name = pd.Series(np.ravel(np.asarray(cluster))), "the given labels"
        if len(labels) != n:
            raise LawError(f"cluster has {len(labels)} labels for {n} runs; give one a run, or a column")
    if labels.isna().any():
        raise LawError(f"{int(labels.isna().sum())} runs have no label in {name}; give each a cluster, its "
                       "own if it shares nothing with others")
    numbers = pd.factorize(labels)[0]
    if numbers.max() == 0:
        raise LawError(f"{name} holds a single cluster; several are needed to see how they differ")
    return numbers, name


def restored(objective: Objective, values: np.ndarray) -> np.ndarray:
    """Losses from values in the objective's space: the inverse of objective.transform."""
    return values if objective.space == "linear" else np.exp(values) - objective.shift


def inner_jacobian(fit: Fit) -> np.ndarray:
    """`fitting.jacobian` with columns of unit length, [n, m], of the parameters that the data move: none at a
    bound, none without an effect."""
    from scaling.laws.fitting.fit import jacobian
    columns = jacobian(fit)
    columns = columns[:, [fit.form.parameter(name).low < fit.params[name] < fit.form.parameter(name).high
                          for name in fit.form.free]]
    size = np.linalg.norm(columns, axis=0)
    return columns[:, size > 0] / size[size > 0]


def errors(fit: Fit, numbers: np.ndarray) -> np.ndarray:
    """Residuals [n] made as large as the errors that they estimate, for the wild bootstrap; numbers as from
    `groups`.

    A fit's residuals are smaller than the errors, since it bends towards its points, and a fit with a small
    Huber delta passes through as many points as it has parameters: there the residual is zero whatever the
    error was. So first one step of (robustly reweighted) least squares is taken from the fit, which in its
    linearisation gives the least-squares residuals, where no point is special; then those of cluster g are
    multiplied by (I - H_gg)^-1, H the projection on the Jacobian, and all by sqrt((G - 1) / G): exactly what
    leaving cluster g out would make of them (CR3, the jackknife's; Bell and McCaffrey 2002; MacKinnon,
    Nørregaard Nielsen and Webb 2023, section 3).
    """
    residuals = fit.residuals
    pull = np.minimum(1.0, ROBUST * fit.noise / np.maximum(np.abs(residuals), 1e-300))
    root = np.sqrt(fit.weights * pull)
    left, values, _ = np.linalg.svd(root[:, None] * inner_jacobian(fit), full_matrices=False)
    basis = left[:, values > 1e-10 * values.max(initial=0.0)]
    scaled = root * residuals
    scaled = scaled - basis @ (basis.T @ scaled)
    count = int(numbers.max()) + 1
    for g in range(count):
        rows = numbers == g
        share, axes = np.linalg.eigh(basis[rows] @ basis[rows].T)
        scaled[rows] = axes @ (axes.T @ scaled[rows] / (1.0 - np.minimum(share, LARGEST)))
    return np.sqrt((count - 1) / count) * np.divide(scaled, root, out=residuals.copy(), where=root > 0)


def signs(draws: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Independent numbers of mean 0 and variance 1, [draws, count], that wild residuals are multiplied by.

    Rademacher's -1 and 1 (Davidson and Flachaire 2008), which few clusters make only 2^count patterns of;
    below 12 Webb's six values, plus and minus the roots of 1/2, 1 and 3/2 (Webb 2014, Queen's Economics
    Department 1315).
    """
    values = rng.choice([-1.0, 1.0], (draws, count))
    return values * rng.choice(np.sqrt([0.5, 1.0, 1.5]), (draws, count)) if count < WEBB_BELOW else values
