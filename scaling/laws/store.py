"""Fits on disk and on the terminal: fit.json for the report and for other programs, a table for people."""
from __future__ import annotations

import numpy as np
import pandas as pd

from scaling import files
from scaling.laws.fitting import Fit
from scaling.laws.forms import LawError, get
from scaling.laws.uncertainty import Bootstrap

KEPT = ("flops", "fingerprint")  # columns of the points kept beside those the law uses


def save(path, fit: Fit, boot: Bootstrap | None = None, frontier: pd.DataFrame | None = None,
         level: float = 0.9) -> dict:
    """Write fit.json (atomically, replacing an older one) and return its content.

    frontier: what `laws.frontier` returned; its columns are written under the names of the points' columns,
    the loss's interval as lo and hi.
    """
    kept = [*dict.fromkeys([*fit.columns.values(), *(name for name in KEPT if name in fit.points)])]
    points = fit.points[kept].to_dict("records")
    content = fit.to_json() | {"points": points, "weights": fit.weights, "level": level}
    if boot is not None:
        content |= {"intervals": {name: list(boot.interval(name, level)) for name in fit.form.names},
                    "bootstrap": boot.to_json(level), "diagnostics": [*fit.diagnostics, *boot.diagnostics]}
    if frontier is not None:
        names = {"params": fit.columns["N"], "data": fit.columns["D"], "loss_low": "lo", "loss_high": "hi"}
        content["frontier"] = frontier.rename(columns=names).to_dict("records")
    files.write_json(path, content)
    return content


def load(path) -> Fit:
    """The Fit that `save` wrote, without its bootstrap. A form of the user's own must be in forms.FORMS."""
    content = files.read_json(path)
    try:
        form = get(content["form"]).bounded({name: tuple(ends) for name, ends in content["bounds"].items()})
        said = content["diagnostics"]
        extra = content.get("bootstrap", {}).get("diagnostics", [])
        return Fit(form=form, params=content["params"], objective=content["objective"],
                   delta=content["delta"], space=content["space"], columns=content["columns"],
                   points=pd.DataFrame(content["points"]),
                   weights=np.asarray(content["weights"], float), noise=content["noise"],
                   optima=pd.DataFrame(content["optima"]), diagnostics=said[:len(said) - len(extra)])
    except KeyError as missing:
        raise LawError(f"{path} is not a saved fit: it has no {missing}") from None


def table(fit: Fit, boot: Bootstrap | None = None, level: float = 0.9) -> str:
    """The fit as a few lines of text: parameters with intervals, what was minimised, and every warning."""
    symbols = ", ".join(f"{name} = {fit.columns[name]}" for name in fit.form.inputs)
    lines = [f"{fit.columns['loss']} = {fit.form.formula}    ({symbols})"]
    quantities = [(name, value, name) for name, value in fit.params.items()]
    if fit.form.name == "chinchilla":
        def growth(p):  # of N* with C = 6 N D: Hoffmann et al. 2022, equation 4
            return p["beta"] / (p["alpha"] + p["beta"])
        quantities.append(("N* ~ C^a, a", growth(fit.params), growth))
    for name, value, quantity in quantities:
        line = f"  {name:<12} {value:>12.6g}"
        if boot is not None:
            low, high = boot.interval(quantity, level)
            line += f"   {level:.0%} [{low:.5g}, {high:.5g}]"
        lines.append(line)
    lines.append(f"  {len(fit.points)} points; sum of Huber({fit.delta:.3g}) on {fit.space} residuals "
                 f"{fit.objective:.6g}; noise {fit.noise:.2%} of the loss")
    if boot is not None:
        lines.append(f"  intervals: {len(boot.draws)} refits, {boot.method} bootstrap")
    lines.extend(f"  ! {said}" for said in [*fit.diagnostics, *(boot.diagnostics if boot else [])])
    return "\n".join(lines)
