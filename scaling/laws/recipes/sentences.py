"""A comparison of two recipes in words: its text for a terminal, and the notes that its page has too."""
from __future__ import annotations

import math

import numpy as np

from scaling.laws.recipes.verdict import times


def as_text(found) -> str:
    """A `Speedup` as text: the verdict, the rungs, the target, the trend, what would decide it, and the notes."""
    base, change = found.names
    lines = [f"{change} over {base}{f' by {found.metric}' if found.metric else ''}: {found.verdict}", found.because]
    lines += [found.advice] if found.advice else []
    lines += ["", *_rows(found), "", *summary(found), *(f"  ! {said}" for said in [*found.said, *found.notes])]
    return "\n".join(lines)


def summary(found) -> list[str]:
    """Two lines: the speed-up at the target, and the slope with the test of the line."""
    beyond = found.target / found.flops[-1]
    where = f"{beyond:.3g} times the compute of the largest rung" if beyond > 1 else "within the rungs"
    test = "" if math.isnan(found.misfit.p) else f"; lack of fit of the line: p = {found.misfit.p:.2g}"
    level = f"{found.level:.0%} intervals"
    return [f"at {found.target:.3g} FLOPs, {where}: speed-up {times(found.at(found.target))}",
            f"for each tenfold of compute the speed-up is multiplied by {times(found.slope)}{test} ({level})"]


def _rows(found) -> list[str]:
    """The table of rungs: one line each, with the losses where there are any."""
    losses = "base" in found.table
    lines = [f"{'FLOPs':>10}" + (f"{'base':>10}{'change':>10}{'runs':>7}" if losses else "") + "   speed-up"]
    for place, row in found.table.iterrows():
        line = f"{row['flops']:>10.3g}"
        if losses:
            counts = f"{row['pairs']:.0f}" if row["pairs"] else f"{row['base_runs']:.0f}+{row['change_runs']:.0f}"
            line += f"{row['base']:>10.4g}{row['change']:>10.4g}{counts:>7}".replace("nan", "  –")
        lines.append(f"{line}   {times(found.rung(int(place)))}")
    return lines


def notes(found) -> list[str]:
    """What a reader must know of the noise, the base's law and the line, in sentences."""
    return [*_of_noise(found), *_of_law(found)]


def _of_noise(found) -> list[str]:
    noise, one = found.noise, "pair of runs" if found.paired else "difference of two runs"
    if found.law is None:
        if noise.source == "assumed":
            return [f"the noise of a speed-up, {noise.size:.3g} relative, is assumed: two numbers cannot show it."
                    if len(found.logs) == 2 else f"the noise of a speed-up, {noise.size:.3g} relative, is assumed."]
        return ["nothing shows the noise of a speed-up, so there are no intervals."] if not noise.source else [
            f"the noise of a speed-up, {noise.size:.3g} relative, is the scatter about the line, with {noise.freedom:g} "
            f"degree{'s' * (noise.freedom != 1)} of freedom; nothing else tests the line."]
    if not noise.source:
        return ["one run a rung and two rungs show no noise, so there are no intervals."]
    of = {"assumed": "assumed", "seeds": "from seeds", "line": "the scatter about the line, since there is one run a rung; "
          "nothing else tests the line", "both": "from seeds and about the line"}[noise.source]
    freedom = "" if math.isinf(noise.freedom) else f" ({noise.freedom:g} degree{'s' * (noise.freedom != 1)} of freedom)"
    paired = "runs are paired by seed" if found.paired else "runs are not paired: they share no seeds"
    return [f"{paired}; the loss of a {one} differs by {100 * noise.size:.2g}% at random, {of}{freedom}."]


def _of_law(found) -> list[str]:
    if found.law is None:
        return []
    law = found.law
    values = ", ".join(f"{name} = {law.params[name]:.3g}" for name in law.form.names)
    said = [f"the law of {found.names[0]} is {law.form.formula} with {', '.join(law.form.inputs)} = "
            f"{', '.join(law.runs.columns[name] for name in law.form.inputs)}: {values}."]
    if law.form.name == "power":
        said.append("this law cannot level off: four rungs and six runs of the base would show whether it should.")
    top, largest = law.runs.values("C").max(), found.flops[-1]
    needed = largest * float(np.exp(found.logs[-1]))
    if needed > 1.5 * top:
        said.append(f"at the largest rung the law is used at {needed / top:.2g} times the compute of any run of "
                    f"{found.names[0]}.")
    return said
