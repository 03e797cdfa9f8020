"""Runs from tables and workdirs: columns are found or named, drops are noted, bad requests are refused in one sentence."""
import numpy as np
import pandas as pd
import pytest
from report_study import fill, fill_images

from scaling import laws
from scaling.laws.forms.catalogue import get_form

TABLE = pd.DataFrame({"params": [1e6, 2e6, 4e6, 8e6], "tokens": [1e8, 1e8, 2e8, 2e8], "loss": [3.0, 2.8, 2.6, np.nan],
                      "kind": ["a", "a", "b", "b"], "kept": [True, True, False, True]})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_runs(tmp_path, suffix):
    path = tmp_path / f"points{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        TABLE.to_parquet(path)
    elif suffix == ".jsonl":
        TABLE.to_json(path, orient="records", lines=True)
    else:
        TABLE.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    runs = laws.Runs.from_csv(path)
    assert runs.columns == {"N": "params", "D": "tokens", "y": "loss"}
    np.testing.assert_array_equal(runs.values("N"), TABLE.params)
    np.testing.assert_array_equal(runs.y, TABLE.loss)
    np.testing.assert_allclose(runs.flops, 6 * TABLE.params * TABLE.tokens)
    np.testing.assert_allclose(runs.values("M"), TABLE.tokens / TABLE.params)
    assert len(runs.source["sha256"]) == 64


def test_named_columns_take_precedence_over_well_known_ones():
    table = TABLE.assign(width=[1, 2, 3, 4], flops=[1, 2, 3, 4.0])
    runs = laws.Runs.from_dataframe(table, y="tokens", params="width", x="flops")
    assert runs.columns["y"] == "tokens" and runs.columns["N"] == "width"
    np.testing.assert_array_equal(runs.inputs(get_form("power")), np.log([[1, 2, 3, 4.0]]))
    np.testing.assert_array_equal(runs.flops, [1, 2, 3, 4])


def test_dropped_runs_are_noted_with_row_and_reason():
    runs = laws.Runs.from_dataframe(TABLE, where="kept").where("loss > 0")
    assert list(runs.rows) == [0, 1] and list(runs.frame["loss"]) == [3.0, 2.8]
    assert runs.dropped == [{"row": 2, "why": "not kept"}, {"row": 3, "why": "not loss > 0"}]
    assert runs.manifest()["rows"] == [0, 1]


def test_seeds_are_averaged_with_their_standard_error():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"N": np.repeat([1e6, 2e6], 4), "D": 1e8, "loss": rng.normal(2, 0.1, 8)})
    runs = laws.Runs.from_dataframe(table).averaged()
    groups = table.loss.to_numpy().reshape(2, 4)
    np.testing.assert_allclose(runs.y, groups.mean(1))
    np.testing.assert_allclose(runs.frame["loss_se"], groups.std(1, ddof=1) / 2)
    assert list(runs.frame["seeds"]) == [4, 4] and list(runs.rows) == [0, 4]


@pytest.mark.parametrize("call, words", [
    (lambda p: laws.Runs.from_dataframe(TABLE, y="bits"), "no column 'bits' for y; the columns are params, tokens"),
    (lambda p: laws.Runs.from_dataframe(TABLE, where="kind =="), "cannot select runs by 'kind =='"),
    (lambda p: laws.Runs.from_dataframe(TABLE, where="sort == 1"), "cannot select runs by 'sort == 1'"),
    (lambda p: laws.Runs.from_dataframe(TABLE, where="loss > 9"), "no run is left where 'loss > 9'"),
    (lambda p: laws.Runs.from_csv(p / "none.csv"), "there is no file"),
    (lambda p: laws.Runs.from_csv(p / "none.xyz"), "no suffix of a table that can be read"),
    (lambda p: laws.Runs.from_dataframe(TABLE).values("U"), "which column is U? Say unique=<column>"),
    (lambda p: laws.Runs.from_dataframe(TABLE, x="kind").values("x"), "column 'kind' is not numeric"),
    (lambda p: laws.Runs.from_dataframe(TABLE).positive("y"), "(first: nan in row 3)"),
    (lambda p: laws.Runs.from_workdir(p), "holds no records yet")])
def test_bad_requests_are_refused_in_one_sentence(tmp_path, call, words):
    with pytest.raises(laws.LawError) as caught:
        call(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreadable_table_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "bad.csv").write_bytes(b"a,b\n1,2,3\n4,5,6,7\n")
    for name in ("bad.parquet", "bad.csv"):
        with pytest.raises(laws.LawError, match="could not be read as a table") as caught:
            laws.Runs.from_csv(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write, metric, data", [(fill, "bits_per_byte", "tokens_seen"),
                                                 (fill_images, "fd_infinity", "examples_seen")])
def test_a_workdir_gives_its_tuned_runs(tmp_path, write, metric, data):
    records = pd.DataFrame(write(tmp_path))
    runs, every = laws.Runs.from_workdir(tmp_path), laws.Runs.from_workdir(tmp_path, tuned=False)
    assert runs.columns["y"] == metric and runs.columns["D"] == data and runs.columns["C"] == "flops"
    sweep = records[(records["role"] == "sweep") & records[metric].notna()]
    assert len(every) == len(sweep)
    best = sweep.groupby(["params_non_embedding", data])[metric].min()
    assert len(runs) <= len(best) and runs.y.min() >= best.min() - 1e-12
    assert np.isfinite(runs.y).all()
    assert laws.fit(runs).params["A"] > 0
    with pytest.raises(laws.LawError, match="no metric 'nonsense'"):
        laws.Runs.from_workdir(tmp_path, metric="nonsense")

