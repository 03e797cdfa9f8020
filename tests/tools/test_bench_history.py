"""The history of tools.bench, and docs/speed.md, which is drawn from it."""

import json
import re

from PIL import Image

from tools import _bench_cases as cases
from tools import _bench_history as history
from tools import _bench_page


def content(**changes):
    def figures(value):
        return {"median": value, "low": 0.9 * value, "high": 1.1 * value, "values": [0.9 * value, value, 1.1 * value]}

    found = [{"part": "rates", "what": f"{name}, one run", "unit": "tokens/s", "ours": figures(value), "mfu": figures(0.25),
              "peers": {"torch": figures(value / 2)}, "ratios": {"torch": figures(2.0)}, "compile_seconds": None}
             for name, value in (("S0", 123456.0), ("S1", 23456.0))]
    return {"date": "2026-01-02 03:04", "commit": "abc", "machine": "2 cores of a kind, 8 GiB", "versions": {}, "notes": [],
            "measurements": found} | changes


def test_the_page_and_its_figure_are_those_of_the_history():
    lines = history.read()
    assert history.PAGE.read_text() == _bench_page.page(lines), "run python -m tools.bench --page"
    with Image.open(history.FIGURE) as image:
        assert image.text["Description"] == history.digest(lines), "run python -m tools.bench --page"


def test_every_line_of_the_history_says_when_where_and_what():
    for line in history.read():
        assert {"date", "commit", "machine", "part", "what", "unit", "ours", "ratios"} <= line.keys()
        assert history.day(line) and re.match(r"\d+ cores? of ", line["machine"])
        for median, low, high in [line["ours"], *line["ratios"].values()]:
            assert 0 < low <= median <= high


def test_a_line_for_each_measurement_is_appended(tmp_path):
    path = tmp_path / "history.jsonl"
    history.record(content(), path)
    history.record(content(date="2026-02-03 04:05", commit="def"), path)
    lines = history.read(path)
    assert len(lines) == 4 and lines[0]["ours"] == [123500, 111100, 135800]
    assert lines[0]["ratios"] == {"torch": [2, 1.8, 2.2]} and lines[0]["mfu"] == [0.25, 0.225, 0.275]
    [last] = history.latest(lines).values()
    assert {line["commit"] for line in last.values()} == {"def"}
    assert history.day(lines[-1]) == "3 February 2026"


def test_results_of_other_parts_stay_in_the_file(tmp_path):
    path, first = tmp_path / "all.json", content()
    history.merge(path, first)
    again = content(date="2026-02-03 04:05", commit="def")
    again["measurements"] = again["measurements"][1:]
    history.merge(path, again)
    merged = json.loads(path.read_text())
    assert [found["what"] for found in merged["measurements"]] == ["S0, one run", "S1, one run"]
    assert [line["commit"] for line in history.lines(merged)] == ["abc", "def"]  # where it was measured


def test_a_page_has_a_table_of_each_part_with_a_ratio_to_each_peer():
    lines = history.lines(content())
    lines.append(lines[0] | {"part": "compile", "what": "4 layers", "unit": "s", "ours": [2.5, 2.5, 2.5], "ratios": {}})
    lines[1] |= {"others": 0.125}
    page = _bench_page.page(lines)
    assert "| S1, one run (other processes took 12% of the cores) | 23.5k tokens/s (21.1k to 25.8k) |" in page
    assert "| S0, one run | 124k tokens/s (111k to 136k) | 25% | 2.00 (1.80 to 2.20) |" in page
    assert "### Compilation" in page and "| 4 layers | 2.5 s |" in page and "### Loaders" not in page
    assert "## 2 cores of a kind, 8 GiB" in page and "2 January 2026" in page and "`abc`" in page


def test_what_the_package_compiles_is_on_the_page_where_it_was_measured():
    measured = content()
    measured["measurements"][1]["compile_seconds"] = 7.77
    page = _bench_page.page(history.lines(measured))
    assert "| MFU | compiled in | / torch |" in page and "| 25% | 7.8 s | 2.00 " in page and "| 25% |  | 2.00 " in page
    assert "compiled in" not in _bench_page.page(history.lines(content()))


def test_the_figure_has_a_row_for_each_model_in_order_of_size():
    lines = history.lines(content())[::-1]
    drawn = _bench_page.figure(lines)
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == ["S0, one run", "S1, one run"]


def test_the_figure_has_a_panel_for_each_machine_and_the_last_measured_one_first():
    lines = history.lines(content()) + history.lines(content(machine="4 cores of another kind, 8 GiB"))[:1]
    drawn = _bench_page.figure(lines)
    assert [axes.get_title("left") for axes in drawn.axes] == ["4 cores of another kind, 8 GiB", "2 cores of a kind, 8 GiB"]
    assert [len(axes.get_yticklabels()) for axes in drawn.axes] == [1, 2]
    assert drawn.axes[0].get_xlim() == drawn.axes[1].get_xlim()
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["torch"]
    assert _bench_page.figure([]).axes[0].get_title("left") == "nothing has been recorded yet"


def test_amounts_have_three_digits_and_a_unit():
    assert [history.amount(value, unit) for value, unit in (
        (168_321.0, "tokens/s"), (17.14, "steps/s"), (2.345, "s"), (1.234e9, "bytes"), (999_900.0, "tokens/s"))] == [
        "168k tokens/s", "17.1 steps/s", "2.35 s", "1.23 GB", "1000k tokens/s"]


def test_a_measurement_as_a_sentence():
    assert history.sentence(content()["measurements"][0]) == (
        "rates: S0, one run: 123k tokens/s (111k to 136k), MFU 25%; 2.00 x torch (1.80 to 2.20), 61.7k tokens/s")


def test_names_of_models_are_not_shared():
    names = [case.name for case in (*cases.TEXTS, *cases.IMAGES, *cases.SWEEPS)]
    assert len(set(names)) == len(names)


def test_the_points_of_a_start_have_words():
    line = history.lines(content())[0] | {"part": "startup", "what": "cold cpu_first_step", "ratios": {}}
    assert "| cold caches, until the first step is done, CPU time | " in _bench_page.page([line])
