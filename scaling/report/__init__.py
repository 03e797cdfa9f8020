"""Reports: HTML files that open offline, made from the files in workdirs alone.

    path = scaling.report.write(workdir)                    # one study: workdir/report/index.html
    path = scaling.report.comparison.write(workdirs, output)  # several side by side: output/index.html

Figures lie beside the page as figures/*.png.
"""

from __future__ import annotations

import pandas as pd
from etils import epath

from scaling.figures.palette import Palette
from scaling.report import captions, comparison, figures, page, sections  # noqa: F401
from scaling.report.reading import Study, read
from scaling.results import tuned  # noqa: F401


def write(workdir) -> epath.Path:
    """Writes workdir/report/index.html (atomically) and report/figures/*.png; returns the path of the former.

    Whatever is not there yet (fit, forecast, samples, ...) is left out with a sentence that says so. Raises
    `files.WorkdirError` when `workdir` is not a directory.
    """
    study = read(workdir)
    palette = colours(study)
    drawn = figures.render(captions.plans(study, palette), palette)
    return page.save(epath.Path(workdir) / "report", render(study, palette, drawn), drawn)


def colours(study: Study) -> Palette:
    """One colour for each size and amount of data of the sweep, or of the fit where there are no records."""
    sweep = study.runs[study.runs["role"] == "sweep"]
    if sweep.empty and study.fit:
        sweep = pd.DataFrame(study.fit.get("points") or [], columns=[tuned.PARAMS, study.unit.seen])
        sweep["data"] = sweep[study.unit.seen]
    return Palette(sweep[tuned.PARAMS].dropna(), sweep["data"].dropna())


def render(study: Study, palette: Palette, drawn: dict[str, dict]) -> str:
    """The page of one study, with figures as `figures.render` draws them."""
    return page.render("report.html.j2", palette, drawn, study=study, **sections.content(study))
