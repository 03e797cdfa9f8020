"""The table of forecasts: what was forecast in several studies, and what came of it.

`gather` reads one entry from a workdir, `merge` adds entries to a list without ever dropping one, and `forecasts_markdown`
and `draw_table` show the list. An entry is a dict of plain values, so that a list is a small JSON file.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath
from matplotlib.figure import Figure

from scaling import laws
from scaling.figures import plot, words
from scaling.laws.scores.choose import MEANS
from scaling.results import metrics, planned, records
from scaling.store import files


def gather(workdir, name: str) -> dict | None:
    """The entry of the forecast of a workdir under a name such as "transformer/pycode/30"; None without a forecast.

    Without a score, "observed" is None. "law" is the law that made the forecast, or the rule by which several did. A
    forecast without a verdict, because it was late or changed, says why under "withheld".
    """
    workdir = epath.Path(workdir).expanduser()
    path = workdir / "forecast.json"
    if not path.exists():
        return None
    content = laws.forecast.read(path)
    check = laws.forecast.read_check(path) if laws.forecast.score_path(path).exists() else {}
    target, study = content["target"], _study(workdir)
    problems = laws.forecast.verify(path).problems
    late = (content.get("registered_late") or {}).get("reason")
    experiment = target.get("experiment") or {}
    rule = (content.get("chosen") or {}).get("rule")
    law = rule if rule in MEANS else content["form"]
    family, data = ((experiment.get(part) or {}).get("name") for part in ("family", "data"))
    return {
        "name": name, "family": family, "data": data,
        "metric": content["metric"], "ratio": content["compute_ratio"],
        "seeds": len(planned.target_names(target)),
        "law": law, "predicted": content["predicted"], "interval": content["interval"],
        "level": content["level"], "parts": content.get("parts"), "naive": content.get("naive") or {},
        "observed": check.get("observed"), "relative_error": check.get("relative_error"), "inside": check.get("inside"),
        "errors": check.get("errors"), "naive_errors": check.get("naive_errors"),
        "registered": content["time"], "scored": check.get("time"), "hash": content["hash"],
        "withheld": late or (" ".join(problems) if check and problems else None),
        "title": study.get("title"), "git_commit": study.get("git_commit"), "versions": records.versions()}


def _study(workdir: epath.Path) -> dict:
    try:
        return files.read_json(workdir / "study.json")
    except (OSError, ValueError):
        return {}


def merge(before: Iterable[Mapping], found: Iterable[Mapping]) -> list[dict]:
    """The entries `before` with those of `found`. An entry of the same forecast (by hash) is replaced, others stay."""
    entries = {entry["hash"]: dict(entry) for entry in before}
    for entry in found:
        old = entries.get(entry["hash"], {})
        if old.get("observed") is None or entry["observed"] is not None:
            entries[entry["hash"]] = dict(entry)
    return sorted(entries.values(), key=lambda entry: (entry["registered"], entry["name"], entry["hash"]))


def with_verdict(entries: Iterable[Mapping]) -> list[dict]:
    """The entries with a verdict: scored, and neither late nor changed."""
    return [dict(entry) for entry in entries if entry["observed"] is not None and not entry["withheld"]]


def summaries(entries: Sequence[Mapping]) -> list[dict]:
    """One row a family: forecasts with a verdict, the median and largest relative error, how many are inside, and the
    median half-width of the interval relative to the prediction."""
    found = []
    for family in sorted({entry["family"] or "" for entry in with_verdict(entries)}):
        own = [entry for entry in with_verdict(entries) if (entry["family"] or "") == family]
        errors = [abs(entry["relative_error"]) for entry in own]
        found.append({"family": family, "forecasts": len(own), "inside": sum(bool(entry["inside"]) for entry in own),
                      "median": statistics.median(errors), "largest": max(errors),
                      "half_width": statistics.median(map(half_width, own))})
    return found


def half_width(entry: Mapping) -> float:
    """Half of the interval over the prediction."""
    low, high = entry["interval"]
    return (high - low) / 2 / abs(entry["predicted"])


def naive_error(entry: Mapping) -> float | None:
    """The least relative error of the naive forecasters."""
    found = [units.get("relative") for units in (entry["naive_errors"] or {}).values()]
    return min((abs(error) for error in found if error is not None), default=None)


def forecasts_markdown(entries: Sequence[Mapping]) -> str:
    """The summary of each family and every forecast, as two tables of Markdown."""
    lines = ["| family | forecasts | inside the 90% interval | median error | largest | median half-width |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in summaries(entries):
        lines.append(f"| {row['family']} | {row['forecasts']} | {row['inside']} | {words.percent(row['median'])} | "
                     f"{words.percent(row['largest'])} | {words.percent(row['half_width'])} |")
    lines += ["", "| forecast | compute | law | forecast, 90% interval | observed | error | best naive |",
              "| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [_row(entry) for entry in entries]
    return "\n".join(lines)


def _row(entry: Mapping) -> str:
    low, high = entry["interval"]
    ratio = f"{words.short(entry['ratio'])}×" if entry["ratio"] else ""
    said = words.to_error(entry["predicted"], (high - low) / 2)
    observed = "not trained yet" if entry["observed"] is None else words.to_error(entry["observed"], (high - low) / 2)
    naive = naive_error(entry)
    error = entry["withheld"] and f"no verdict: {entry['withheld']}"
    if not error and entry["observed"] is not None:
        error = f"{words.signed_percent(entry['relative_error'])}, {'inside' if entry['inside'] else '**outside**'}"
    return (f"| {entry['name']} ({metrics.find_metric(entry['metric']).label}) | {ratio} | {entry['law']} | "
            f"{said} {words.interval(low, high)} | {observed} | {error or ''} | "
            f"{'' if naive is None else words.percent(naive)} |")


def beside(ratios: Sequence[float], step: float = 1.04) -> list[float]:
    """Where forecasts of ascending ratios are drawn. Those within a factor of `step` stand beside each other."""
    groups: list[list[float]] = []
    for ratio in ratios:
        if not groups or ratio > step * groups[-1][0]:
            groups.append([])
        groups[-1].append(ratio)
    return [group[0] * step ** (place - (len(group) - 1) / 2) for group in groups for place in range(len(group))]


ACROSS = 3  # panels of the figure in a row
TALLEST = 4  # of a panel, over the largest error in it


@plot.styled
def draw_table(entries: Sequence[Mapping]) -> Figure | None:
    """Error and interval against the ratio of compute, a panel for each family; None without a verdict."""
    shown = [entry for entry in with_verdict(entries) if entry["ratio"]]
    names = sorted({entry["family"] or "" for entry in shown})
    if not shown:
        return None
    columns = min(len(names), ACROSS)
    figure, axes = plot.panels(-(-len(names) // columns), columns, width=4.2)
    for panel in axes.ravel()[len(names):]:
        panel.set_axis_off()
    for panel, family in zip(axes.ravel(), names):
        plot.dress(panel, "compute of the target / largest fitted", f"{family}: observed / forecast − 1")
        own = [entry for entry in shown if (entry["family"] or "") == family]
        panel.axhline(0, color=plot.COLOURS.ink, linewidth=0.8)
        for index, data in enumerate(sorted({entry["data"] or "" for entry in own})):
            mine = sorted((entry for entry in own if (entry["data"] or "") == data), key=lambda entry: entry["ratio"])
            at = np.array(beside([entry["ratio"] for entry in mine])) * 1.08 ** index
            ends = np.array([[value / entry["predicted"] - 1 for value in entry["interval"]] for entry in mine])
            panel.vlines(at, ends[:, 0], ends[:, 1], color=plot.HUES[index], linewidth=3, alpha=0.3)
            panel.plot(at, [entry["relative_error"] for entry in mine], linestyle="none", marker=plot.SHAPES[index],
                       color=plot.HUES[index], label=data)
        panel.yaxis.set_major_formatter(words.signed_percent)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)  # where no interval lies
        plot.finish(panel, ticks=words.short)
        most = TALLEST * max(abs(entry["relative_error"]) for entry in own)
        low, high = panel.get_ylim()
        panel.set_ylim(max(low, -most, -1.1), min(high, most))  # a bar that goes on leaves the panel
        panel.yaxis.set_major_formatter(words.signed_percent)
    return figure
