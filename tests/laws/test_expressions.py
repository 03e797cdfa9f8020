"""Expressions in columns: `where` reads yes and no as people write it, columns are computed, and advice works."""
import re

import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws.tables.expressions import quoted

FRAME = pd.DataFrame({
    "N": [1e6, 1e7, 1e8], "D": [1e8] * 3, "loss": [3.0, np.inf, 2.0], "ok": ["yes", " NO", None], "t": ["T", "f", ""],
    "bit": [1.0, 0.0, np.nan], "maybe": pd.array([True, False, None], dtype="boolean"), "word": [True, "false", "NA"],
    "kind": ["a", "b", None], "train/loss": [1, 2, 3.0], "acc": [0.1, 0.2, 0.3], "big": [2 ** 70, 1, 2],
    "lambda": [1, 2, 3]})


@pytest.mark.parametrize("column", ["ok", "t", "bit", "maybe", "word"])
def test_yes_and_no_are_read_as_people_write_them_and_missing_is_neither(column):
    def rows(where):
        return list(laws.Runs.from_dataframe(FRAME, where=where).rows)
    assert rows(column) == [0] and rows(f"{column} and acc < 1") == [0] and rows(f"{column} | False") == [0]
    assert rows(f"not {column}") == rows(f"~{column}") == [1]


@pytest.mark.parametrize("where, rows", [
    ("loss < 4 & acc > 0.15", [2]), ("`train/loss` > 1", [1, 2]), ("kind in ['a', 'b']", [0, 1]), ("ok == 'yes'", [0]),
    ("0 < loss < inf", [0, 2]), ("big > 1e20", [0]), ("log(acc) < -1.5", [0, 1]), ("loss.notna()", [0, 1, 2]),
    ("`lambda` == 2", [1]), ("kind == 'a|b' or acc == 0.3", [2])])
def test_expressions_of_pandas_select(where, rows):
    assert list(laws.Runs.from_dataframe(FRAME, where=where).rows) == rows


@pytest.mark.parametrize("column", ["kind", "loss", "acc", "train/loss"])
def test_a_column_that_is_no_yes_or_no_is_refused_and_the_advice_selects_rows(column):
    with pytest.raises(laws.LawError, match="not true or false: it has the values") as caught:
        laws.Runs.from_dataframe(FRAME, where=quoted(column))
    advice = re.search(r"such as (['\"])(.+)\1$", str(caught.value))
    assert len(laws.Runs.from_dataframe(FRAME, where=advice[2])) >= 1


def test_columns_are_computed():
    def read(**columns):
        return laws.Runs.from_dataframe(FRAME, **columns)
    runs = read(y="1 - acc", params="N/1e6", x="log1p(`train/loss`)")
    np.testing.assert_allclose(runs.y, [0.9, 0.8, 0.7])
    np.testing.assert_allclose(runs.values("N"), [1, 10, 100])
    np.testing.assert_allclose(runs.values("x"), np.log1p([1, 2, 3]))
    assert read(y="train/loss").columns["y"] == read(y="`train/loss`").columns["y"] == "train/loss"
    assert runs.columns["y"] == "1 - acc" and "1 - acc" in runs.frame   # what a saved fit holds


@pytest.mark.parametrize("y, words", [
    ("1 - ac", ["'1 - ac'", "'ac'", "columns are"]), ("bits", ["'bits'", "columns are"]), ("los", ["did you mean 'loss'"]),
    ("kind + 1", ["'kind + 1'"]), ("3", ["one number for all rows"]), ("loss +", ["'loss +'"])])
def test_what_is_neither_a_column_nor_an_expression_is_refused(y, words):
    with pytest.raises(laws.LawError) as caught:
        laws.Runs.from_dataframe(FRAME, y=y)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["loss", "val loss", "a/b", "lambda", "2020", "état"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_the_advice_about_values_without_a_logarithm_works(name, bad):
    table = pd.DataFrame({"N": [1e6, 2e6, 3e6], "D": [1e8, 2e8, 3e8], name: [3.0, bad, 2.0]})
    runs = laws.Runs.from_dataframe(table, y=name)
    with pytest.raises(laws.LawError, match="must be positive and finite") as caught:
        runs.positive("y")
    where = re.search(r"where='([^']+)'", str(caught.value))
    np.testing.assert_array_equal(runs.where(where[1]).positive("y"), [3.0, 2.0])
    other = runs.where(runs.usable("y", positive=False))
    assert np.isfinite(other.y).all()


@pytest.mark.parametrize("values", [[-3.0, -2.5, -2.0], [-3.0, np.nan, -2.0]])
def test_a_metric_that_is_negative_everywhere_is_fitted_with_its_sign_turned(values):
    table = pd.DataFrame({"N": [1e6, 2e6, 3e6], "D": [1e8, 2e8, 3e8], "log likelihood": values})
    with pytest.raises(laws.LawError) as caught:
        laws.Runs.from_dataframe(table, y="log likelihood").positive("y")
    found = dict(re.findall(r"\b(y|where)='([^']+)'", str(caught.value)))
    assert (laws.Runs.from_dataframe(table, **found).positive("y") > 0).all()


def test_an_input_that_may_be_zero_is_counted_from_one_as_advised():
    table = pd.DataFrame({"D_F": [0.0, 10.0, 100.0], "N": [1e6, 2e6, 3e6], "loss": [3.0, 2.5, 2.0]})
    with pytest.raises(laws.LawError) as caught:
        laws.Runs.from_dataframe(table).positive("D_F")
    expression = re.search(r"with (.+) in place of", str(caught.value))[1]
    np.testing.assert_array_equal(laws.Runs.from_dataframe(table, D_F=expression).positive("D_F"), [1, 11, 101])


def test_weights_may_be_an_expression():
    table = pd.DataFrame({"x": [1.0, 2.0, 4.0, 8.0], "loss": [3.0, 2.5, 2.2, 2.0], "se": [0.1, 0.2, 0.1, 0.2]})
    fit = laws.fit(laws.Runs.from_dataframe(table), "power", weights="1 / se**2")
    np.testing.assert_allclose(fit.weights, [100, 25, 100, 25])
    with pytest.raises(laws.LawError, match="no column 'w' of weights"):
        laws.fit(laws.Runs.from_dataframe(table), "power", weights="w")
