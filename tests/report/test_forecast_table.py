"""The table of forecasts: entries of workdirs, kept for ever, and what is counted and said of them."""

import json

import numpy as np
import pytest
from boxed_flags import TABLE, status_of
from planted_forecast import RECORDS, TARGET, fitted, surface

from scaling import laws
from scaling.report import forecast_table

with TABLE:
    from experiments import forecast_table as command


def study(folder, factor=1.0, scored=True, size=1e10):
    """A folder with a registered forecast, whose target came out at `factor` times the planted law."""
    folder.mkdir(parents=True)
    known = laws.record_hashes(RECORDS)
    target = {**TARGET, "params_non_embedding": size, "fingerprint": f"target{size:g}",
              "experiment": {"family": {"name": "transformer"}, "data": {"name": "zipf"}}}
    laws.forecast.write(folder / "forecast.json", *fitted(), target, known)
    if scored:
        laws.forecast.check(folder / "forecast.json", factor * surface(size, 1e11), known)
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("forecasts")
    study(root / "transformer-zipf-10")
    study(root / "transformer-zipf-30", 1.5, size=2e10)
    study(root / "transformer-zipf-100", scored=False, size=3e10)
    return root


@pytest.fixture(scope="module")
def entries(workdir):
    return [forecast_table.gather(path, path.name) for path in sorted(workdir.iterdir())]


def test_an_entry_says_what_was_forecast_and_what_came_of_it(entries):
    found = {entry["name"]: entry for entry in entries}
    held, missed, waiting = (found[f"transformer-zipf-{n}"] for n in (10, 30, 100))
    assert held["inside"] and not missed["inside"] and waiting["observed"] is None
    assert held["observed"] == pytest.approx(surface(1e10, 1e11)) and held["data"] == "zipf"
    assert missed["relative_error"] == pytest.approx(missed["observed"] / missed["predicted"] - 1)
    assert json.loads(json.dumps(entries)) == entries
    assert forecast_table.naive_error(held) > 0 and forecast_table.naive_error(waiting) is None


def test_only_scored_forecasts_with_a_verdict_count(entries):
    [row] = forecast_table.summaries(entries)
    assert (row["family"], row["forecasts"], row["inside"]) == ("transformer", 2, 1)
    assert row["largest"] == pytest.approx(0.5, rel=0.05) and 0 < row["half_width"] < 0.1
    late = [{**entry, "withheld": "it was registered late"} for entry in entries]
    assert forecast_table.summaries(late) == [] and forecast_table.draw_table(late) is None
    assert "no verdict: it was registered late" in forecast_table.forecasts_markdown(late)


def test_entries_are_never_dropped_and_a_score_is_never_lost(entries):
    first, rest = entries[:1], entries[1:]
    assert forecast_table.merge(first, rest) == forecast_table.merge(rest, first) == forecast_table.merge(entries, [])
    unscored = [{**entry, "observed": None} for entry in entries]
    assert forecast_table.merge(entries, unscored) == forecast_table.merge([], entries)
    assert forecast_table.merge(unscored, entries) == forecast_table.merge([], entries)
    again = {**entries[0], "hash": "registered again"}
    assert len(forecast_table.merge(entries, [again])) == len(entries) + 1


def test_a_forecast_that_was_changed_has_no_verdict(tmp_path):
    folder = study(tmp_path / "transformer-zipf-10")
    path = folder / "forecast_check.json"
    content = json.loads(path.read_text())
    log = folder / "forecasts.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")  # the score is not in the log any more
    entry = forecast_table.gather(folder, "x")
    assert entry["withheld"] and entry["observed"] == content["observed"]
    assert forecast_table.gather(tmp_path, "no forecast here") is None


def test_the_figure_shows_every_scored_forecast(entries):
    figure = forecast_table.draw_table(entries)
    [axes] = figure.axes
    points = np.concatenate([line.get_ydata() for line in axes.lines if line.get_linestyle() == "None"])
    assert sorted(points) == sorted(entry["relative_error"] for entry in entries if entry["observed"] is not None)


def test_forecasts_at_one_ratio_stand_beside_each_other():
    places = forecast_table.beside([10.0, 10.0, 10.1, 30.0, 99.0, 100.0], step=1.04)
    assert places == sorted(places) and min(np.divide(places[1:], places[:-1])) >= 1.04 - 1e-9
    assert places[3] == 30.0 and places[1] == pytest.approx(10.0)


def test_the_command_records_and_writes_a_page(workdir, tmp_path, monkeypatch, capsys):
    def call(*argv):
        return status_of(TABLE, command, argv, monkeypatch), capsys.readouterr().err

    page, record = tmp_path / "page.md", tmp_path / "record.json"
    page.write_text("before\n<!-- forecasts -->\nold\n<!-- end -->\nafter\n")
    assert call(f"--workdir={workdir}", f"--record={record}", f"--page={page}") == (0, "")
    text, kept = page.read_text(), json.loads(record.read_text())
    assert text.startswith("before\n") and text.endswith("<!-- end -->\nafter\n") and "old" not in text
    assert len(kept) == 3 and (tmp_path / "figures" / "forecasts.png").exists()
    assert text.count("| transformer-zipf-") == 3 and "not trained yet" in text
    assert call(f"--record={record}", f"--page={page}")[0] == 0
    assert page.read_text() == text  # what is recorded needs no workdir
    status, said = call(f"--record={record}", f"--page={record}")
    assert status == 1 and said.startswith("error: --page=") and said.count("\n") == 1
