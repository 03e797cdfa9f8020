"""Studies on the same data in the same figures, by the metric of all and by others that several have."""

import json

import numpy as np
import pytest
from report_page import Page

from scaling import report
from scaling.figures.palette import Palette
from scaling.report import reading, side_by_side
from scaling.results.records import Records

GRID = [(n, d) for n in (1e4, 1e5) for d in (1e5, 4e5)]
POSITIONS = [{"first": first, "last": last, "bits": bits} for first, last, bits in ((1, 1, 6.0), (2, 3, 4.0), (4, 8, 3.0))]


def fill_kind(workdir, level, moved=1.0, metric="bits_per_byte", data="pycode/stdlib", solved=False, positions=True,
              beside=()):
    """A study whose loss is `level` times N^-0.1 D^-0.1 at the sizes and amounts of data of GRID, times `moved`."""
    for i, (n, d) in enumerate(GRID):
        n, d = n * moved, d * moved
        Records(workdir).write({
            "fingerprint": f"run{i}", "family": "recurrent", "params_non_embedding": n, "tokens_seen": d,
            "tokens_unique": d, "flops": 6 * n * d, "learning_rate": 1e-2, "seed": 0, "role": "sweep",
            metric: level * (n * d) ** -0.1,
            **{name: (n * d) ** (0.05 if name == "coverage" else -0.05) for name in beside},
            "solved": solved, "experiment": {"data": {"name": data}}, "finished": "2100-01-01T00:00:00+00:00"})
    (workdir / "study.json").write_text(json.dumps({"title": "Kinds", "metric": metric, "unit": "tokens",
                                                   "beside": list(beside)}))
    if positions:
        entries = [{"params_non_embedding": n * moved, "fingerprint": f"run{i}", "bits": [
            part | {"bits": part["bits"] * level * n ** -0.1} for part in POSITIONS]} for i, n in ((0, 1e4), (2, 1e5))]
        (workdir / "positions.json").write_text(json.dumps(entries))
    return workdir


@pytest.fixture
def kinds(tmp_path):
    for name in ("lstm", "transformer", "ngram"):
        (tmp_path / name).mkdir()
    return [fill_kind(tmp_path / "lstm", 10.0), fill_kind(tmp_path / "transformer", 9.0, moved=1.1),
            fill_kind(tmp_path / "ngram", 12.0, solved=True, positions=False)]


def read(paths):
    return {path.name: reading.read_study(path) for path in paths}


def lines_of(figure):
    """{colour: (x, y)} of the lines that join points."""
    return {line.get_color(): line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) > 1}


def test_studies_of_one_metric_share_figures_on_the_page(kinds, tmp_path):
    page = Page(report.write_comparison(kinds, tmp_path / "out").read_text())
    for name in ("side-params", "side-data", "side-compute", "side-positions"):
        assert f"figure-{name}" in page.ids and (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 5000
    assert "left out, because" not in page.text and "counts that are stored" in page.text
    assert "Recurrent (lstm) (100 k)" in page.text.replace("100k", "100 k") and "at positions 2 to 3" in page.text


@pytest.mark.parametrize("odd", [{"metric": "loss"}, {"data": "zipf"}])
def test_studies_of_other_metrics_or_data_do_not(kinds, tmp_path, odd):
    (tmp_path / "odd").mkdir()
    assert side_by_side.shared_figures(read([*kinds[:1], fill_kind(tmp_path / "odd", 1.0, **odd)]), Palette((), ())) == {}
    assert side_by_side.shared_figures(read(kinds[:1]), Palette((), ())) == {}  # one study has nothing beside it
    page = report.write_comparison([kinds[0], tmp_path / "odd"], tmp_path / "o").read_text()
    assert "figure-side-params" not in Page(page).ids


def test_lines_hold_the_largest_level_that_all_studies_reach(kinds):
    studies, palette = read(kinds), Palette(range(3), ())
    assert side_by_side.held_at(studies, "data") == pytest.approx({"lstm": 4e5, "transformer": 4.4e5, "ngram": 4e5})
    found = lines_of(side_by_side.draw_beside(studies, palette, "params_non_embedding"))
    np.testing.assert_allclose(found[palette.size(0)], [[1e4, 10 * 4e9 ** -0.1], [1e5, 10 * 4e10 ** -0.1]])
    np.testing.assert_allclose(found[palette.size(1)], [[1.1e4, 9 * 4.84e9 ** -0.1], [1.1e5, 9 * 4.84e10 ** -0.1]])
    found = lines_of(side_by_side.draw_beside(studies, palette, "data"))
    np.testing.assert_allclose(found[palette.size(0)][:, 0], [1e5, 4e5])


def test_lines_hold_the_level_with_the_most_cells(kinds):
    """In a triangle the most data have one size only, so that less data show more of N."""
    studies = read(kinds)
    for study in studies.values():
        study.cells = study.cells.iloc[:3]  # the largest size has the least data alone
    assert side_by_side.held_at(studies, "data") == pytest.approx({"lstm": 1e5, "transformer": 1.1e5, "ngram": 1e5})
    assert side_by_side.held_at(studies, "params_non_embedding") == pytest.approx(
        {"lstm": 1e4, "transformer": 1.1e4, "ngram": 1e4})


def test_slopes_are_said_with_intervals(kinds):
    assert side_by_side.slope_of([1, 10, 100], [2, 2 * 10**-0.3, 2 * 10**-0.6]) == pytest.approx((-0.3, -0.3, -0.3))
    value, low, high = side_by_side.slope_of([1, 10, 100], [2, 1.2, 0.6])
    assert low < value < high and side_by_side.slope_of([1, 10], [2, 1]) is None
    planned = side_by_side.shared_figures(read(kinds), Palette(range(3), ()))
    said = planned["side-compute"].caption
    assert "−0.100 [−0.100, −0.100] (lstm)" in said and "(ngram)" not in said
    assert "Slopes" not in planned["side-params"].caption  # two sizes show no deviation from a line


def test_a_run_that_a_cheaper_one_beats_is_off_the_line_against_compute(kinds):
    study = read(kinds)["lstm"]
    study.cells = study.cells.assign(bits_per_byte=[1.3, 1.0, 1.1, 0.9])  # the third costs more than the second
    assert list(side_by_side.frontier_of(study)["bits_per_byte"]) == [1.3, 1.0, 0.9]
    drawn = lines_of(side_by_side.draw_frontiers(read(kinds), Palette(range(3), ()), "bits_per_byte"))
    assert drawn[Palette(range(3), ()).size(2)][0][1] == drawn[Palette(range(3), ()).size(2)][1][1]  # counted: a level


def test_the_loss_by_position_is_that_of_the_largest_model(kinds):
    drawn = lines_of(side_by_side.draw_positions(read(kinds), Palette(range(3), ())))
    assert len(drawn) == 2  # of the third study nothing is known
    np.testing.assert_allclose(drawn[Palette(range(3), ()).size(0)], [
        [(p["first"] * p["last"]) ** 0.5, p["bits"] * 10 * 1e5 ** -0.1] for p in POSITIONS])


def test_a_metric_beside_that_several_studies_have_gets_a_figure_and_rows_of_its_own(tmp_path):
    """A study whose own metric is another one takes part, and colours belong to studies, not to places in a figure."""
    paths = []
    for name, metric, beside in (("vae", "bits_per_dim", ["coverage"]), ("gan", "fd_infinity_relative", ["coverage"]),
                                 ("diffusion", "bits_per_dim", ["fd_infinity_relative", "coverage"])):
        (tmp_path / name).mkdir()
        paths.append(fill_kind(tmp_path / name, 1.0, metric=metric, data="glyphs/letters", positions=False, beside=beside))
    studies, palette = read(paths), Palette(range(3), ())
    figures = side_by_side.shared_figures(studies, palette)
    assert list(figures) == [f"side-compute-{name}" for name in ("bits_per_dim", "coverage", "fd_infinity_relative")]
    held = {"bits_per_dim": {0, 2}, "coverage": {0, 1, 2}, "fd_infinity_relative": {1, 2}}
    for metric, places in held.items():
        assert set(lines_of(side_by_side.draw_frontiers(studies, palette, metric))) == {palette.size(i) for i in places}
    assert "0.050 [0.050, 0.050] (gan)" in figures["side-compute-coverage"].caption
    page = Page(report.write_comparison(paths, tmp_path / "out").read_text())
    assert "figure-side-compute-coverage" in page.ids and "left out, because" not in page.text
