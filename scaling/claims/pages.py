"""What is shown of claims: the table of the README, and a page with a figure for each claim.

Both are made from verdicts alone, the small JSON files that a repository keeps, so that they can be drawn again anywhere.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from scaling.claims.claim import LEVEL, REFUTED, REPRODUCED
from scaling.claims.verdict_figures import draw_numbers, draw_panels
from scaling.fields import ConfigError
from scaling.figures import plot, words
from scaling.store import files

MARKS = "<!-- claims -->", "<!-- end of claims -->"
COMMAND = "python -m experiments.claims --run={id} --budget={budget} --workdir=runs/claims"
CELL = """from experiments import claims
from scaling.claims import Trial, pages
from scaling.sweeps.runner import TrainingOptions

trial = Trial(claims.find("{id}"), "{budget}", "runs/claims/{id}", TrainingOptions(){given})
print(pages.verdict_table([trial.run()]))"""
POINTS = "Points are measured, and most are means over seeds."
BARS = "Bars are intervals, or the spread of the seeds."
DASHED = "A dashed line is a law or a reference."
BOUNDED = "A triangle is a bound: the value lies there or beyond, where the triangle points."
NUMBERS = "Each number with its interval. The claim holds where the interval lies in the shaded region."
FIGURES = {"numbers": (draw_numbers, 110), "panels": (draw_panels, 160)}  # of a page, with their dots per inch
OPEN = "A dotted line stands for a number without an interval."


def read_verdicts(folder: pathlib.Path) -> list[dict]:
    """The verdicts that a folder keeps, by id."""
    return [files.read_json(path) for path in sorted(folder.glob("*.json"))]


def verdict_table(verdicts: Sequence[Mapping], pages: str = "docs/claims") -> str:
    """The table of claims in Markdown: claim, what was published, what came out here, the verdict, the command."""
    lines = ["| claim | published | ours | verdict | command |", "| --- | --- | --- | --- | --- |"]
    for found in verdicts:
        ours = "<br>".join(_ours(found))
        published = "<br>".join(f"{name}: {said}" if name else said for name, said in found["published"].items())
        lines.append(f"| [{found['statement']}]({pages}/{found['id']}.md) | {published} | {ours} | "
                     f"{_bold(found['verdict'])} ({found['budget']}) | `--run={found['id']} --budget={found['budget']}` |")
    return "\n".join(lines)


def figures_of(found: Mapping) -> dict[str, str]:
    """{"numbers", and "panels" where there are any: the address of a figure from the page of a claim}."""
    ends = {"numbers": "-numbers"} | ({"panels": ""} if any(part["panel"] for part in found["parts"].values()) else {})
    return {kind: f"../figures/claims/{found['id']}{end}.png" for kind, end in ends.items()}


def page(found: Mapping) -> str:
    """The page of a claim in Markdown."""
    figures = figures_of(found)
    lines = [f"# {found['statement']}", "", f"{_bold(found['verdict'].capitalize())} with the budget of {found['budget']}, "
             f"on {found['machine']}, {found['date'][:10]}.", "", f"Who says so: {found['source']}", "",
             "| part | published | number | ours | the claim holds | verdict | decided from |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    of_all = found["published"].get("", "")  # what was published of all parts, which is said once
    for name, part in found["parts"].items():
        first = name, found["published"].get(name, of_all)  # which all rows of the part share
        of_all = ""
        for rule, estimate in part["estimates"].items():
            lines.append(f"| {first[0]} | {first[1]} | {found['rules'][rule]['quantity']} | {_number(estimate)} | "
                         f"{_region(found['rules'][rule])} | {_bold(estimate['verdict'])} | {_power(estimate)} |")
            first = "", ""
    lines += ["", f"Intervals have a level of {LEVEL:.0%}. The claim is reproduced where an interval lies inside of the "
              "region, refuted where it lies outside, and undecided where it reaches over a bound. A truth on the bound "
              f"itself is decided in {1 - LEVEL:.0%} of such trials. \"Decided from\" says how far from a bound a number "
              "has to lie for such runs to decide.", ""]
    lines += [f"![The numbers and their intervals, beside the regions where the claim holds]({figures['numbers']})", "",
              _numbers_caption(found["parts"]), ""]
    for why, (first, *others) in _reasons(found).items():
        lines += [f"{words.listing([f'*{each}*' for each in (words.sentence(first), *others)])}: {why}", ""]
    if "panels" in figures:
        lines += [f"![{_shown(found['parts'])}]({figures['panels']})", "", caption(found["parts"]), ""]
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


def _reasons(found: Mapping) -> dict[str, list[str]]:
    """{why: the quantities whose region it explains}, of the rules that decided something here."""
    used = {name for part in found["parts"].values() for name in part["estimates"]}
    reasons: dict[str, list[str]] = {}
    for name, rule in found["rules"].items():
        if rule["why"] and name in used:
            reasons.setdefault(rule["why"], []).append(rule["quantity"])
    return reasons


def _numbers_caption(parts: Mapping[str, Mapping]) -> str:
    numbers = [estimate for part in parts.values() for estimate in part["estimates"].values()]
    return NUMBERS + (f" {OPEN}" if any(each["low"] is None and each["high"] is None for each in numbers) else "")


def _shown(parts: Mapping[str, Mapping]) -> str:
    """What the panels show, for those who do not see them."""
    shown: dict[str, list[str]] = {}
    for name, part in parts.items():
        if panel := part["panel"]:
            shown.setdefault(f"{panel['y']} against {panel['x']}", []).append(name)
    return words.sentence("; ".join(f"{axes} ({', '.join(names)})" for axes, names in shown.items()))


def caption(parts: Mapping[str, Mapping]) -> str:
    """What the marks of a figure mean, where `parts` are those of a verdict."""
    lines = [line for part in parts.values() if part["panel"] for line in part["panel"]["lines"]]
    marks = {POINTS: True, BARS: any(line["low"] for line in lines), DASHED: any(not line["dots"] for line in lines),
             BOUNDED: any(any(line.get("bounds", ())) for line in lines)}
    return " ".join(said for said, there in marks.items() if there)


def write(verdicts: Sequence[Mapping], docs: pathlib.Path) -> list[pathlib.Path]:
    """Writes docs/claims/ID.md for each verdict, with its figures under docs/figures/claims. Returns the pages."""
    written = []
    for found in verdicts:
        path = docs / "claims" / f"{found['id']}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind, address in figures_of(found).items():
            draw, dpi = FIGURES[kind]
            plot.save_figure((path.parent / address).resolve(), draw(found), dpi=dpi)
        files.atomic_write(path, page(found))
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


def _ours(found: Mapping) -> list[str]:
    """Lines of the table: what the first number of some parts is, and below it each of these parts with its numbers."""
    lines: dict[str, list[str]] = {}
    for name, part in found["parts"].items():
        quantity = found["rules"][next(iter(part["estimates"]))]["quantity"]
        lines.setdefault(f"*{quantity}*", []).append(f"{name}: {_numbers(found, part)}")
    return [line for quantity, numbers in lines.items() for line in (quantity, *numbers)]


def _numbers(found: Mapping, part: Mapping) -> str:
    """The first number of a part, the one that has the part's verdict if that is another one, and that verdict where parts
    differ."""
    first, *_ = part["estimates"].values()
    deciding = next(each for each in part["estimates"].values() if each["verdict"] == part["verdict"])
    numbers = _number(first) + ("" if deciding is first else f", decided by {_number(deciding)}")
    return numbers if part["verdict"] == found["verdict"] else f"{numbers} ({part['verdict']})"


def _number(estimate: Mapping) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "no number"
    if low is None or high is None:
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
