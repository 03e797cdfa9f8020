"""The page of `tools.bias`, and what it prints: amplification against N and D, and the shares of groups."""

import functools
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from scaling.figures import plot, words
from scaling.report.plain_page import Section, write_sections
from scaling.report.plots import PlannedFigure

AXES = {"N": "non-embedding parameters", "D": "training examples"}
SAYS = {"T->A": "the group, given the class", "A->T": "the class, given the group"}


def describe(found: Mapping) -> str:
    """What was found, as text."""
    return "\n".join([*said_of_runs(found)] if "runs" in found else [*said_of_data(found)])


def write(found: Mapping, output):
    """Writes the page into a folder; returns its path."""
    level = words.percent(found["level"])
    if "runs" not in found:
        sections = [Section("groups", "How groups are represented", said_of_data(found), table=_data_table(
            found, "groups" if found["group"] else "classes"))]
        if found["group"]:
            sections.append(Section("classes", f"Each {found['label']}", [f"Intervals are Wilson's, of {level}."],
                                    table=_data_table(found, "classes")))
        return write_sections(output, f"Groups in {found['data']}", sections, {}, ("examples", "loss"))
    first, best = found["runs"][0], max(found["runs"], key=lambda row: (row["N"], row["D"] or 0))
    figures = {f"bias-{axis}": PlannedFigure(functools.partial(plot.styled(draw), found, axis),
                                            f"bias amplification against {AXES[axis]}",
                                            f"BiasAmp of each run with its interval of {level}, which is that of resampled "
                                            "images. Above 0 the model exaggerates what goes together in its data.")
               for axis in AXES if len({row[axis] for row in found["runs"]}) > 1}
    said = [*said_of_runs(found)[-1:], _about(first)]
    seen = ", as the classifier sees it" if "recognised" in best else ""
    sections = [
        Section("amplification", "Bias amplification", said, figures=list(figures), table=run_table(found)),
        Section("groups", "How groups are represented", [
            f"Shares of each {best['group']} among images of a {best['label']}: in the data, and in what run {best['run']} "
            f"(N = {words.count(best['N'])}, D = {words.count(best['D'])}) makes of it{seen}.",
            f"Intervals are Wilson's, of {level}."], table=_group_table(best))]
    return write_sections(output, f"Bias of {first['group']} by {first['label']}", sections, figures, ("examples", "loss"))


# ---------------------------------------------------------------------------------------------- runs


def said_of_runs(found: Mapping) -> list[str]:
    """A line for each run, and one about all of them."""
    lines = [f"{row['run'][:8]}  N={words.count(row['N'])}  D={words.count(row['D'])}  " + "  ".join(
        f"{each['direction']} {_interval(each)}" for each in row["amplification"]) for row in found["runs"]]
    parts = []
    for direction in SAYS:
        each = [a for row in found["runs"] for a in row["amplification"] if a["direction"] == direction]
        if each:
            above, below = sum(a["low"] > 0 for a in each), sum(a["high"] < 0 for a in each)
            parts.append(f"BiasAmp {direction}, about {SAYS[direction]}, is above 0 with its whole interval in {above} of "
                         f"{words.plural(len(each), 'run')} and below 0 in {below}")
    if any(row.get("undefined") for row in found["runs"]):
        parts.append("A->T is left out where no sample may have some group, since the class, given it, is then not defined")
    return [*lines, "; ".join(parts) + "."]


def _about(row: Mapping) -> str:
    said = ["BiasAmp is the mean difference of conditional shares, model less data, in the direction of what goes together "
            "in the data (arXiv:2102.12594, equation 1)."]
    if row["agree"] != 0.5:
        said.append(f"The {row['group']} goes with the {row['label']} in {words.percent(row['agree'])} of the images of "
                    f"{row['data']}.")
    if "recognised" in row:
        said.append(f"On balanced real images the classifier of the {row['group']} is right in "
                    f"{words.percent(row['recognised'], 3)} of cases, and its errors are taken out of BiasAmp.")
    return " ".join(said)


def _interval(each: Mapping) -> str:
    return f"{each['value']:+.3f} [{each['low']:+.3f}, {each['high']:+.3f}]".replace("-", "−")


def run_table(found: Mapping) -> dict:
    """The runs, for the macro `table`."""
    directions = [d for d in SAYS if any(a["direction"] == d for row in found["runs"] for a in row["amplification"])]
    rows = []
    for row in found["runs"]:
        numbers = {a["direction"]: _interval(a) for a in row["amplification"]}
        rows.append((row["run"][:8], [str(row["family"]), words.count(row["N"]), words.count(row["D"]), f"{row['agree']:g}",
                                      str(row["seed"]), *(numbers.get(d, "–") for d in directions)]))
    return {"columns": ["family", "N", "D", "agree", "seed", *(f"BiasAmp {d}" for d in directions)], "rows": rows}


def draw(found: Mapping, axis: str) -> Figure:
    """BiasAmp against N or D, a panel for each direction; lines go through means over seeds at each value of the other."""
    other = "D" if axis == "N" else "N"
    table = run_table(found)
    directions = [name.removeprefix("BiasAmp ") for name in table["columns"] if name.startswith("BiasAmp ")]
    figure, axes = plot.panels(1, len(directions), width=4.4)
    levels = sorted({row[other] for row in found["runs"]})
    for panel, direction in zip(axes[0], directions):
        plot.dress(panel, AXES[axis], f"BiasAmp {direction.replace('->', '→')}", AXES[other].split()[-1])
        panel.axhline(0, color=plot.COLOURS.muted, linewidth=1)
        ends = []
        for colour, level in zip(plot.ramp(other, len(levels)), levels):
            points = sorted((row[axis], a["value"], a["low"], a["high"]) for row in found["runs"] if row[other] == level
                            for a in row["amplification"] if a["direction"] == direction)
            if not points:
                continue
            x, y, low, high = np.array(points).T
            around = np.maximum([y - low, high - y], 0)
            panel.errorbar(x, y, around, fmt="o", color=colour, markersize=3.5, elinewidth=0.9, zorder=3)
            places = np.unique(x)
            means = [y[x == place].mean() for place in places]
            panel.plot(places, means, color=colour, linewidth=1.3, zorder=2)
            ends.append((means[-1], words.count(level), colour))
        plot.finish(panel, ends, log_y=False)
    return figure


def _share(share: Mapping) -> str:
    low, high = words.percent(share["low"], 3), words.percent(share["high"], 3)
    return f"{words.percent(share['value'], 3)} [{low}, {high}]"


def _group_table(row: Mapping) -> dict:
    return {"columns": [row["group"], "in the data", "in the run"], "rows": [
        (each["class"], [each["group"], _share(each["data"]), _share(each["run"])]) for each in row["representation"]]}


# ---------------------------------------------------------------------------------------------- data


def said_of_data(found: Mapping) -> list[str]:
    """Which groups are rare or often met, a sentence for each part of the data."""
    said = []
    for part, count in found["examples"].items():
        shares = [(row[part]["value"], row["group"]) for row in found["classes"]]
        most, least = max(shares), min(shares)
        said.append(f"Of {count:,} {part} examples of {found['data']}, {words.percent(most[0], 3)} have the "
                    f"{found['label']} {most[1]}, the most frequent of {len(shares)}, and {words.percent(least[0], 3)} "
                    f"have {least[1]}, the rarest.")
    return said


def _data_table(found: Mapping, name: str) -> dict:
    parts, both = list(found["examples"]), name == "groups"
    rows = [(row["class" if both else "group"], [*([row["group"]] if both else []), *(_share(row[part]) for part in parts)])
            for row in found[name]]
    return {"columns": [*([found["group"]] if both else []), *parts], "rows": rows}
