"""A page says whether the fit takes cells at the edge, and what these asked for."""

import json

import pytest
from report_page import words_of
from report_study import fill

from scaling.report import reading, tuning
from scaling.results import tuned
from scaling.results.records import Records

EDGE = "at the edge"


@pytest.fixture
def study(tmp_path):
    """A study whose smallest size has its best rate at the edge, with its files: (workdir, names of those cells)."""
    fill(tmp_path, without=("curves", "samples"))
    table = reading.read_study(tmp_path)
    smallest = table.cells[table.cells[tuned.PARAMS] == table.cells[tuned.PARAMS].min()]
    for run in table.runs[table.runs[tuned.PARAMS].isin(smallest[tuned.PARAMS])].to_dict("records"):
        best = smallest.loc[smallest["data"] == run["data"], "learning_rate"].iloc[0]
        if run["learning_rate"] > best:  # then the best rate is the highest one
            Records(tmp_path).path(run["fingerprint"]).unlink()
    return tmp_path, list(smallest["fingerprint"])


def write(workdir, config=None, left_out=(), **about):
    """Changes study.json, and leaves cells out of fit.json."""
    content, fit = (json.loads((workdir / f"{name}.json").read_text()) for name in ("study", "fit"))
    (workdir / "study.json").write_text(json.dumps({**content, **about, "config": config or {}}))
    fit["points"] = [point for point in fit["points"] if point["fingerprint"] not in left_out]
    fit.pop("digest", None)  # of the content before
    (workdir / "fit.json").write_text(json.dumps(fit))


def test_the_page_says_that_cells_at_the_edge_are_left_out(study):
    workdir, names = study
    write(workdir, {"fit_edges": False}, left_out=names)
    said = "The fit leaves out the 4 cells whose best learning rate is at the edge, and takes the other 12"
    assert tuning.fate_of_edges(reading.read_study(workdir)).startswith(said)
    assert words_of(workdir).text.count(said) == 2  # at the top, and beside the sweeps
    assert len(tuning.fitted_cells(reading.read_study(workdir))) == 12


@pytest.mark.parametrize(("asked", "why"), [(True, "as fit_edges asks"), (False, "too few of the 16 cells would be left")])
def test_the_page_says_why_cells_at_the_edge_stay_in(study, asked, why):
    workdir, _ = study
    write(workdir, {"fit_edges": asked})
    assert f"The fit takes the 4 cells whose best learning rate is {EDGE}" in words_of(workdir).text
    assert why in tuning.fate_of_edges(reading.read_study(workdir))


def test_a_study_of_an_older_version_says_only_that_cells_are_at_the_edge(study):
    workdir, _ = study
    write(workdir, {})
    text = words_of(workdir).text
    assert "In 4 of 16 sweeps of the learning rate" in text and "The fit takes the" not in text and "asked for" not in text


def test_the_page_says_what_was_asked_for_at_what_cost(study):
    workdir, names = study
    runs = list(reading.read_study(workdir).runs["fingerprint"])
    write(workdir, {"fit_edges": False, "tune": 0.25}, runs=runs,
          bracketing={"runs": names, "budget": 2e12, "spent": 1.5e12})
    said = "asked for the next rates: 4 runs beyond the sweep. They cost 1.50 × 10¹² of the 2.00 × 10¹² FLOPs that tune"
    assert said in words_of(workdir).text
