"""Neither a forecast nor the records it was made from can change without being noticed."""
import functools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_forecast import RECORDS, TARGET, fitted, grid

from scaling import laws
from scaling.laws.forecasts import evidence, forecast, sealed


@pytest.fixture
def made(tmp_path):
    """A forecast from named records: (its path, the law, its content)."""
    path = tmp_path / "forecast.json"
    return path, fitted()[0], forecast.write(path, *fitted(), TARGET, laws.record_hashes(RECORDS))


@pytest.fixture
def tabled(tmp_path):
    """A forecast from a table without fingerprints: (its path, the table)."""
    path = tmp_path / "forecast.json"
    forecast.write(path, *fitted(named=False), {"N": 1e10, "D": 1e11})
    return path, grid()


@functools.cache
def text():
    """The bytes of a forecast's file."""
    with tempfile.TemporaryDirectory() as folder:
        forecast.write(Path(folder) / "f.json", *fitted(named=False), {"N": 1e10, "D": 1e11})
        return (Path(folder) / "f.json").read_bytes()


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255),
       how=st.sampled_from(["put", "cut", "in"]))
def test_a_forecast_with_any_byte_changed_is_refused(tmp_path_factory, place, byte, how):
    before = text()
    i = int(place * len(before))
    after = before[:i] + (b"" if how == "cut" else bytes([byte])) + before[i if how == "in" else i + 1:]
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_bytes(after)
    if after == before:
        forecast.read(path)
    else:
        with pytest.raises(laws.LawError, match="changed after it was written|is not a forecast"):
            forecast.read(path)


@pytest.mark.parametrize("edit", [
    lambda c: c.update(predicted=c["predicted"] * 1.01), lambda c: c["interval"].__setitem__(1, 99.0),
    lambda c: c["records"].popitem(), lambda c: c.pop("time"), lambda c: c.update(hash="0" * 64),
    lambda c: c.update(note="added")])
def test_an_edited_forecast_cannot_be_checked(made, edit):
    path, _, content = made
    edit(content)
    path.write_text(sealed.to_text(content))
    with pytest.raises(laws.LawError, match="changed after it was written"):
        forecast.check(path, 2.0, laws.record_hashes(RECORDS))
    assert not (path.parent / "forecast_check.json").exists()


cells = st.tuples(st.integers(0, 19), st.sampled_from(sorted(grid().columns)))


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(20)), more=st.lists(st.floats(0.1, 9.0), max_size=3), cell=cells,
       factor=st.sampled_from([None, 1 + 1e-12, 1.1, np.nan]))
def test_rows_may_move_and_join_but_none_may_change(order, more, cell, factor):
    known = evidence.row_hashes(grid(), grid().columns)
    now = grid()
    if factor:
        now.loc[cell] = now.loc[cell] * factor
    now = pd.concat([now.iloc[list(order)], pd.DataFrame({"bits_per_byte": more, "note": "joined"})])
    now = now.reset_index(drop=True)
    lost = evidence.lost(known, evidence.row_hashes(now, grid().columns))
    assert bool(lost) == bool(factor)
    assert not lost or f"row {cell[0]}" in lost


def test_a_missing_row_is_noticed_even_if_an_equal_row_stays():
    twins = pd.concat([grid(), grid().iloc[:1]], ignore_index=True)
    known = evidence.row_hashes(twins, twins.columns)
    assert evidence.lost(known, evidence.row_hashes(grid(), grid().columns)) == "missing: row 20"


def test_types_and_new_columns_do_not_change_a_row():
    table = pd.DataFrame({"N": [1, 2, 3], "name": ["a", None, "c"], "kept": [True, False, True]})
    known = evidence.row_hashes(table, table.columns)
    other = pd.DataFrame({"kept": [True, False, True, None], "N": [1.0, 2.0, 3.0, 2.5],
                          "name": ["a", np.nan, "c", "d"], "new": 7})
    assert not evidence.lost(known, evidence.row_hashes(other, table.columns))
    flipped = other.assign(kept=True)
    assert evidence.lost(known, evidence.row_hashes(flipped, table.columns)) == "changed: row 1"
    big = pd.DataFrame({"N": [2 ** 60]})
    assert evidence.lost(evidence.row_hashes(big, ["N"]), evidence.row_hashes(big + 1, ["N"]))


def test_a_table_is_read_again_and_the_targets_row_is_found_in_it(tmp_path):
    points, path = tmp_path / "points.csv", tmp_path / "forecast.json"
    grid().to_csv(points, index=False)
    law = laws.fit(points)
    forecast.write(path, law, laws.bootstrap(law, 50), {"N": 1e10, "D": 1e11}, points)
    with pytest.raises(laws.LawError, match="none of the records is the target"):
        forecast.check(path)
    row = {"params_non_embedding": 1e10, "tokens_seen": 1e11, "flops": 6.1e21, "bits_per_byte": 1.95}
    joined = pd.concat([grid(), pd.DataFrame([row])]).sample(frac=1, random_state=0)
    joined.to_csv(points, index=False)
    assert forecast.check(path)["observed"] == 1.95
    pd.concat([joined, joined.assign(bits_per_byte=3)]).to_csv(points, index=False)
    with pytest.raises(laws.LawError, match="2 of the records are the target"):
        forecast.check(path)
    grid().iloc[1:].to_csv(points, index=False)
    with pytest.raises(laws.LawError, match="not as they were .missing|changed: row 0"):
        forecast.check(path, 1.95)
    points.unlink()
    with pytest.raises(laws.LawError, match="points.csv is not there"):
        forecast.check(path, 1.95)


def test_a_changed_row_of_a_table_cannot_be_checked(tabled):
    path, table = tabled
    with pytest.raises(laws.LawError, match="changed: row 3"):
        forecast.check(path, 2.0, table.assign(flops=table.flops * np.where(table.index == 3, 1.01, 1)))
    with pytest.raises(laws.LawError, match="say where the records are"):
        forecast.check(path, 2.0)
    assert not (path.parent / "forecast_check.json").exists()
    assert forecast.check(path, 2.0, table.sample(frac=1, random_state=1))["observed"] == 2.0


def test_changed_or_missing_records_are_named(made):
    path, _, _ = made
    changed = [r | {"bits_per_byte": 2.0} if r["fingerprint"] == "run3" else r for r in RECORDS[:-1]]
    with pytest.raises(laws.LawError, match=r"missing: run19; changed: run3\b"):
        forecast.check(path, 2.0, laws.record_hashes(changed))
    assert not (path.parent / "forecast_check.json").exists()


def test_a_forecast_of_a_run_that_exists_is_refused(tmp_path):
    law, boot = fitted()
    known, here = laws.record_hashes(RECORDS), grid()
    first = {"N": here.params_non_embedding[0], "D": here.tokens_seen[0]}
    for target, records, words in [
            (TARGET | {"fingerprint": "run1"}, known, "run1 is already among the records"),
            (first, known, "already among the records .bits_per_byte = 4.*in row 0"),
            (first | {"flops": 1.0}, None, "already among the records"),
            ({"N": 1e10, "D": 1e11}, pd.concat([here, pd.DataFrame([TARGET | {"bits_per_byte": 2.0}])]),
             "already among the records .bits_per_byte = 2"),
            ({"params_non_embedding": 1e10}, known, "lacks D"),
            (TARGET, laws.record_hashes(RECORDS[1:]), "no record was given for fitted runs run0"),
            (TARGET, {}, "records= is empty"),
            (TARGET, here.drop(columns="bits_per_byte"), "have no column 'bits_per_byte'")]:
        with pytest.raises(laws.LawError, match=words):
            forecast.write(tmp_path / "f.json", law, boot, target, records)
    with pytest.raises(laws.LawError, match="there is no forecast"):
        forecast.check(tmp_path / "f.json", 2.0, known)
    (tmp_path / "f.json").write_text("{")
    with pytest.raises(laws.LawError, match="is not a forecast"):
        forecast.check(tmp_path / "f.json", 2.0, known)
    older = {"predicted": 2.0, "versions": {"scaling": "0.0.9"}}
    (tmp_path / "g.json").write_text(sealed.to_text(older | {"hash": evidence.json_digest(older)}))
    with pytest.raises(laws.LawError, match="another version of scaling, 0.0.9"):
        forecast.check(tmp_path / "g.json", 2.0, known)


def test_a_planned_run_in_the_table_is_no_record(tmp_path):
    planned = pd.concat([grid(), pd.DataFrame([{"params_non_embedding": 1e10, "tokens_seen": 1e11}])],
                        ignore_index=True)
    forecast.write(tmp_path / "f.json", *fitted(named=False), {"N": 1e10, "D": 1e11}, planned)
    planned.loc[20, "bits_per_byte"] = 1.9
    assert forecast.check(tmp_path / "f.json", records=planned)["observed"] == 1.9


def test_hashes_do_not_depend_on_the_order_of_keys_or_numpys_types():
    record = {"a": 1, "b": {"c": [1.5, 2.0], "d": float("nan")}}
    again = {"b": {"d": np.float64("nan"), "c": np.array([1.5, 2.0])}, "a": np.int64(1)}
    assert evidence.record_hash(record) == evidence.record_hash(again)
    for other in ({**record, "a": 2}, {**record, "e": None},
                  {**record, "b": {"c": [2.0, 1.5], "d": float("nan")}}):
        assert evidence.record_hash(other) != evidence.record_hash(record)
