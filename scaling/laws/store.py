"""Fits on disk and on the terminal: fit.json for the report and other programs, a table for people."""
from __future__ import annotations

import math
import pathlib

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.catalogue import FORMS, RULES, get_form
from scaling.laws.forms.form import LawError
from scaling.laws.forms.own import form_again
from scaling.laws.intervals.uncertainty import DOUBTFUL, Bootstrap
from scaling.laws.optimum.exponents import Exponents
from scaling.laws.runs import Runs
from scaling.laws.scores.choose import Selection
from scaling.store import files

KEPT = ("flops", "fingerprint")  # columns of the runs that are saved besides those that the law uses


def fit_content(fit: Fit, boot: Bootstrap | None = None, frontier: pd.DataFrame | None = None, level: float = 0.9,
                selection: Selection | None = None, exponents: Exponents | None = None) -> dict:
    """The content of fit.json.

    frontier: a table of `laws.frontier`. Its columns are renamed to those of the runs, and the interval of the loss to lo
    and hi. selection: how the law was chosen. exponents: of the best size, in two ways.
    """
    columns = fit.runs.columns
    used = [columns[role] for role in (*fit.form.inputs, "y") if role in columns]
    kept = [*dict.fromkeys([*used, *(name for name in KEPT if name in fit.runs.frame)])]
    out = fit.to_json() | {"points": fit.runs.frame[kept].to_dict("records"), "rows": fit.runs.rows,
                           "weights": fit.weights, "level": level, "settings": _settings(fit)}
    if boot is not None:
        drawn = boot.to_json(level)
        follow = {} if boot.withheld else _follows(fit)
        out |= {"intervals": drawn["intervals"] | {name: list(boot.interval(quantity, level))
                                                   for name, quantity in follow.items()},
                "standard_errors": drawn["standard_errors"], "bootstrap": drawn,
                "diagnostics": out["diagnostics"] + drawn["diagnostics"]}
    if frontier is not None:
        names = {"params": columns.get("N", "N"), "data": columns.get("D", "D"), "loss_low": "lo", "loss_high": "hi"}
        out["frontier"] = frontier.rename(columns=names).to_dict("records")
    if selection is not None:
        out["selection"] = selection.to_json(brief=True)
    if exponents is not None:
        out["exponents"] = exponents.to_json()
    return out


def _settings(fit: Fit) -> dict:
    """What was asked of `fit`, as plain values: delta may be "noise", and weights the name of a column."""
    asked = fit.settings
    weights = asked.get("weights")
    return {"loss": fit.spec.name, "delta": asked.get("delta", fit.spec.delta), "quantile": fit.spec.quantile,
            "weights": weights if weights is None or isinstance(weights, str) else "given"}


def settings_of_study(path, metric: str | None = None) -> dict:
    """Keyword arguments of `fit` with which the study in a workdir fitted its runs, its law too.

    They are those of its fit.json, or of fits/<metric>.json for another metric than the study's own. A study that has not
    fitted yet will take a delta of the size of the noise, and weigh a mean over seeds by their number.
    """
    folder = pathlib.Path(path)
    study = files.read_json(folder / "study.json") if (folder / "study.json").exists() else {}
    other = metric is not None and metric != study.get("metric", metric)
    place = next((place for place in ([folder / "fits" / f"{metric}.json"] if other else []) + [folder / "fit.json"]
                  if place.exists()), None)
    found = {"delta": "noise", "weights": "seeds"}
    if place is None:
        return found | ({"law": study["law"]} if isinstance(study.get("law"), str) and study["law"] not in RULES else {})
    saved = files.read_json(place)
    try:
        equal = saved["manifest"]["weights"] == "equal"
        asked = saved.get("settings") or {"loss": saved["loss"], "delta": saved["delta"], "quantile": saved["quantile"],
                                          "weights": None if equal else "seeds"}
        asked = {name: asked[name] for name in ("loss", "delta", "quantile", "weights")}
        if asked["weights"] == "given":  # numbers that are not saved under a name; a study weighs by seeds
            asked["weights"] = "seeds"
        return found | asked | {"law": saved["form"], "fix": saved["fixed"], "tie": saved["tied"]}
    except (KeyError, TypeError) as missing:
        raise LawError(f"{place} is not a saved fit: it has no {missing}") from None


def save_fit(path, fit: Fit, boot: Bootstrap | None = None, frontier: pd.DataFrame | None = None,
             level: float = 0.9, selection: Selection | None = None, exponents: Exponents | None = None) -> dict:
    """Write fit.json atomically, replacing an older one, and return its content, see `fit_content`."""
    written = fit_content(fit, boot, frontier, level, selection, exponents)
    files.write_json(path, written)
    return written


def load_fit(path) -> Fit:
    """The Fit that `save_fit` wrote, without its bootstrap. A form of the user's own is read again from its
    file if it came from one, and must be registered first if it did not.

    Raises LawError for a file that is not a saved fit, and for an unknown form.
    """
    saved = files.read_json(path)
    try:
        manifest, space = saved["manifest"], saved["space"]
        own = saved.get("form_file")
        form = form_again(own, saved["form"], path) if own and saved["form"] not in FORMS else get_form(saved["form"])
        law = form if own else saved["form"]
        bounds = {name: tuple(ends) for name, ends in saved["bounds"].items() if name not in form.shifted}
        form = form.bounded(bounds)
        form = form.with_fixed(saved["fixed"]).with_tied(saved["tied"])
        runs = Runs(pd.DataFrame(saved["points"]), dict(manifest["columns"]), np.asarray(saved["rows"], int),
                           manifest["dropped"], manifest["source"])
        form = form.opened(runs.inputs(form))
        kind = saved["loss"].partition("_")[0]
        delta = {"mse": np.inf, "absolute": 0.0}.get(kind, saved["delta"])
        weights = np.asarray(saved["weights"], float)
        settings = {"law": law, "loss": saved["loss"], "delta": saved["delta"] or 1e-3,
                    "quantile": saved["quantile"], "weights": None if np.ptp(weights) == 0 else weights,
                    "fix": saved["fixed"], "tie": saved["tied"], "bounds": bounds}
        of_draws = [said["message"] for said in saved.get("bootstrap", {}).get("diagnostics", [])]  # not the fit's own
        said = [Diagnostic.from_json(d) for d in saved["diagnostics"] if d["message"] not in of_draws]
        return Fit(form=form, params=saved["params"], objective=saved["objective"],
                   spec=Objective(kind, space, delta, saved["quantile"]), runs=runs, weights=weights,
                   noise=saved["noise"], optima=pd.DataFrame(saved["optima"]), settings=settings,
                   search=manifest["search"], diagnostics=said)
    except KeyError as missing:
        raise LawError(f"{path} is not a saved fit: it has no {missing}") from None


def table(fit: Fit, boot: Bootstrap | None = None, level: float = 0.9) -> str:
    """The fit as a few lines of text: parameters with intervals, the objective, and every warning."""
    columns = fit.runs.columns
    symbols = ", ".join(f"{name} = {columns[name]}" for name in fit.form.inputs if columns.get(name, name) != name)
    lines = [f"{columns['y']} = {fit.form.formula}" + (f"    ({symbols})" if symbols else "")]
    follows = _follows(fit)
    shown = {**fit.params, **fit.derived, **{name: quantity(fit.params) for name, quantity in follows.items()}}
    for name, value in shown.items():
        line = f"  {name:<12} {value:>12.6g}"
        if name in fit.form.fixed:
            line += "   fixed"
        elif name in fit.form.tied:
            line += f"   = {fit.form.tied[name]}"
        elif boot is not None and boot.withheld:
            line += "   no interval"
        elif boot is not None:
            low, high = boot.interval(follows.get(name, name), level)
            value, low, high = as_known(value, low, high)
            line = f"  {name:<12} {value:>12}   {level:.0%} [{low}, {high}]"
        lines.append(line)
    unit = "of the loss" if fit.spec.space == "log" else f"in {fit.spec.space} residuals"
    noise = f"{fit.noise:.2%}" if fit.spec.space == "log" else f"{fit.noise:.4g}"
    dropped = f", {len(fit.runs.dropped)} dropped" if fit.runs.dropped else ""
    lines.append(f"  {len(fit.runs)} points{dropped}; {fit.spec} {fit.objective:.6g}; noise {noise} {unit}")
    if boot is not None:
        doubt = f", UNRELIABLE: {boot.failed:.0%} of them did not converge" if boot.failed > DOUBTFUL else ""
        lines.append(f"  intervals: {len(boot.draws)} refits, {boot.method} bootstrap{doubt}")
    lines.extend(f"  ! {said}" for said in [*fit.diagnostics, *(boot.diagnostics if boot else [])])
    return "\n".join(lines)


def as_known(value: float, low: float, high: float) -> tuple[str, str, str]:
    """The three numbers as text, with as many digits as an interval from low to high allows: two of its width.

    The value keeps two digits of its own beside a far wider interval, such as 2.2 in [0, 830].
    """
    width = high - low
    if not (np.isfinite([value, low, high]).all() and width > 0):
        return f"{value:.6g}", f"{low:.5g}", f"{high:.5g}"
    place = 1 - math.floor(math.log10(width))  # decimals
    largest = max(abs(value), abs(low), abs(high))
    if not 1e-4 <= largest < 1e7:
        digits = max(place + math.floor(math.log10(largest)) + 1, 1)
        return f"{value:.{digits}g}", f"{low:.{digits}g}", f"{high:.{digits}g}"
    own = 1 - math.floor(math.log10(abs(value))) if abs(value) > 1e-6 * width else place

    def shown(number: float, digits: int) -> str:
        return f"{round(number, digits) + 0.0:.{max(digits, 0)}f}"
    return shown(value, max(place, own)), shown(low, place), shown(high, place)


def _follows(fit: Fit) -> dict:
    """{name: function of the parameters} of quantities that are reported with them.

    For Chinchilla this is a_N of N* ~ C^a_N with C = 6 N D (Hoffmann et al. 2022, equation 4).
    """
    return {"a_N": lambda p: p["beta"] / (p["alpha"] + p["beta"])} if fit.form.name == "chinchilla" else {}
