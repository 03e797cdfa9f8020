"""Figures of laws show every point with its residual, and no text is cut off or lies on other text."""
import itertools
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from scaling import laws
from scaling.figures import svg
from scaling.figures.plot import group_levels
from scaling.figures.words import compact_power
from scaling.laws import bootstrap, holdout, isoflop, plots, profile, suggest

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def surface(N, D, noise=0.004, seed=0):
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(N.shape))
    return pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss})


def lattice(sizes=6, data=5):
    N, D = np.meshgrid(np.geomspace(2e7, 2e9, sizes), np.geomspace(1e9, 3e10, data))
    return surface(N.ravel(), D.ravel())


def scattered(count=60):
    """Slices of equal compute: every run has its own N and D."""
    rng = np.random.default_rng(1)
    C = np.repeat([1e19, 1e20, 1e21], count // 3)
    N = np.sqrt(C / 120) * np.exp(rng.uniform(-1.5, 1.5, count))
    return surface(N, C / (6 * N)).assign(family=rng.choice(["one", "two", "three"], count))


@pytest.fixture(scope="module")
def wide():
    law = laws.fit(scattered())
    return law, bootstrap(law, 60)


@pytest.fixture(scope="module")
def narrow():
    x = np.geomspace(1e3, 1e8, 12)
    loss = (0.8 + 12 * x ** -0.2) * np.exp(0.01 * np.sin(np.arange(12)))
    law = laws.fit({"x": x, "loss": loss}, "saturating_power")
    return law, bootstrap(law, 60)


@pytest.fixture(scope="module")
def figures(wide, narrow):
    """One of each figure, rendered, with matplotlib's warnings as errors."""
    law, boot = wide
    forecast = {"metric": "loss", "predicted": 1.931, "interval": [1.902, 1.962],
                "confidence": [1.911, 1.953], "level": 0.9, "target": {"params": 7e10, "tokens": 1.4e12},
                "time": "2026-01-31T10:00:00+00:00"}
    check = {"observed": 1.944, "inside": True, "relative_error": 0.0067}
    held = holdout(law, cuts=[1e20, 1e21], laws=["tied_chinchilla"], draws=50)
    more = suggest(boot, budget=3e20, target={"N": 7e10, "D": 1.4e12}, most=5)
    candidates = pd.DataFrame({"x": [1e6, 1e7, 1e9], "cost": [1.0, 2.0, 9.0]})
    one = suggest(narrow[1], candidates, 10.0, target={"x": 1e12})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = {
            "fit": plots.fit(law, boot), "fit of one input": plots.fit(*narrow),
            "fit of a grid": plots.fit(laws.fit(lattice())),
            "residuals": plots.residuals(law, by="family"), "bootstrap": plots.bootstrap(boot),
            "profile": plots.profile([profile(law, name, points=9) for name in law.form.free[2:]]),
            "holdout": plots.holdout(held), "isoflop": plots.isoflop(isoflop(law.runs, draws=100)),
            "frontier": plots.frontier(laws.frontier(law, np.geomspace(1e18, 1e24, 9), boot=boot), law),
            "frontier at one budget": plots.frontier(laws.frontier(law, 1e23, boot=boot)),
            "forecast": plots.forecast(forecast), "forecast, checked": plots.forecast(forecast, check, law),
            "suggestion": plots.suggestion(more), "suggestion of one input": plots.suggestion(one)}
        with matplotlib.rc_context(svg.STYLE):
            for figure in made.values():
                figure.canvas.draw()
    return made


NAMES = ["fit", "fit of one input", "fit of a grid", "residuals", "bootstrap", "profile", "holdout",
         "isoflop", "frontier", "frontier at one budget", "forecast", "forecast, checked", "suggestion",
         "suggestion of one input"]


def boxes(figure):
    """(text, its box on the canvas) of all visible text."""
    ticks = {text: None for text in figure.findobj(Text)}
    for axes in figure.axes:
        for axis, labels, place in ((axes.xaxis, axes.get_xticklabels(), 0),
                                    (axes.yaxis, axes.get_yticklabels(), 1)):
            low, high = sorted(axis.get_view_interval())
            for every in axis.get_ticklabels(which="both") + axis.findobj(Text):
                if every is not axis.label:
                    ticks.pop(every, None)
            ticks |= {text: None for text in labels if low <= text.get_position()[place] <= high}
    return [(text, text.get_window_extent()) for text in ticks
            if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off(figures, name):
    whole = figures[name].bbox
    for text, box in boxes(figures[name]):
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, (name, text.get_text())
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, (name, text.get_text())


@pytest.mark.parametrize("name", NAMES)
def test_no_text_lies_on_another(figures, name):
    for (one, first), (other, second) in itertools.combinations(boxes(figures[name]), 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        apart = across < 2 or up < 0.35 * min(first.height, second.height)
        assert apart, (name, one.get_text(), other.get_text())


def drawn_points(axes):
    """(x, y) of every marker without a line."""
    found = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"]
    return np.concatenate(found)


def test_moved_points_keep_their_residuals(figures, wide):
    law, _ = wide
    for axes in figures["fit"].axes:
        dots = [line for line in axes.lines if line.get_linestyle() == "None"]
        curves = {line.get_color(): line for line in axes.lines if line.get_linestyle() == "-"}
        off = np.concatenate([np.log(dot.get_ydata()) - np.interp(
            np.log(dot.get_xdata()), np.log(curves[dot.get_color()].get_xdata()),
            np.log(curves[dot.get_color()].get_ydata())) for dot in dots])
        np.testing.assert_allclose(np.sort(off), np.sort(law.residuals), atol=3e-4)   # of interpolation


@pytest.mark.parametrize("loss", ["mse", "mse_log1p"])
def test_points_are_moved_in_the_space_of_the_objective(loss):
    law = laws.fit(scattered(), loss=loss)
    for axes in plots.fit(law).axes:
        curves = {line.get_color(): line for line in axes.lines if line.get_linestyle() == "-"}
        off = [law.spec.residuals(y, np.interp(np.log(x), np.log(curves[dot.get_color()].get_xdata()),
                                               curves[dot.get_color()].get_ydata()))
               for dot in axes.lines if dot.get_linestyle() == "None" for x, y in dot.get_xydata()]
        np.testing.assert_allclose(np.sort(off), np.sort(law.residuals), atol=2e-3)


def test_points_on_a_grid_are_drawn_where_they_were_measured(figures):
    points = lattice()
    for axes, column in zip(figures["fit of a grid"].axes, ("params", "tokens")):
        drawn, expected = drawn_points(axes), points[[column, "loss"]].to_numpy()
        drawn, expected = (rows[rows[:, 1].argsort()] for rows in (drawn, expected))
        np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    assert "moved" not in figures["fit of a grid"].get_supxlabel()
    assert "moved" in figures["fit"].get_supxlabel()


def test_the_band_of_a_fit_is_the_bootstraps(narrow, figures):
    law, boot = narrow
    low, high = boot.predict(x=law.runs.values("x"), noise=False)
    band = figures["fit of one input"].axes[0].collections[0].get_paths()[0].vertices
    at = np.isclose(band[:, 0], law.runs.values("x").min())
    assert band[at, 1].min() == pytest.approx(low[0]) and band[at, 1].max() == pytest.approx(high[0])


def test_every_residual_is_drawn_and_far_ones_at_the_edge():
    points = lattice()
    points.loc[3, "loss"] *= 1.5
    law = laws.fit(points)
    for axes in plots.residuals(law).axes:
        drawn = drawn_points(axes)
        assert len(drawn) == len(points)
        assert np.abs(drawn[:, 1]).max() < axes.get_ylim()[1] < np.abs(law.residuals).max()


def test_levels_are_the_datas_own_where_they_are_few():
    few = np.log(np.repeat([1e6, 1e7, 1e8], 4))
    centres, index = group_levels(few + 0.001 * np.arange(12) % 0.004)
    assert len(centres) == 3
    np.testing.assert_array_equal(index, np.repeat([0, 1, 2], 4))
    many, index = group_levels(np.linspace(0, 10, 200))
    assert len(many) == 6 and (np.bincount(index) > 20).all()


def test_a_slice_without_a_minimum_inside_is_named():
    points = scattered(90)
    points = points[(points["flops"] < 5e20) | (points["params"] < 1.7e9)]   # a minimum beyond the largest
    found = isoflop(laws.Runs.from_dataframe(points), draws=50)
    assert not found.table["used"].all()
    figure = plots.isoflop(found)
    marks = [line.get_marker() for line in figure.axes[0].lines]
    assert marks.count("D") == found.table["used"].sum() == 2
    assert figure.axes[0].get_xlim()[1] < 2 * points["params"].max()   # the far minimum does not stretch the axis
    assert "left out" in figure.get_supxlabel()


@pytest.mark.parametrize(("value", "text"), [(1e21, "10²¹"), (3e20, "3 × 10²⁰"), (6.4e19, "6.4 × 10¹⁹")])
def test_budgets_are_written_short(value, text):
    assert compact_power(value) == text


def test_saved_figures_are_png_and_pyplot_is_left_alone(tmp_path, figures):
    plots.save(tmp_path / "fit.png", figures["fit of one input"])
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules or matplotlib.pyplot.get_fignums() == []


def test_the_module_is_light_and_names_its_figures():
    start = "import sys; from scaling.laws import plots; "
    for code, said in (("print({'jax', 'matplotlib', 'scipy'} & set(sys.modules))", "set()"),
                       ("plots.fit, plots.holdout; print('jax' in sys.modules)", "False")):
        ran = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
        assert ran.stdout.strip() == said, ran.stderr
    with pytest.raises(AttributeError, match="fit, forecast, frontier"):
        plots.__getattr__("fitt")
