"""Bayesian c-optimal designs: the runs that shrink the variance of one number most, within a budget.

Around parameters theta, runs with sensitivities j_i (derivatives of the prediction in the objective's space,
over the noise) give the information matrix M = prior + sum_i weight_i j_i j_i'. A number t with derivatives c
has the variance c' M^-1 c (Chaloner and Verdinelli 1995, section 3; Pronzato and Pazman 2013, section 5.1).
Since theta is uncertain, the criterion is the mean of the logarithm of this variance over many draws of theta.
On a logarithmic scale every draw counts alike, however badly it determines t.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scaling.laws.forms.form import Form

STEP = 1e-4       # of central differences, in parameters' natural sizes
IGNORANCE = 10.0  # prior standard deviation of a parameter in its natural size: weak, but it keeps M regular
SWEEPS = 20       # sweeps of exchanges at most; designs settle in a few


def natural(form: Form, vectors: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """A change of each free parameter by its natural size: [batch, free, P].

    The natural size of an amplitude makes its term the whole loss in the middle of the data. That of another
    parameter is its value. Parameters tied to a free one change along with it.
    """
    count = len(form.amplitudes)
    middle = logs.mean(1, keepdims=True)
    size = np.maximum(np.abs(vectors), 1e-2)
    loss = np.abs(form.predict(vectors, middle)[:, 0])
    for j in range(count):
        alone = vectors.copy()
        alone[:, :count] = np.eye(count)[j]
        size[:, j] = loss / np.maximum(np.abs(form.predict(alone, middle)[:, 0]), 1e-300)
    for k, parameter in enumerate(form.nonlinear, count):
        if parameter.log:
            size[:, k] = np.abs(vectors[:, k])
    follows = [[name == free or form.tied.get(name) == free for name in form.names] for free in form.free]
    return size[:, None, :] * np.array(follows, float)


def slopes(values: Callable, vectors: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """d values / d changes by central differences, [batch, ..., free]. values maps [batch, P] to [batch, ...]."""
    batch, free, size = changes.shape
    ends = [values((vectors[:, None] + sign * STEP * changes).reshape(-1, size)) for sign in (1.0, -1.0)]
    return np.moveaxis(((ends[0] - ends[1]) / (2 * STEP)).reshape(batch, free, *np.shape(ends[0])[1:]), 1, -1)


class Information:
    """The information that runs and candidates give about a target, and the search for the best candidates.

    bought [draws, n, F] are the sensitivities at the runs there are, with weights [n]; candidates [draws, K, F]
    those at the K candidates (both over the noise); target [draws, F] the derivatives of the target.
    together(masks [sets, K] bool) -> cost [sets] of buying the candidates of each set.
    """

    def __init__(self, bought, weights, candidates, target, together: Callable):
        free = target.shape[1]
        self.start = np.einsum("bnp,n,bnq->bpq", bought, weights, bought, optimize=True)
        self.start += np.eye(free) / IGNORANCE ** 2
        self.candidates, self.target, self.together = candidates, target, together
        self.before = self.log_variance(self.start)

    def log_variance(self, matrix: np.ndarray) -> np.ndarray:
        """Logarithm of the target's variance under information matrices [..., draws, F, F]: [..., draws]."""
        target = np.broadcast_to(self.target[..., None], (*matrix.shape[:-1], 1))
        return np.log(np.maximum((np.linalg.solve(matrix, target) * target).sum((-2, -1)), 1e-300))

    def of(self, taken) -> np.ndarray:
        """The information matrix with the candidates `taken`: indices."""
        chosen = self.candidates[:, list(taken)]
        return self.start + np.einsum("bkp,bkq->bpq", chosen, chosen)

    def change(self, taken) -> float:
        """Mean change of the log variance by the candidates `taken`, at most 0."""
        return float((self.log_variance(self.of(taken)) - self.before).mean())

    def log_variances(self, masks: np.ndarray) -> np.ndarray:
        """Log variance [sets, draws] with each of many sets of candidates, masks [sets, K]."""
        draws, size, free = self.candidates.shape
        each = np.einsum("bkp,bkq->kbpq", self.candidates, self.candidates).reshape(size, -1)
        parts = [(some.astype(float) @ each).reshape(-1, draws, free, free)
                 for some in np.array_split(masks, len(masks) // 256 + 1)]
        return np.concatenate([self.log_variance(self.start + part) for part in parts])

    def gains(self, matrix: np.ndarray) -> np.ndarray:
        """Mean change [K] of the log variance by each candidate alone, on top of `matrix`, at most 0. By the
        rank-one update of Sherman and Morrison."""
        inverse = np.linalg.inv(matrix)
        lever = np.einsum("bpq,bq->bp", inverse, self.target)
        variance = np.maximum((lever * self.target).sum(1), 1e-300)
        drop = np.einsum("bkp,bp->bk", self.candidates, lever) ** 2
        drop /= 1.0 + np.einsum("bkp,bkp->bk", self.candidates @ inverse, self.candidates)
        return np.log1p(-np.minimum(drop / variance[:, None], 1 - 1e-12)).mean(0)

    def search(self, budget: float, most: int | None = None) -> list[int]:
        """Indices of the chosen candidates in the order of purchase.

        Three greedy searches go by gain per FLOP, by gain per root of FLOPs, and by gain alone, since cheap runs
        first are not always best under a budget. Exchanges then improve the best of the three until none helps.
        """
        most = most or self.candidates.shape[1]
        found = [self._fill([], budget, most, power) for power in (1.0, 0.5, 0.0)]
        return self._exchange(min(found, key=self.change), budget, most)

    def _costs(self, taken: list[int]) -> np.ndarray:
        """Cost [K] of `taken` with each candidate added; inf for candidates in it."""
        size = self.candidates.shape[1]
        masks = np.eye(size, dtype=bool)
        masks[:, taken] = True
        costs = np.asarray(self.together(masks), float)
        costs[taken] = np.inf
        return costs

    def _fill(self, taken: list[int], budget: float, most: int, power: float) -> list[int]:
        taken, matrix, spent = list(taken), self.of(taken), self.cost(taken)
        while len(taken) < most:
            costs = self._costs(taken)
            allowed = costs <= budget * (1 + 1e-9)
            if not allowed.any():
                break
            more = np.maximum(costs - spent, 1e-12 * budget)
            rate = np.where(allowed, self.gains(matrix) / more ** power, np.inf)
            best = int(rate.argmin())
            taken.append(best)
            spent = costs[best]
            matrix = matrix + self.candidates[:, best, :, None] * self.candidates[:, best, None, :]
        return taken

    def cost(self, taken) -> float:
        """FLOPs of buying the candidates `taken` together."""
        mask = np.zeros((1, self.candidates.shape[1]), bool)
        mask[0, taken] = True
        return float(np.asarray(self.together(mask))[0])

    def _exchange(self, taken: list[int], budget: float, most: int) -> list[int]:
        """Swap one run for a better one that the budget allows, and spend the FLOPs that this frees, until
        nothing improves (Fedorov 1972)."""
        for _ in range(SWEEPS):
            improved = False
            for i in range(len(taken)):
                rest = taken[:i] + taken[i + 1:]
                allowed = self._costs(rest) <= budget * (1 + 1e-9)
                gains = self.gains(self.of(rest))
                best = int(np.where(allowed, gains, np.inf).argmin())
                if gains[best] < gains[taken[i]] - 1e-6:
                    taken[i], improved = best, True
            filled = self._fill(taken, budget, most, 0.0)
            if not improved and len(filled) == len(taken):
                break
            taken = filled
        return taken
