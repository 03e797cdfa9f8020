"""The page of two recipes: it agrees with the comparison, is self-contained, and has every figure that there is."""

import numpy as np
import pytest
from planted_recipes import Planted, ladders
from report_page import Page

from scaling import laws, report
from scaling.laws.recipes.verdict import RULES


@pytest.fixture(scope="module")
def found():
    return laws.speedup(*ladders(Planted(1.4, 0.9), np.random.default_rng(0)), draws=300)


def test_the_page_says_what_the_comparison_found(found, tmp_path):
    path = report.write_speedup(found, tmp_path)
    page = Page(path.read_text())
    text = page.all("main")[0]["text"]
    assert path == tmp_path / "index.html" and found.because in text and all(rule in text for _, rule in RULES)
    rows = [element["text"] for element in page.all("tr")][1:]
    assert len(rows) == len(found.table) and all("3 pairs" in row for row in rows)
    assert len(page.all("svg")) == 2 and {each.name for each in (tmp_path / "figures").iterdir()} == {"speedup.png",
                                                                                                       "recipes.png"}
    assert all(link.startswith(("#", "data:")) for link in page.references)


def test_an_undecided_comparison_of_given_speedups_says_what_would_decide_it(tmp_path):
    given = laws.speedup_of_ratios([1e18, 1e19], [1.3, 1.2], names=("adamw", "<b>muon</b>"))
    text = report.write_speedup(given, tmp_path).read_text()
    page = Page(text)
    assert given.advice in page.all("main")[0]["text"] and "no interval is known" in text
    assert len(page.all("svg")) == 1 and "<b>muon</b>" not in text.replace("<svg", "")


def test_an_interval_without_an_end_does_not_flatten_the_figure(found):
    base, change = ladders(Planted(seeds=1, noise=0.01), np.random.default_rng(0))
    wide = laws.speedup(base, change, draws=300)
    for one in (found, wide):
        bottom, top = laws.plots.speedup(one).axes[0].get_ylim()
        assert bottom < one.table["speedup"].min() and one.table["speedup"].max() < top < 30
