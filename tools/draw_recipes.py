"""Learning-rate curves of workdirs: the best rate at each width, depth, length or batch, as a table, a figure and JSON.

    python -m tools.draw_recipes --workdirs=runs/width,runs/width-muon --names=AdamW,Muon --along=width \
        --output=docs/figures/recipe-width.png

The best rate of a curve is the vertex of the parabola in log rate through its lowest point and the two beside it. Its slope
is that of log best rate against log width (depth, steps, batch). `--json=` adds the curves to a file under their names, and
`--from=` draws such a file.
"""

import json
import os
import pathlib

import numpy as np
from absl import app, flags
from matplotlib.figure import Figure

from scaling.figures import plot, words
from scaling.figures.plot import dress, finish, panels, ramp
from scaling.results import planned, rates, tuned

COLUMNS = {"width": "family.width", "layers": "family.layers", "steps": "steps", "batch": "data.batch"}

_WORKDIRS = flags.DEFINE_list("workdirs", [], "Workdirs of finished studies, one for each panel.")
_NAMES = flags.DEFINE_list("names", [], "A name for each workdir; by default that of its folder.")
_ALONG = flags.DEFINE_enum("along", "width", list(COLUMNS), "What the curves differ in.")
_METRIC = flags.DEFINE_string("metric", "bits_per_byte", "The metric.")
_OUTPUT = flags.DEFINE_string("output", None, "The figure, a PNG.")
_JSON = flags.DEFINE_string("json", None, "A JSON file of curves, to which these are added.")
_FROM = flags.DEFINE_string("from", None, "A JSON file of curves to draw, in place of workdirs.")


def curves(workdir, along: str, metric: str) -> dict[float, dict[float, float]]:
    """{value of `along`: {learning rate: metric}} of the runs of a workdir; means over seeds, without diverged runs."""
    runs = tuned.clean(planned.load_planned(workdir)[0], metric)
    table = tuned.trials(runs, metric)
    found: dict[float, dict[float, float]] = {}
    for value, rate, loss in table[[COLUMNS[along], "learning_rate", metric]].itertuples(index=False):
        found.setdefault(float(value), {})[float(rate)] = float(loss)
    return {value: dict(sorted(curve.items())) for value, curve in sorted(found.items())}


def table(name: str, along: str, found: dict[float, dict[float, float]]) -> str:
    """The best rates of some curves in words, with their slope."""
    best = {value: rates.vertex(curve) for value, curve in found.items()}
    lines = [f"{name}: best learning rate by {along}"]
    lines += [f"  {value:g}: {rate:.4g}{' (at the edge)' if edge else ''}, {loss:.4f}"
              for value, (rate, loss, edge) in best.items()]
    inner = {value: rate for value, (rate, _, edge) in best.items() if not edge}
    if len(inner) > 1:
        slope = np.polyfit(np.log(list(inner)), np.log(list(inner.values())), 1)[0]
        span = max(inner.values()) / min(inner.values())
        lines.append(f"  slope of log rate: {slope:+.3f}; largest over smallest: {span:.2f}")
    return "\n".join(lines)


@plot.styled
def draw(each: dict[str, dict[float, dict[float, float]]], along: str, metric: str) -> Figure:
    """A panel for each name: a curve for each value, with its best rate ringed."""
    figure, axes = panels(1, len(each), width=4.2)
    for panel, (name, found) in zip(axes[0], each.items()):
        dress(panel, "learning rate at base width", f"{name}: {metric.replace('_', ' ')}", along)
        ends = []
        for colour, (value, curve) in zip(ramp("N", len(found)), found.items()):
            panel.plot(list(curve), list(curve.values()), "-o", color=colour, markersize=3.5)
            rate, loss, edge = rates.vertex(curve)
            if not edge:
                panel.plot([rate], [loss], "o", markersize=9, markerfacecolor="none", markeredgecolor=colour)
            ends.append((list(curve.values())[-1], f"{value:g}", colour))
        finish(panel, ends, ticks=words.short)
    return figure


def main(_):
    if _FROM.value:
        each = {name: {float(v): {float(r): x for r, x in c.items()} for v, c in part["curves"].items()}
                for name, part in json.loads(pathlib.Path(_FROM.value).read_text()).items()
                if part["along"] == _ALONG.value and (not _NAMES.value or name in _NAMES.value)}
    else:
        names = _NAMES.value or [os.path.basename(os.path.normpath(path)) for path in _WORKDIRS.value]
        each = {name: curves(path, _ALONG.value, _METRIC.value) for name, path in zip(names, _WORKDIRS.value, strict=True)}
    for name, found in each.items():
        print(table(name, _ALONG.value, found))
    if _JSON.value:
        path = pathlib.Path(_JSON.value)
        held = json.loads(path.read_text()) if path.exists() else {}
        held |= {name: {"along": _ALONG.value, "metric": _METRIC.value, "curves": found} for name, found in each.items()}
        path.write_text(json.dumps(held, indent=1) + "\n")
    if _OUTPUT.value:
        plot.save_figure(pathlib.Path(_OUTPUT.value), draw(each, _ALONG.value, _METRIC.value))


if __name__ == "__main__":
    app.run(main)
