"""What is shown of claims: the table of the README, and a page with a figure for each claim.

Both are made from verdicts alone, the small JSON files that a repository keeps, so that they can be drawn again anywhere.
"""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from scaling.claims.claim import LEVEL, REFUTED, REPRODUCED
from scaling.fields import ConfigError
from scaling.figures import plot, words
from scaling.store import files

MARKS = "<!-- claims -->", "<!-- end of claims -->"
WIDE = 46  # characters of a line above a panel
COMMAND = "python -m experiments.claims --run={id} --budget={budget} --workdir=runs/claims"
CELL = """from experiments import claims
from scaling.claims import Trial, pages
from scaling.sweeps.runner import TrainingOptions

trial = Trial(claims.find("{id}"), "{budget}", "runs/claims/{id}", TrainingOptions(){given})
print(pages.verdict_table([trial.run()]))"""
CAPTION = "Points are measured, most are means over seeds, and bars are intervals. A dashed line is a law or a reference."
BOUNDED = " A triangle is a bound: the value lies there or beyond, where the triangle points."
MARKERS = {"": "o", "at least": "^", "at most": "v"}
WIDEST = 1000  # factor that a panel may span on a linear axis


def read_verdicts(folder: pathlib.Path) -> list[dict]:
    """The verdicts that a folder keeps, by id."""
    return [files.read_json(path) for path in sorted(folder.glob("*.json"))]


def verdict_table(verdicts: Sequence[Mapping], pages: str = "docs/claims") -> str:
    """The table of claims in Markdown: claim, what was published, what came out here, the verdict, the command."""
    lines = ["| claim | published | ours | verdict | command |", "| --- | --- | --- | --- | --- |"]
    for found in verdicts:
        ours = "<br>".join(f"{name}: {_numbers(found, part)}" for name, part in found["parts"].items())
        published = "<br>".join(f"{name}: {said}" if name else said for name, said in found["published"].items())
        lines.append(f"| [{found['statement']}]({pages}/{found['id']}.md) | {published} | {ours} | "
                     f"{_bold(found['verdict'])} ({found['budget']}) | `--run={found['id']}` |")
    return "\n".join(lines)


def page(found: Mapping, figure: str | None) -> str:
    """The page of a claim in Markdown. figure: the address of its figure from the page."""
    lines = [f"# {found['statement']}", "", f"{_bold(found['verdict'].capitalize())} with the budget of {found['budget']}, "
             f"on {found['machine']}, {found['date'][:10]}.", "", f"Who says so: {found['source']}", "",
             "| part | published | number | ours | the claim holds | verdict | decided from |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, part in found["parts"].items():
        first = name, found["published"].get(name, found["published"].get("", ""))  # which all rows of the part share
        for rule, estimate in part["estimates"].items():
            lines.append(f"| {first[0]} | {first[1]} | {found['rules'][rule]['quantity']} | {_number(estimate)} | "
                         f"{_region(found['rules'][rule])} | {_bold(estimate['verdict'])} | {_power(estimate)} |")
            first = "", ""
    lines += ["", f"Intervals have a level of {LEVEL:.0%}. The claim is reproduced where an interval lies inside of the "
              "region, refuted where it lies outside, and undecided where it reaches over a bound. \"Decided from\" "
              "says how far from a bound a number has to lie for such runs to decide.", ""]
    for rule in found["rules"].values():
        lines += [f"*{words.sentence(rule['quantity'])}*: {rule['why']}" if rule["why"] else "", ""]
    if figure:
        lines += [f"![{found['statement']}]({figure})", "", caption(found["parts"]), ""]
    for name, part in found["parts"].items():
        notes = dict.fromkeys(estimate["note"] for estimate in part["estimates"].values())
        texts = [part["said"], *(note for note in notes if note not in part["said"]),
                 f"{words.plural(part['diverged'], 'run')} diverged and left no number." if part["diverged"] else ""]
        if said := " ".join(text for text in texts if text):
            lines += [f"**{name}.** {said}", ""]
    if found["more"]:
        lines += [f"What would change the verdict: {found['more']}", ""]
    cost = found["cost"]
    changed = "".join(f" --set={name}={value}" for name, value in found["changes"].items())
    given = f", changes={dict(found['changes'])!r}" if found["changes"] else ""
    lines += ["Run it again, in a checkout of the repository:", "", "```bash", COMMAND.format(**found) + changed, "```", "",
              "The same as a cell of a notebook ([in Colab](../colab.md#studies-by-command)):", "", "```python",
              CELL.format(**found, given=given), "```", "",
              f"The rules were registered on {found['registered']['time']} before the first run (hash "
              f"`{found['registered']['hash'][:12]}`). {words.plural(cost['runs'], 'run')}, {cost['flops']:.2g} FLOPs of "
              f"the models, {words.duration(cost['seconds'])} of training; commit "
              f"`{(found['git_commit'] or 'unknown')[:12]}`, JAX {found['versions'].get('jax')}.", ""]
    return "\n".join(lines)


def caption(parts: Mapping[str, Mapping]) -> str:
    """What the marks of a figure mean, where `parts` are those of a verdict."""
    lines = [line for part in parts.values() if part["panel"] for line in part["panel"]["lines"]]
    return CAPTION + (BOUNDED if any(any(line.get("bounds", ())) for line in lines) else "")


@plot.styled
def draw_panels(found: Mapping) -> Figure | None:
    """The panels of a claim's parts side by side; None where no part has one."""
    panels = {name: part["panel"] for name, part in found["parts"].items() if part["panel"]}
    if not panels:
        return None
    figure, grid = plot.panels(1, len(panels))
    for axes, (name, panel) in zip(grid[0], panels.items()):
        named = f"{name}: {panel['y']}" if len(panels) > 1 else panel["y"]
        named = textwrap.fill(named, WIDE - len(panel["labels"]))
        plot.dress(axes, panel["x"], named, panel["labels"], log_x=panel["log_x"])
        ends = []
        for number, line in enumerate(panel["lines"]):
            colour = plot.HUES[number % len(plot.HUES)]
            if line["dots"]:
                bars = [[y - low for y, low in zip(line["y"], line["low"])],
                        [high - y for y, high in zip(line["y"], line["high"])]] if line["low"] else None
                axes.errorbar(line["x"], line["y"], bars, color=colour, linewidth=1.2, elinewidth=1)
                _mark(axes, line, colour)
            else:
                axes.plot(line["x"], line["y"], color=colour, linewidth=1.2, linestyle="--")
            ends.append((line["y"][-1], line["name"], colour))
        measured = [y for line in panel["lines"] if line["dots"] for y in line["y"] if y is not None]
        plot.finish(axes, ends, log_y=panel["log_y"] or 0 < WIDEST * min(measured) < max(measured))
    return figure


def _mark(axes, line: Mapping, colour):
    """A dot at each point of a line, and an open triangle that points up or down where y is a bound."""
    bounds = line.get("bounds") or [""] * len(line["x"])
    for x, y, bound in zip(line["x"], line["y"], bounds):
        axes.plot([x], [y], color=colour, marker=MARKERS[bound], markersize=6 if bound else 4,
                  markerfacecolor="white" if bound else colour)


def write(verdicts: Sequence[Mapping], docs: pathlib.Path) -> list[pathlib.Path]:
    """Writes docs/claims/ID.md for each verdict, with its figure under docs/figures/claims. Returns the pages."""
    written = []
    for found in verdicts:
        figure = draw_panels(found)
        if figure is not None:
            plot.save_figure(docs / "figures" / "claims" / f"{found['id']}.png", figure)
        path = docs / "claims" / f"{found['id']}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.atomic_write(path, page(found, None if figure is None else f"../figures/claims/{found['id']}.png"))
        written.append(path)
    return written


def with_table(text: str, verdicts: Sequence[Mapping], name: str = "README.md") -> str:
    """The text of a README with the table between its marks. Raises ConfigError where the marks are missing."""
    found = words.put_between(text, MARKS, verdict_table(verdicts))
    if found is None:
        raise ConfigError(f"{name} has no lines {MARKS[0]} and {MARKS[1]}, between which the table of claims belongs")
    return found


def _bold(verdict: str) -> str:
    return f"**{verdict}**" if verdict.lower() in (REPRODUCED, REFUTED) else verdict


def _numbers(found: Mapping, part: Mapping) -> str:
    """The first number of a part, the one that has the part's verdict if that is another one, and that verdict where parts
    differ."""
    first, *_ = part["estimates"].values()
    deciding = next(each for each in part["estimates"].values() if each["verdict"] == part["verdict"])
    numbers = _number(first) + ("" if deciding is first else f", decided by {_number(deciding)}")
    return numbers if part["verdict"] == found["verdict"] else f"{numbers} ({part['verdict']})"


def _number(estimate: Mapping) -> str:
    value, low, high = (float("nan") if estimate[key] is None else estimate[key] for key in ("value", "low", "high"))
    if estimate["low"] is None or estimate["high"] is None:
        return f"{words.short(value)}, without an interval"
    low, middle, high = (words.to_error(number, (high - low) / 2) for number in (low, value, high))
    return f"{middle} [{low}, {high}]"


def _region(rule: Mapping) -> str:
    low, high = (None if rule[end] is None else words.short(rule[end]) for end in ("low", "high"))
    if high is None:
        return f"above {low}"
    return f"below {high}" if low is None else f"from {low} to {high}"


def _power(estimate: Mapping) -> str:
    return "" if estimate["power"] is None else f"±{words.short(estimate['power'], 2)}"
