"""The exponent a of N* ~ C^a, found in two ways whose intervals stand side by side.

    print(size_exponents(law, boot))

by the law: the slope of log N* over log C that the fitted law has from the largest budget of the runs to ten times it.
by the two arms: alpha from the runs on the most data, L = F + A N^-alpha, and beta from the runs of the largest size,
    L = F + B D^-beta, each with a constant of its own; then a = beta / (alpha + beta) for C = 6 N D. Along an arm one input
    stays as it is, so it does not matter how a law combines its two terms. Where the ways differ by more than their
    intervals, the form of the law decides the answer, and not the runs.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import level_of
from scaling.laws.fitting.fit import Fit, refit
from scaling.laws.fitting.search import fit as fit_law
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import Bootstrap, percentiles, residual_spread
from scaling.laws.optimum.allocation import optima
from scaling.laws.runs import Runs

FEWEST = 4    # runs on an arm: a constant and a power have three parameters
REACH = 10.0  # times the largest budget, to which the slope of the law is taken
NAN = (math.nan, math.nan)


@dataclass(frozen=True)
class Exponents:
    """Two estimates of a, with their intervals at `level`; NaN, and a sentence in `left_out`, where there is none.

    arms {"alpha" and "beta": (value, low, high)} are the exponents of the two arms.
    """
    by_law: float
    law_interval: tuple[float, float]
    by_arms: float
    arms_interval: tuple[float, float]
    arms: dict[str, tuple[float, float, float]]
    level: float
    left_out: list[str]

    @property
    def agree(self) -> bool:
        """Whether the two intervals overlap; True where one is not known."""
        return not (self.law_interval[0] > self.arms_interval[1] or self.arms_interval[0] > self.law_interval[1])

    def to_json(self) -> dict:
        def plain(value):
            return None if math.isnan(value) else value
        return {"level": self.level, "by_law": plain(self.by_law), "law_interval": list(map(plain, self.law_interval)),
                "by_arms": plain(self.by_arms), "arms_interval": list(map(plain, self.arms_interval)),
                "arms": {name: list(map(plain, values)) for name, values in self.arms.items()},
                "agree": self.agree, "left_out": self.left_out}

    def __str__(self) -> str:
        lines = [f"a of N* ~ C^a: {words} {value:.2f}, {self.level:.0%} [{low:.2f}, {high:.2f}]"
                 for words, value, (low, high) in (("by the law", self.by_law, self.law_interval),
                                                   ("by the two arms", self.by_arms, self.arms_interval))
                 if not math.isnan(value)]
        if not self.agree:
            lines.append("  ! The two ways disagree: the form of the law decides the best size.")
        return "\n".join([*lines, *self.left_out])


def size_exponents(law: Fit, boot: Bootstrap | None = None, level: float = 0.9, draws: int = 400,
                   seed: int = 0) -> Exponents:
    """Both estimates of a for a law in N and D. boot: of the law, for its interval.

    The arms are drawn again `draws` times with the noise that the law leaves (`residual_spread`), since an arm of four runs
    cannot tell its own. Raises LawError for a law in other inputs.
    """
    if not {"N", "D"} <= set(law.form.inputs):
        raise LawError(f"the exponent of a frontier needs a law in N and D; {law.form.name} is in "
                       f"{', '.join(law.form.inputs)}")
    left_out: list[str] = []
    own, interval = math.nan, NAN
    try:
        own, interval = _by_law(law, boot, level)
    except LawError as error:
        left_out.append(f"no exponent by the law: {error}")
    rng, found, drawn = np.random.default_rng([seed, 4]), {}, {}
    for name, along, across in (("alpha", "N", "D"), ("beta", "D", "N")):
        try:
            found[name], drawn[name] = _arm(law, along, across, draws, rng)
        except LawError as error:
            left_out.append(f"no exponent by the two arms: {error}")
    arms = {name: (found[name], *percentiles(drawn[name], level)) for name in found}
    if len(found) < 2:
        return Exponents(own, interval, math.nan, NAN, arms, level, left_out)
    value, share = (each["beta"] / (each["alpha"] + each["beta"]) for each in (found, drawn))
    return Exponents(own, interval, value, percentiles(share, level), arms, level, left_out)


def _by_law(law: Fit, boot: Bootstrap | None, level: float) -> tuple[float, tuple[float, float]]:
    budgets = float(law.runs.flops.max()) * np.array([1.0, REACH])
    given = {name: float(np.exp(values.max())) for name, values in zip(law.form.inputs, law.logs) if name not in ("N", "D")}
    vectors = law.vector[None] if boot is None else np.vstack([law.vector, boot.draws[list(law.form.names)].to_numpy()])
    best = optima(law, budgets, vectors, **given)
    slope = np.where(best.inside.all(1), np.diff(best.log_params)[:, 0] / math.log(REACH), np.nan)
    if np.isnan(slope[0]):
        raise LawError("its fit shows no trade-off of N against D")
    drawn = slope[1:][~np.isnan(slope[1:])]
    return float(slope[0]), percentiles(drawn, level) if len(drawn) > 1 else NAN


def _arm(law: Fit, along: str, across: str, draws: int, rng) -> tuple[float, np.ndarray]:
    """(exponent along one input at the largest level of the other, its draws)."""
    inputs = dict(zip(law.form.inputs, law.logs))
    level = level_of(inputs[across])
    rows = level == level.max()
    if len(np.unique(level_of(inputs[along])[rows])) < FEWEST:
        raise LawError(f"fewer than {FEWEST} levels of {along} at the largest {across}")
    x, y = np.exp(inputs[along][rows]), law.y[rows]
    frame = pd.DataFrame({"x": x, "y": y, "weight": law.weights[rows]})
    arm = fit_law(Runs.from_dataframe(frame, y="y", x="x"), "saturating_power", loss=f"mse_{law.spec.space}".removesuffix(
        "_linear"), weights="weight")
    noise = residual_spread(law) * np.sqrt(law.weights.mean() / arm.weights)
    moved = arm.spec.transform(arm.predicted) + noise * rng.standard_normal((draws, len(y)))
    again = refit(arm, moved if law.spec.space == "linear" else np.exp(moved) - arm.spec.shift, arm.weights)
    return arm.params["alpha"], again.vectors[:, list(arm.form.names).index("alpha")]
