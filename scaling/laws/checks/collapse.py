"""Collapse: training curves of well-tuned models of all sizes are one curve, and a mistuned size leaves it early.

Qiu et al. 2025 (arXiv:2507.02119) divide compute by that of the whole run, and the loss above E by its value at the end.
Curves of compute-optimal models of all sizes then lie on each other, within the noise of a seed. The reason is the law: at
a part x of its training a model of N parameters is where the law has L(N, x D), up to what the schedule adds, which is the
same for all. So `departure` takes the loss above E relative to the law's, log((L(x) - E) / (L(N, x D) - E)). This collapses
for any ratio of D to N, and needs no end of the run, so that it can be watched while a model trains (`gate`).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError

FROM = 0.03        # parts of the training before this one are left out: there curves depend on the initial values
BINS = 16          # parts of the training, of equal width in log, in which a curve is averaged
EARLY = 1 / 3      # until when the gate looks
FLAG = 4.0         # standard deviations: a few curves estimate them, so that 3 are no surprise
FEWEST = 3         # other sizes that a gate needs: a line in log size, and what it misses


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
    points. gaps {name: [2]}: the distance of a curve's level and slope from where the other sizes say that they should be,
    on as much data where two sizes have it; 0.01 is one percent of the loss above E. noise [2]: the standard deviations of
    level and slope between seeds of one size, None where no size has several.
    """
    parts: np.ndarray
    departures: dict[str, np.ndarray]
    gaps: dict[str, np.ndarray]
    noise: np.ndarray | None

    @property
    def apart(self) -> float:
        """The typical distance of a curve's level from those of the other sizes, as a part of the loss above E."""
        known = [abs(gap[0]) for gap in self.gaps.values() if np.isfinite(gap[0])]
        return float(np.median(known)) if known else float("nan")

    @property
    def deviation(self) -> dict[str, float]:
        """The distance of each curve in units of the noise of a seed, the larger one of level and slope; NaN without."""
        noise = np.full(2, np.nan) if self.noise is None else self.noise
        return {name: float(np.max(np.abs(gap) / noise)) for name, gap in self.gaps.items()}

    @property
    def typical(self) -> float:
        """The median deviation of a curve: about 1 where sizes differ no more than seeds do."""
        known = [value for value in self.deviation.values() if np.isfinite(value)]
        return float(np.median(known)) if known else float("nan")

    def to_json(self) -> dict:
        return {"apart": self.apart, "noise": None if self.noise is None else self.noise.tolist(),
                "deviation": {name: value if np.isfinite(value) else None for name, value in self.deviation.items()}}


@dataclass(frozen=True)
class Gate:
    """Whether a curve leaves the others early: by `deviation` standard deviations of that distance, against FLAG."""
    name: str
    deviation: float

    @property
    def flagged(self) -> bool:
        return self.deviation > FLAG

    def __str__(self) -> str:
        if not self.flagged:
            return f"{self.name} follows the other sizes: it is {self.deviation:.1f} standard deviations away"
        return (f"{self.name} leaves the curve of the other sizes by {self.deviation:.1f} standard deviations before "
                f"{EARLY:.0%} of its training: its learning rate, or a timescale of its optimiser, does not suit its size")


def bin_edges() -> np.ndarray:
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
    place = np.clip(np.digitize(part[use], bin_edges()) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(all="ignore"):
        return np.bincount(place, value[use], BINS) / np.where(count, count, np.nan)


def collapse(curves: Sequence[Curve], law: Fit) -> Collapse:
    """Compares curves of three sizes and more. Noise is measured where a size and amount of data has several seeds."""
    found = {curve.name: departure(curve, law) for curve in curves}
    if len(found) < len(curves):
        raise LawError("curves need names of their own")
    shapes = {name: _shape(each, 1.0) for name, each in found.items()}
    gaps = {}
    for curve in curves:
        others = _by_size(_alike(curve, curves, 2), shapes)
        gaps[curve.name], _, _ = _gap(shapes[curve.name], curve.size, others)
    return Collapse(np.sqrt(bin_edges()[1:] * bin_edges()[:-1]), found, gaps, _seed_noise(curves, shapes))


def gate(curve: Curve, references: Sequence[Curve], law: Fit) -> Gate:
    """Judges a curve, of which the first third is enough, by those of other sizes on as much data, or else of all.

    The law is fitted without the size that is judged, or its curve could bend the law towards itself. The level and the
    slope of the departure are compared with a line in log size through those of the references: a law is never exact, and
    what it misses changes slowly with size. The standard deviation of the distance has the noise of seeds, where references
    have several, what the line misses, and the scatter of runs about the law. Raises LawError for fewer than three sizes.
    """
    others = _alike(curve, references, FEWEST)
    if len(sizes := {one.size for one in others}) < FEWEST:
        raise LawError(f"{len(sizes)} other sizes are too few to judge {curve.name} by; {FEWEST} are needed")
    shapes = {one.name: _shape(departure(one, law), EARLY) for one in others}
    own = _shape(departure(curve, law), EARLY)
    if not np.isfinite(own).all():
        raise LawError(f"{curve.name} has too few points between {FROM:.0%} and {EARLY:.0%} of its training yet")
    gap, weights, misfit = _gap(own, curve.size, table := _by_size(others, shapes))
    noise = _seed_noise(others, shapes)
    end, floor = law.predict(N=curve.size, D=curve.data), law.params.get("E", 0.0)
    scatter = law.noise * (end if law.spec.space == "log" else 1.0) / (end - floor)
    spread = misfit ** 2 * (1 + (weights ** 2).sum()) + scatter ** 2
    if noise is not None:
        counts = np.array([len(group) for group in table.values()])
        spread = spread + noise ** 2 * (1 + (weights ** 2 / counts).sum())
    return Gate(curve.name, float(np.max(np.abs(gap) / np.sqrt(spread))))


def _alike(curve: Curve, others: Sequence[Curve], fewest: int) -> list[Curve]:
    """The curves of other sizes on as much data, or on any where fewer than `fewest` sizes have it."""
    of_others = [one for one in others if one.size != curve.size]
    alike = [one for one in of_others if abs(one.data / curve.data - 1) < 0.02]
    return alike if len({one.size for one in alike}) >= fewest else of_others


def _shape(values: np.ndarray, until: float) -> np.ndarray:
    """[2] level and slope (for a unit of log part) of a departure in the bins up to a part of the training; NaN for fewer
    than three bins with points."""
    ends = bin_edges()
    use = np.isfinite(values) & (ends[1:] <= until + 1e-9)
    if use.sum() < 3:
        return np.full(2, np.nan)
    middle = 0.5 * np.log(ends[1:] * ends[:-1])
    line = np.stack([np.ones(use.sum()), (middle - 0.5 * np.log(FROM * until))[use]], axis=1)
    return np.linalg.lstsq(line, values[use], rcond=None)[0]


def _by_size(curves: Sequence[Curve], shapes: Mapping[str, np.ndarray]) -> dict[float, np.ndarray]:
    """{size: [curves, 2] shapes} of those curves that have one."""
    table: dict[float, list[np.ndarray]] = {}
    for curve in curves:
        if np.isfinite(shapes[curve.name]).all():
            table.setdefault(curve.size, []).append(shapes[curve.name])
    return {size: np.stack(group) for size, group in sorted(table.items())}


def _line(table: Mapping[float, np.ndarray], size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(shape [2] at a size on the line through the means of the sizes, their weights in it, what the line misses [2])."""
    means = np.stack([group.mean(0) for group in table.values()])
    line = np.stack([np.ones(len(table)), np.log(list(table))], axis=1)
    inverse = np.linalg.pinv(line)
    weights = np.array([1.0, np.log(size)]) @ inverse
    missed = ((means - line @ (inverse @ means)) ** 2).sum(0) / max(len(table) - 2, 1)
    return weights @ means, weights, np.sqrt(missed)


def _gap(own: np.ndarray, size: float, table: Mapping[float, np.ndarray]):
    if len(table) < 2:
        return np.full(2, np.nan), np.zeros(len(table)), np.full(2, np.nan)
    expected, weights, misfit = _line(table, size)
    return own - expected, weights, misfit


def _seed_noise(curves: Sequence[Curve], shapes: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """[2] standard deviations of level and slope between seeds; None where no size and amount of data has several."""
    groups: dict[tuple[float, float], list[np.ndarray]] = {}
    for curve in curves:
        if np.isfinite(shapes[curve.name]).all():
            groups.setdefault((curve.size, round(float(np.log(curve.data)), 2)), []).append(shapes[curve.name])
    several = [np.stack(group) for group in groups.values() if len(group) > 1]
    if not several:
        return None
    squares = sum(((group - group.mean(0)) ** 2).sum(0) for group in several)
    return np.sqrt(squares / sum(len(group) - 1 for group in several))
