"""Baselines never flatten a trend: those far from it stand at the edge of the panel, by name and value."""

import matplotlib
import numpy as np
import pytest
from report_study import GAN_DATA, fill_images

from scaling.figures import svg, words
from scaling.report import plots, reading, study_page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    fill_images(path)
    return reading.read_study(path)


def drawn(study, draw, floor, memoriser):
    """(axes, texts in it) of a figure of the study with these baselines; the layout is that of a page."""
    study.baselines = {"floor": {study.metric: floor}, "memoriser": [
        {"examples_unique": d, study.metric: y} for d, y in zip(GAN_DATA, memoriser)]}
    with matplotlib.rc_context(svg.STYLE):
        figure = draw(study, study_page.study_palette(study))
        figure.canvas.draw()
    (axes,) = figure.axes
    return axes, [text for text in axes.texts if text.get_text()]


def trend_share(study, axes, cells):
    """The part of the height of the panel that the dots of the trend take."""
    values = cells[study.metric].to_numpy(float)
    places = axes.transAxes.inverted().transform(axes.transData.transform([(1, values.min()), (1, values.max())]))
    assert 0 <= places[0][1] < places[1][1] <= 1
    return places[1][1] - places[0][1]


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 0.1, 0.7, 1.0, 3.0, 1e3])
@pytest.mark.parametrize("draw", [plots.draw_data, plots.draw_unique])
def test_the_trend_keeps_half_of_the_panel_whatever_the_baselines(study, draw, factor):
    low = study.cells[study.metric].min()
    axes, _ = drawn(study, draw, low * factor, [low * factor * r for r in (30, 4, 1)])
    assert trend_share(study, axes, study.cells) > 0.45


def test_far_baselines_are_named_with_their_values_inside_the_panel_and_below_every_dot(study):
    axes, texts = drawn(study, plots.draw_data, 1e-4, [3e-4, 2e-4, 1.5e-4])
    (said,) = [text for text in texts if "floor" in text.get_text()]
    assert said.get_text() == f"↓ floor {words.number(1e-4, 2)}, memoriser {words.number(1.5e-4, 2)} to 0.00030"
    box = said.get_window_extent()
    assert axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
    swept = study.runs.loc[study.runs["role"] == "sweep", study.metric].dropna()
    dots = axes.transData.transform([(1, y) for y in swept])[:, 1]
    assert box.y1 < dots.min()
    assert not any(np.min(line.get_ydata()) < 1e-3 for line in axes.lines)


def test_near_baselines_are_lines_with_labels_at_their_ends(study):
    low = study.cells[study.metric].min()
    axes, texts = drawn(study, plots.draw_data, low * 0.9, [low * 1.2, low, low * 0.95])
    assert {"floor", "memoriser"} <= {text.get_text() for text in texts}
    assert any(np.allclose(line.get_ydata(), low * 0.9) for line in axes.lines)
    bottom, top = axes.get_ylim()
    assert bottom < low * 0.9 < top


def test_n_gram_models_are_a_line_of_their_own(study):
    low = study.cells[study.metric].min()
    drawn(study, plots.draw_data, low * 0.9, [])
    study.baselines["ngram"] = [{"examples_unique": d, study.metric: low * (1 + i / 10)} for i, d in enumerate(GAN_DATA)]
    figure = plots.draw_data(study, study_page.study_palette(study))
    (axes,) = figure.axes
    assert "n-gram" in {text.get_text() for text in axes.texts}
    assert any(np.array_equal(line.get_xdata(), GAN_DATA) for line in axes.lines)


def test_baselines_above_the_trend_point_up(study):
    high = study.cells[study.metric].max()
    _, texts = drawn(study, plots.draw_data, high * 100, [])
    assert any(text.get_text().startswith("↑ floor") for text in texts)
