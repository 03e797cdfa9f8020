"""The page of one study."""

from __future__ import annotations

import pandas as pd
from etils import epath

from scaling.figures.palette import Palette
from scaling.report import captions, page, plots, sections
from scaling.report.reading import StudyFiles, made_or_said, read_study
from scaling.results import tuned


def write(workdir) -> epath.Path:
    """Writes workdir/report/index.html (atomically) and report/figures/*.png; returns the path of the page.

    For each part that is not there yet (fit, forecast, samples, ...) the page has a sentence that says so. Raises
    `files.WorkdirError` when `workdir` is not a directory.
    """
    study = read_study(workdir)
    palette = study_palette(study)
    drawn = draw_figures(study, palette)
    return page.write_page(epath.Path(workdir).expanduser() / "report", study_html(study, palette, drawn), drawn)


def draw_figures(study: StudyFiles, palette: Palette, png: bool = True) -> dict[str, dict]:
    """The figures of the page as `plots.draw_all` returns them. One that damaged files leave out is in `study.broken`."""
    drawn = {}
    for name, plan in captions.study_figures(study, palette).items():
        drawn |= made_or_said(study, plan.title, lambda _, one={name: plan}: plots.draw_all(one, palette, png), {})
    return drawn


def study_palette(study: StudyFiles) -> Palette:
    """One colour for each size and each amount of data of the sweep, or of the fit where there are no records."""
    sweep = study.runs[study.runs["role"] == "sweep"]
    if sweep.empty and study.fit:
        sweep = pd.DataFrame(study.fit.get("points") or [], columns=[tuned.PARAMS, study.unit.seen])
        sweep["data"] = sweep[study.unit.seen]
    return Palette(sweep[tuned.PARAMS].dropna(), sweep["data"].dropna())


def study_html(study: StudyFiles, palette: Palette, drawn: dict[str, dict]) -> str:
    """The page of one study, with figures as `plots.draw_all` returns them."""
    nouns = study.unit.name, study.measure.noun
    return page.render_page("report.html.j2", palette, drawn, nouns, study=study, **sections.page_content(study))
