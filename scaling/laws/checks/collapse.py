"""Collapse: training curves of well-tuned models of all sizes are one curve, and a mistuned size leaves it early.

Qiu et al. 2025 (arXiv:2507.02119) divide compute by that of the whole run, and the loss above E by its value at the end.
Curves of compute-optimal models of all sizes then lie on each other, within the noise of a seed. The reason is the law: at
a part x of its training a model of N parameters is where the law has L(N, x D), up to what the schedule adds, which is the
same for all. So `departure` takes the loss above E relative to the law's, log((L(x) - E) / (L(N, x D) - E)). This collapses
for any ratio of D to N, and needs no end of the run, so that it can be watched while a model trains (`gate`).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError

FROM = 0.03        # parts of the training before this one are left out: there curves depend on the initial values
BINS = 16          # parts of the training, of equal width in log, in which a curve is averaged
EARLY = 1 / 3      # until when the gate looks
FLAG = 3.0         # a curve this many times as far from the others as seeds are, is not explained by noise
USUAL = 2.0        # and this many times as far as any of the others is
FEWEST = 3         # reference curves that a gate needs


@dataclass(frozen=True, eq=False)
class Curve:
    """A training curve: `size` parameters, `data` at its end, and the loss [m] after `seen` [m], in the unit of the law."""
    name: str
    size: float
    data: float
    seen: np.ndarray
    loss: np.ndarray
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Collapse:
    """How well curves agree.

    parts [b]: of the training, the middle of each bin. departures {name: [b]}: see the module, NaN where a curve has no
    points. noise [b]: its standard deviation between seeds of one size, or, where `of_seeds` is False, between curves.
    deviation {name: number}: the root mean square distance of each curve from the mean of the other sizes, in units of
    the noise.
    """
    parts: np.ndarray
    departures: dict[str, np.ndarray]
    noise: np.ndarray
    of_seeds: bool
    deviation: dict[str, float]

    @property
    def typical(self) -> float:
        """The median deviation of a curve: about 1 where sizes differ no more than seeds do."""
        return float(np.nanmedian(list(self.deviation.values())))

    def to_json(self) -> dict:
        def plain(values):
            return [float(v) if np.isfinite(v) else None for v in values]
        return {"parts": plain(self.parts), "noise": plain(self.noise), "of_seeds": self.of_seeds,
                "deviation": {name: value if np.isfinite(value) else None for name, value in self.deviation.items()}}


@dataclass(frozen=True)
class Gate:
    """Whether a curve leaves the others early. deviation: of it, in units of noise; limit: from which it is flagged."""
    name: str
    flagged: bool
    deviation: float
    limit: float

    def __str__(self) -> str:
        if not self.flagged:
            return f"{self.name} follows the other sizes: {self.deviation:.1f} times the noise (limit {self.limit:.1f})"
        return (f"{self.name} leaves the curve of the other sizes by {self.deviation:.1f} times the noise (limit "
                f"{self.limit:.1f}) before {EARLY:.0%} of its training: its learning rate, or a timescale of its "
                "optimiser, is not the one that suits its size")


def edges() -> np.ndarray:
    return np.geomspace(FROM, 1.0, BINS + 1)


def departure(curve: Curve, law: Fit) -> np.ndarray:
    """[b] log((L(x) - E) / (L(N, x D) - E)), averaged in each bin of the part x; NaN where there are no points."""
    if set(law.form.inputs) != {"N", "D"}:
        raise LawError(f"curves are compared with a law in N and D, and {law.form.name} is in {', '.join(law.form.inputs)}")
    floor = law.params.get("E", 0.0)
    part = np.asarray(curve.seen, float) / curve.data
    loss = np.asarray(curve.loss, float)
    with np.errstate(all="ignore"):
        value = np.log((loss - floor) / (law.predict(N=curve.size, D=np.maximum(curve.seen, 1e-300)) - floor))
    use = np.isfinite(value) & (part >= FROM) & (part <= 1.0 + 1e-9)
    place = np.clip(np.digitize(part[use], edges()) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(all="ignore"):
        return np.bincount(place, value[use], BINS) / np.where(count, count, np.nan)


def collapse(curves: Sequence[Curve], law: Fit) -> Collapse:
    """Compares curves of several sizes. Noise is measured where a size and amount of data has several seeds."""
    found = {curve.name: departure(curve, law) for curve in curves}
    if len(found) < len(curves):
        raise LawError("curves need names of their own")
    noise, of_seeds = _noise(curves, found)
    deviation = {curve.name: _distance(found[curve.name], [found[other.name] for other in curves
                                                           if other.size != curve.size], noise) for curve in curves}
    middle = np.sqrt(edges()[1:] * edges()[:-1])
    return Collapse(middle, found, noise, of_seeds, deviation)


def gate(curve: Curve, references: Sequence[Curve], law: Fit) -> Gate:
    """Judges a curve, of which the first third is enough, by those of other sizes on as much data, or else of all.

    The law is fitted without the size that is judged, or its curve could bend the law towards itself. The curve is flagged
    where its distance from the mean of the references is above 3 times the noise of a seed, and above twice the distance
    of any reference from the others. Raises LawError for fewer than three references.
    """
    alike = [one for one in references if abs(one.data / curve.data - 1) < 0.02 and one.size != curve.size]
    others = alike if len(alike) >= FEWEST else [one for one in references if one.size != curve.size]
    if len(others) < FEWEST:
        raise LawError(f"{len(others)} curves of other sizes are too few to judge {curve.name} by; {FEWEST} are needed")
    early = edges()[1:] <= EARLY + 1e-9
    found = {one.name: np.where(early, departure(one, law), np.nan) for one in others}
    noise, _ = _noise(others, found)
    usual = [_distance(found[one.name], [found[other.name] for other in others if other.size != one.size], noise)
             for one in others]
    limit = max(FLAG, USUAL * float(np.nanmax(usual)))
    away = _distance(np.where(early, departure(curve, law), np.nan), list(found.values()), noise)
    if not np.isfinite(away):
        raise LawError(f"{curve.name} has no points between {FROM:.0%} and {EARLY:.0%} of its training yet")
    return Gate(curve.name, away > limit, away, limit)


def _distance(one: np.ndarray, others: Sequence[np.ndarray], noise: np.ndarray) -> float:
    """The root mean square over bins of (one - mean of others) in units of the noise of that difference."""
    if not others:
        return float("nan")
    table = np.stack(others)
    count = np.isfinite(table).sum(0)
    with np.errstate(all="ignore"):
        gap = one - np.where(count, np.nansum(table, 0) / count, np.nan)
        scaled = gap / (noise * np.sqrt(1 + 1 / count))
    scaled = scaled[np.isfinite(scaled)]
    return float(np.sqrt((scaled ** 2).mean())) if len(scaled) else float("nan")


def _noise(curves: Sequence[Curve], found: dict[str, np.ndarray]) -> tuple[np.ndarray, bool]:
    """(standard deviation [b], whether it is of seeds). It is one number for all bins, since a bin has few curves."""
    groups: dict[tuple[float, float], list[np.ndarray]] = {}
    for curve in curves:
        groups.setdefault((curve.size, round(float(np.log(curve.data)), 2)), []).append(found[curve.name])
    several = [np.stack(group) for group in groups.values() if len(group) > 1]
    of_seeds = bool(several)
    squares, degrees = 0.0, 0
    for table in several or [np.stack(list(found.values()))]:
        there = np.isfinite(table)
        with np.errstate(all="ignore"):
            off = table - np.where(there.any(0), np.nansum(table, 0) / np.maximum(there.sum(0), 1), np.nan)
        squares += float(np.nansum(off ** 2))
        degrees += int(there.sum() - there.any(0).sum())
    size = np.sqrt(squares / degrees) if degrees else np.nan
    return np.full(BINS, max(size, 1e-9) if np.isfinite(size) else np.nan), of_seeds
