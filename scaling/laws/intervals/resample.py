"""The parts of a bootstrap: clusters of runs, residuals as large as the errors, and random signs."""
from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import EFFICIENT, Fit, jacobian
from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import LawError

WEBB_BELOW = 12        # fewer clusters than this leave too few patterns of signs (2048 for 11), so six values are drawn
LARGEST = 0.98         # the largest leverage that residuals are corrected for: a factor of 50


def cluster_numbers(fit: Fit, cluster) -> tuple[np.ndarray, str]:
    """(number of each run's cluster [n], name of the clusters).

    cluster: a column of the runs, one label a run, or None, which makes every run a cluster. Raises LawError for an unknown
    column, missing labels, or a single cluster.
    """
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
        raise LawError(f"{int(labels.isna().sum())} runs have no label in {name}; give each a cluster, one of "
                       "its own if it shares nothing with others")
    numbers = pd.factorize(labels)[0]
    if numbers.max() == 0:
        raise LawError(f"{name} has a single cluster; name clusters of which there are several")
    return numbers, name


def untransformed(objective: Objective, values: np.ndarray) -> np.ndarray:
    """The losses of values in the objective's space: the inverse of `objective.transform`."""
    return values if objective.space == "linear" else np.exp(values) - objective.shift


def inner_jacobian(fit: Fit) -> np.ndarray:
    """`jacobian` with columns of unit length, [n, m], without parameters at a bound or without an effect."""
    columns = jacobian(fit)
    columns = columns[:, [fit.form.parameter(name).low < fit.params[name] < fit.form.parameter(name).high
                          for name in fit.form.free]]
    size = np.linalg.norm(columns, axis=0)
    return columns[:, size > 0] / size[size > 0]


def errors(fit: Fit, numbers: np.ndarray) -> np.ndarray:
    """The residuals [n], enlarged to the size of the errors that they estimate, for the wild bootstrap.

    numbers: the cluster of each run, as `cluster_numbers` gives them.

    Residuals are smaller than errors, since a fit bends towards its points. A fit with a small Huber delta even passes
    through as many points as it has parameters, where the residual is zero whatever the error was. So one step of
    robustly reweighted least squares is taken from the fit first: to first order it gives the least-squares residuals,
    which treat all points alike. Then the residuals of cluster g are multiplied by (I - H_gg)^-1, where H is the
    projection on the Jacobian, and all by sqrt((G - 1) / G). They become the residuals of a fit without cluster g (CR3;
    Bell and McCaffrey 2002; MacKinnon, Nørregaard Nielsen and Webb 2023, section 3).
    """
    residuals = fit.residuals
    pull = np.minimum(1.0, EFFICIENT * fit.noise / np.maximum(np.abs(residuals), 1e-300))
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


def absorbed(fit: Fit, numbers: np.ndarray, shared: float) -> float:
    """The standard deviation of errors over that of the residuals, where a cluster's runs share the part `shared` of the
    variance.

    Residuals are (I - H) e with the projection H on the Jacobian, so the expected sum of their squares is the variance
    times trace((I - H) V), with V the correlations of the errors, instead of the degrees of freedom.
    """
    rows = fit.weights > 0
    numbers = numbers[rows]
    left, values, _ = np.linalg.svd((np.sqrt(fit.weights)[:, None] * inner_jacobian(fit))[rows], full_matrices=False)
    basis = left[:, values > 1e-10 * values.max(initial=0.0)]
    related = np.where(numbers[:, None] == numbers[None], shared, 0.0) + (1 - shared) * np.eye(len(numbers))
    left_over = np.trace(related) - np.einsum("ik,ij,jk->", basis, related, basis)
    return float(np.sqrt((len(numbers) - basis.shape[1]) / left_over))


def signs(draws: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Independent factors [draws, count] of mean 0 and variance 1 for the residuals of a wild bootstrap.

    They are -1 and 1 (Rademacher; Davidson and Flachaire 2008). Few clusters have only 2^count patterns of these, so below
    12 clusters Webb's six values are drawn: plus and minus the roots of 1/2, 1 and 3/2 (Webb 2014, Queen's Economics
    Department 1315).
    """
    values = rng.choice([-1.0, 1.0], (draws, count))
    return values * rng.choice(np.sqrt([0.5, 1.0, 1.5]), (draws, count)) if count < WEBB_BELOW else values
