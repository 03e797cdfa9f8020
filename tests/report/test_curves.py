"""The figure of the curves shows the study's metric on evaluation data where runs have it, else the training loss."""

import json
import shutil

import numpy as np
import pytest
from report_study import fill

from scaling.report import reading, study_page, training_plots
from scaling.report.captions import study_figures


def validate(workdir, runs, part=1.07):
    """Adds the metric on a part of the evaluation set, on which losses are `part` times those of the whole set."""
    for run in runs:
        path = workdir / "curves" / f"{run['fingerprint']}.jsonl"
        points = [json.loads(line) for line in path.read_text().splitlines()]
        for share in (0.06, 0.12, 0.25, 0.5, 1.0):
            value = run["bits_per_byte"] * part * (1 + 0.1 * (1 - share))
            points[max(0, int(share * len(points)) - 1)]["validation/bits_per_byte"] = value
        path.write_text("\n".join(map(json.dumps, points)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    return path, [run for run in fill(path, without=("forecast",)) if not run["diverged"]]


@pytest.fixture
def study_dir(filled, tmp_path):
    """(a workdir of its own for each test, its runs that did not diverge)."""
    return shutil.copytree(filled[0], tmp_path / "study"), filled[1]


def figure(workdir):
    study = reading.read_study(workdir)
    return study, study_figures(study, study_page.study_palette(study))


def test_curves_end_at_the_results_of_their_runs_and_keep_their_shape(study_dir):
    workdir, runs = study_dir
    validate(workdir, runs)
    study, figures = figure(workdir)
    assert [name for name in figures if name.startswith("curves")] == ["curves"]
    for run in study.cells.itertuples():
        curve = training_plots.drawn_curve(study, run.fingerprint, "validation/bits_per_byte")
        assert curve["validation/bits_per_byte"].iloc[-1] == pytest.approx(run.bits_per_byte)
        ratios = curve["validation/bits_per_byte"] / run.bits_per_byte
        np.testing.assert_allclose(ratios, 1 + 0.1 * (1 - np.array([0.06, 0.12, 0.25, 0.5, 1.0])), rtol=1e-6)
    drawn = figures["curves"].draw()
    assert drawn.axes[0].get_title(loc="left") == "bits per byte, on evaluation data"
    assert "on evaluation data of 16 tuned runs and of the target run" in figures["curves"].caption


def test_a_study_in_which_some_run_has_none_shows_the_training_loss_of_all(study_dir):
    workdir, runs = study_dir
    study, _ = figure(workdir)
    tuned = set(study.cells["fingerprint"])
    validate(workdir, [run for run in runs if run["fingerprint"] != max(tuned)])
    study, figures = figure(workdir)
    assert training_plots.curve_column(study, "loss") == "loss"
    assert figures["curves"].draw().axes[0].get_title(loc="left") == "training loss (nats per token)"
    assert figures["curves"].caption.startswith("Training loss of")
