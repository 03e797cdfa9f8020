"""A fit leaves out cells whose best learning rate is at the edge, unless too few would be left or it is told not to."""

import itertools
import warnings

import pandas as pd
import pytest
from report_study import record

from scaling.results import edges, tuned

METRIC = "bits_per_byte"
SIZES, DATA, RATES = (1_000, 4_000, 16_000), (2**15, 2**16, 2**17), (0.01, 0.02, 0.04)


def cells(best, rates=RATES):
    """(runs, tuned cells) of a sweep in which the best of the rates at (N, D) is number `best(N, D)`."""
    runs = [record(n, d, rate, 2.0 + abs(i - best(n, d))) for n in SIZES for d in DATA for i, rate in enumerate(rates)]
    table = tuned.clean(pd.json_normalize(runs).rename(columns=lambda name: name.removeprefix("experiment.")), METRIC)
    return table, tuned.tuned_cells(table, METRIC)


@pytest.mark.parametrize("side", ["lowest", "highest"])
def test_a_cell_at_the_edge_is_left_out_with_its_side(side):
    runs, found = cells(lambda n, d: {"lowest": 0, "highest": 2}[side] if (n, d) == (SIZES[0], DATA[1]) else 1)
    out = edges.left_out(runs, found, 5)
    at = (found[tuned.PARAMS] == SIZES[0]) & (found["data"] == DATA[1])
    assert (out[at] == side).all() and (out[~at] == "").all() and at.sum() == 1
    assert (edges.left_out(runs, found, 5, fit_edges=True) == "").all()


@pytest.mark.parametrize("lost", range(10))
def test_all_stay_where_too_few_cells_would_be_left_for_the_law(lost):
    first = set(itertools.islice(((n, d) for d in DATA for n in SIZES), lost))
    runs, found = cells(lambda n, d: 0 if (n, d) in first else 1)
    for parameters in (2, 5, 8):
        enough = 9 - lost > parameters and lost < 3  # three lost ones are all cells on the least data
        assert (edges.left_out(runs, found, parameters) != "").sum() == (lost if enough else 0)


def test_a_single_rate_has_no_edge():
    runs, found = cells(lambda n, d: 0, rates=(0.01,))
    assert len(found) == 9 and (edges.left_out(runs, found, 5) == "").all()


def test_a_study_of_hundreds_of_columns_says_nothing_of_how_pandas_holds_them():
    records = pd.DataFrame({f"metric_{i}_se": [0.1, 0.2] for i in range(300)} | {
        "params_non_embedding": [10.0, 20.0], "tokens_seen": [100.0, 100.0], "loss": [2.0, 1.9], "learning_rate": [0.1] * 2,
        "role": ["sweep", "sweep"], "fingerprint": ["a", "b"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.PerformanceWarning)
        runs = tuned.clean(records, "loss")
        found = tuned.tuned_cells(runs, "loss")
        left_out = edges.left_out(runs, found, 2, False)
    assert list(found["loss"]) == [2.0, 1.9] and len(left_out) == 2
