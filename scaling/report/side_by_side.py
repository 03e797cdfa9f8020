"""Studies on the same data in the same figures: against size, data, compute, and position in the context, by the metric
that all were made for, and against compute by every other metric that several have.

Sizes and amounts of data of several families are never quite equal. The line against N holds the amount of data that has the
most sizes in all studies, and the line against D the size that has the most amounts; the nearest level of each study is
taken, and the caption says how far apart these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish
from scaling.figures.words import compact_power, count, number
from scaling.report import plots
from scaling.report.plots import PlannedFigure
from scaling.report.reading import StudyFiles
from scaling.results.tuned import PARAMS

Named = Mapping[str, StudyFiles]  # {name of a study on the page: its files}


def shared_figures(studies: Named, palette: Palette) -> dict[str, PlannedFigure]:
    """{name: figure} of studies that can be in one figure; {} where their data differ, or one has no runs."""
    if not comparable(studies):
        return {}
    metric = shared_metric(studies)
    figures = {} if metric is None else _of_one_metric(studies, palette, metric)
    for other in other_metrics(studies):
        found = showing(studies, other)
        label = next(iter(found.values())).measure.label
        figures[f"side-compute-{other}"] = PlannedFigure(
            partial(draw_frontiers, studies, palette, other), f"{label} against training compute, of each family",
            "Tuned runs that no cheaper run of the family beats by this metric, by the FLOPs of the model."
            + slopes_said(found, line_frontier, "flops"))
    return figures


def _of_one_metric(studies: Named, palette: Palette, metric: str) -> dict[str, PlannedFigure]:
    first = next(iter(studies.values()))
    label, unit = first.measure.label, first.unit.name
    counted = [name for name, study in studies.items() if study.solved]
    return {
        "side-params": PlannedFigure(
            partial(draw_beside, studies, palette, PARAMS), f"{label} against parameters, of each family",
            f"Tuned runs on {_range_said(held_at(studies, 'data'))} {unit}."
            + (f" The parameters of {', '.join(counted)} are counts that are stored." if counted else "")
            + slopes_said(studies, line_beside, PARAMS)),
        "side-data": PlannedFigure(
            partial(draw_beside, studies, palette, "data"), f"{label} against training {unit}, of each family",
            f"Tuned runs of {_range_said(held_at(studies, PARAMS))} non-embedding parameters."
            + slopes_said(studies, line_beside, "data")),
        "side-compute": PlannedFigure(
            partial(draw_frontiers, studies, palette, metric), f"{label} against training compute, of each family",
            "Tuned runs that no cheaper run of the family beats, by the FLOPs of the model."
            + (f" A dotted line is the best of {', '.join(counted)}, which is counted, not trained." if counted else "")
            + slopes_said({name: study for name, study in studies.items() if not study.solved}, line_frontier, "flops")),
        "side-positions": PlannedFigure(
            partial(draw_positions, studies, palette), f"{label} by position in the context, of each family",
            "The largest model of each family, on windows of held-out text. "
            + " ".join(gain_said(name, study) for name, study in studies.items() if largest_positions(study)))}


def comparable(studies: Named) -> bool:
    """Whether several studies have tuned runs on data of one name."""
    data = set()
    for study in studies.values():
        if study.cells.empty or study.cells[study.metric].isna().all():
            return False
        data |= set(study.runs["data.name"].dropna()) if "data.name" in study.runs else {None}
    return len(studies) > 1 and len(data) == 1 and None not in data


def shared_metric(studies: Named) -> str | None:
    """The metric that all studies were made for; None where they differ."""
    metrics = {study.metric for study in studies.values()}
    return metrics.pop() if len(metrics) == 1 else None


def other_metrics(studies: Named) -> list[str]:
    """The metrics beside `shared_metric` that several of the studies have, in the order of the studies."""
    held = [name for study in studies.values() for name in (study.metric, *study.beside)]
    return [name for name in dict.fromkeys(held) if held.count(name) > 1 and name != shared_metric(studies)]


def showing(studies: Named, metric: str) -> Named:
    """The studies that have the metric, as it shows their tuned runs."""
    return {name: study if study.metric == metric else study.showing(metric) for name, study in studies.items()
            if metric in (study.metric, *study.beside)}


def held_at(studies: Named, column: str) -> dict[str, float]:
    """For each study, its level of `column` that is nearest to the one at which the study with the fewest cells has the
    most of them. Of several such levels it is the largest that all studies reach."""
    counts = {name: study.cells.dropna(subset=[study.metric]).groupby(column).size() for name, study in studies.items()}
    most = min(levels.index.max() for levels in counts.values())
    wanted = sorted({level for levels in counts.values() for level in levels.index if level <= most})
    nearest = [{name: float(levels.index[np.abs(np.log(levels.index / level)).argmin()]) for name, levels in counts.items()}
               for level in wanted]
    return max(reversed(nearest), key=lambda found: min(counts[name][level] for name, level in found.items()))


def draw_beside(studies: Named, palette: Palette, along: str) -> Figure:
    """The tuned metric of each study against PARAMS or "data", at about the same level of the other one."""
    first = next(iter(studies.values()))
    x = "non-embedding parameters" if along == PARAMS else f"training {first.unit.name}"
    figure, axes = canvas(x, first.measure.label)
    ends = []
    for place, (name, study) in enumerate(studies.items()):
        line, colour = line_beside(studies, name, along), palette.size(place)
        plots.draw_dots(axes, study, palette, line, along, colour)
        ends.append((line[study.metric].iloc[-1], name, colour))
    finish(axes, ends)
    return figure


def line_beside(studies: Named, name: str, along: str) -> pd.DataFrame:
    """The tuned runs of one study that its line against `along` joins."""
    study, other = studies[name], "data" if along == PARAMS else PARAMS
    cells = study.cells[study.cells[other] == held_at(studies, other)[name]]
    return cells.dropna(subset=[study.metric]).sort_values(along)


def line_frontier(studies: Named, name: str, along: str) -> pd.DataFrame:
    """The tuned runs of one study that its line against FLOPs joins."""
    del along
    return frontier_of(studies[name])


def slopes_said(studies: Named, line: Callable[[Named, str, str], pd.DataFrame], along: str) -> str:
    """A sentence with the slope of each study's line in logarithms and its 90% interval; "" without three points."""
    said = []
    for name, study in studies.items():
        points = line(studies, name, along)
        if (found := slope_of(points[along], points[study.metric])) is not None:
            value, low, high = (f"{each:.3f}".replace("-", "−") for each in found)
            said.append(f"{value} [{low}, {high}] ({name})")
    return f" Slopes in logarithms, with 90% intervals: {', '.join(said)}." if said else ""


def slope_of(x, y) -> tuple[float, float, float] | None:
    """(slope, low, high) of log y against log x, with Student's interval from the distances to the line; None for fewer
    than three points, or where y is not positive."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or not (y > 0).all():
        return None
    found = stats.linregress(np.log(x), np.log(y))
    half = stats.t.ppf(0.95, len(x) - 2) * found.stderr
    return float(found.slope), float(found.slope - half), float(found.slope + half)


def draw_frontiers(studies: Named, palette: Palette, metric: str) -> Figure | None:
    """The tuned runs of each study that no cheaper one beats, against FLOPs; the best of one that is solved is a line.

    A study has the same colour in the figures of all metrics.
    """
    shown = showing(studies, metric)
    if all(study.solved for study in shown.values()):
        return None
    figure, axes = canvas("training compute (FLOPs of the model)", next(iter(shown.values())).measure.label)
    ends = []
    for name, study in shown.items():
        colour, line = palette.size(list(studies).index(name)), frontier_of(study)
        if study.solved:
            axes.axhline(line[metric].iloc[-1], color=colour, **plots.DOTTED)
        else:
            plots.draw_dots(axes, study, palette, line, "flops", colour)
        ends.append((line[metric].iloc[-1], name, colour))
    finish(axes, ends, ticks=compact_power)
    return figure


def frontier_of(study: StudyFiles) -> pd.DataFrame:
    """The tuned runs that none of at most their FLOPs beats, by FLOPs."""
    cells = study.cells.dropna(subset=[study.metric]).sort_values("flops")
    value = -cells[study.metric] if study.measure.rises else cells[study.metric]
    return cells[value <= value.cummin()]


def largest_positions(study: StudyFiles) -> list[dict]:
    """What the largest model of positions.json has at each position; [] without one."""
    found = max(study.positions or [], key=lambda entry: entry[PARAMS], default={"bits": []})
    return found["bits"]


def draw_positions(studies: Named, palette: Palette) -> Figure | None:
    """The bits per byte of the largest model of each study against the number of tokens that it has read."""
    figure, axes = canvas("position in the context (tokens)", "bits per byte")
    ends = []
    for place, (name, study) in enumerate(studies.items()):
        if found := largest_positions(study):
            middle, bits = [(part["first"] * part["last"])**0.5 for part in found], [part["bits"] for part in found]
            axes.plot(middle, bits, "o-", color=palette.size(place), markeredgecolor=palette.paper, **plots.MARKER)
            ends.append((bits[-1], name, palette.size(place)))
    if not ends:
        return None
    finish(axes, ends)
    return figure


def gain_said(name: str, study: StudyFiles) -> str:
    """What the largest model gains from the last half of its context."""
    found = largest_positions(study)
    before, last = found[-2:] if len(found) > 1 else found * 2
    size = max(entry[PARAMS] for entry in study.positions or [])
    return (f"{name} ({count(size)}): {number(before['bits'])} at positions {before['first']} to {before['last']}, "
            f"{number(last['bits'])} at {last['first']} to {last['last']}.")


def _range_said(levels: Mapping[str, float]) -> str:
    low, high = min(levels.values()), max(levels.values())
    return count(low) if count(low) == count(high) else f"{count(low)} to {count(high)}"
