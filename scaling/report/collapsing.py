"""Whether the training curves of all sizes are one curve when compute and loss are divided by those at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling.figures import words
from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish
from scaling.laws import LawError, Runs, fit, get_form
from scaling.laws.checks.collapse import EARLY, FROM, Collapse, Curve, collapse, gate
from scaling.report.reading import StudyFiles
from scaling.report.training_plots import smooth
from scaling.results.tuned import PARAMS

SIZES = 3     # with curves, from which there is anything to compare
STARTS = 8    # of the fits without one size


def curves_of(study: StudyFiles) -> list[Curve]:
    """The training curves of the tuned runs, all seeds, in units of the study's metric.

    A training loss has the unit of the metric once it is multiplied by their ratio on evaluation data. Runs whose record
    has no `loss`, such as those of adversarial games, have no curve here.
    """
    runs, found = study.runs.set_index("fingerprint"), []
    if "loss" not in runs or study.fit is None:
        return []
    for _, cell in study.cells.iterrows():
        for name in cell["fingerprints"]:
            curve, run = study.curves.get(name), runs.loc[name]
            unit = run[study.metric] / run["loss"] if run["loss"] > 0 else math.nan
            if curve is not None and "loss" in curve and unit > 0:
                points = curve[["data", "loss"]].dropna()
                found.append(Curve(name, cell[PARAMS], cell["data"], points["data"].to_numpy(float),
                                   unit * points["loss"].to_numpy(float), int(run["seed"])))
    return found if len({one.size for one in found}) >= SIZES else []


def saved_law(study: StudyFiles):
    """The saved law, as `collapse` takes it; None for a law in other inputs than N and D."""
    try:
        form = get_form((study.fit or {}).get("form"))
    except LawError:
        return None
    known = set(form.inputs) == {"N", "D"}
    return SimpleNamespace(form=form, params=study.fit["params"], predict=lambda N, D: study.law(N, D)) if known else None


def collapse_of(study: StudyFiles) -> Collapse | None:
    """How well the curves of a study agree; None where there are too few."""
    curves, law = curves_of(study), saved_law(study)
    return None if law is None or not curves else collapse(curves, law)


def draw_collapse(study: StudyFiles, palette: Palette) -> Figure | None:
    """The loss above E over its value at the end, against the part of the training compute: a line a tuned run."""
    law = saved_law(study)
    tuned = set(study.cells["fingerprint"])
    curves = [one for one in curves_of(study) if one.name in tuned]
    if law is None or not curves:
        return None
    floor = law.params.get("E", 0.0)
    ends = study.cells.set_index("fingerprint")[study.metric]
    over_end = f"{study.measure.noun} above E, over that at the end"
    figure, axes = canvas("part of the training compute", over_end, "")
    drawn = 0
    for one in curves:
        over = ends[one.name] - floor
        points = smooth(pd.DataFrame({"data": one.seen / one.data, "loss": (one.loss - floor) / over}), "loss", bins=40)
        points = points[(points["data"] >= FROM) & (points["loss"] > 0)]
        if over > 0 and len(points):
            axes.plot(points["data"], points["loss"], color=palette.size(one.size), linewidth=1.0)
            drawn += 1
    if not drawn:
        return None
    axes.set_yscale("log")
    finish(axes, [])
    return figure


def collapse_sentences(study: StudyFiles) -> list[str]:
    """How far the curves are apart, and which size a gate on the first third of the training would have flagged."""
    return list(_sentences(study))


def _sentences(study: StudyFiles) -> Iterator[str]:
    found = collapse_of(study)
    if found is None or not np.isfinite(found.apart):
        return
    yield (f"After the law's part is taken out, the curve of a size is typically {words.percent(found.apart)} of the "
           f"{study.measure.noun} above E away from those of the other sizes.")
    if found.noise is None:
        yield "How far that is beyond noise is not known, since no run was repeated with other seeds."
    else:
        yield (f"That is {words.number(found.typical, 2)} times the noise of a seed; about 1 is a collapse within noise "
               "(Qiu et al. 2025).")
    third = words.percent(EARLY)
    said = [f"The run of {words.count(one.size)} parameters on {words.count(one.data)} {study.unit.name} left the curve of "
            f"the others before {third} of its training: its rate or a timescale may not suit its size."
            for one in flagged(study)]
    yield from said or [f"No tuned run left the curve of the others before {third} of its training."]


def flagged(study: StudyFiles) -> list[Curve]:
    """The tuned runs that the gate flags, each judged by the other sizes with a law that was fitted without its size."""
    curves, fitted, tuned = curves_of(study), study.fit or {}, set(study.cells["fingerprint"])
    points, columns = pd.DataFrame(fitted.get("points") or []), fitted.get("columns") or {}
    found = []
    if not {"N", "D", "y"} <= set(columns) or not set(columns.values()) <= set(points):
        return found
    for size in sorted({one.size for one in curves}):
        try:
            others = Runs.from_dataframe(points[points[columns["N"]] != size], y=columns["y"], params=columns["N"],
                                         data=columns["D"])
            law = fit(others, fitted["form"], delta=fitted.get("delta") or 1e-3, starts=STARTS)
            found += [one for one in curves if one.size == size and one.name in tuned and gate(one, curves, law).flagged]
        except LawError:
            continue
    return found
