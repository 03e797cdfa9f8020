"""A frontier is optimal; a forecast is written once, cannot be edited unseen, and is checked once."""
import json

import numpy as np
import pytest

from scaling import laws
from scaling.laws import forecast
from test_laws import TRUTH, grid


def attention_cost(N, D):
    """A cost that is not 6ND: attention's share grows with depth, here as N^(1/3)."""
    return 6 * N * D * (1 + 30 * N ** (-1 / 3))


@pytest.mark.parametrize("cost", [None, attention_cost], ids=["6ND", "attention"])
def test_a_frontier_point_beats_its_neighbours_at_equal_cost(cost):
    law = laws.fit(grid(noise=0.003))
    count = cost or (lambda N, D: 6 * N * D)
    for row in laws.frontier(law, np.geomspace(1e16, 1e25, 7), cost).itertuples():
        assert count(row.params, row.data) == pytest.approx(row.flops, rel=1e-8)
        assert law.predict(row.params, row.data) == pytest.approx(row.loss, rel=1e-9)
        for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
            N = row.params * factor
            D = row.flops / count(N, 1.0)  # both costs are linear in D
            assert law.predict(N, D) > row.loss


def test_the_frontier_is_the_closed_form_of_6nd():
    law = laws.fit(grid())
    E, A, B, a, b = TRUTH.values()
    for row in laws.frontier(law, [1e19, 1e23]).itertuples():
        N = (a * A / (b * B)) ** (1 / (a + b)) * (row.flops / 6) ** (b / (a + b))
        assert row.params == pytest.approx(N, rel=1e-5)
        assert row.loss == pytest.approx(E + A * N ** -a + B * (row.flops / 6 / N) ** -b, rel=1e-8)


def test_frontier_intervals_are_those_of_each_refits_own_optimum():
    law = laws.fit(grid(noise=0.005))
    boot = laws.bootstrap(law, 100)
    row = laws.frontier(law, 1e21, boot=boot).iloc[0]
    p = boot.draws
    both = p.alpha + p.beta
    N = (p.alpha * p.A / (p.beta * p.B)) ** (1 / both) * (1e21 / 6) ** (p.beta / both)
    assert (row.params_low, row.params_high) == pytest.approx(tuple(np.quantile(N, [0.05, 0.95])), rel=1e-4)
    assert row.params_low < row.params < row.params_high and row.loss_low < row.loss < row.loss_high


def test_a_frontier_refuses_what_has_none():
    x = np.geomspace(1, 1e4, 8)
    power = laws.fit({"flops": x, "loss": 1 + x ** -0.3}, "saturating_power", loss="loss")
    with pytest.raises(laws.LawError, match="needs a law in N and D"):
        laws.frontier(power, 1e20)
    law = laws.fit(grid())
    with pytest.raises(laws.LawError, match="grow with D"):
        laws.frontier(law, 1e20, lambda N, D: 6 * N + 0 * D)
    with pytest.raises(laws.LawError, match="positive and finite"):
        laws.frontier(law, -1.0)


RECORDS = [{"fingerprint": f"run{i}", "bits_per_byte": 3 - i / 50, "experiment": {"seed": i, "tags": [1, 2]}}
           for i in range(20)]
TARGET = {"params_non_embedding": 1e10, "tokens_seen": 1e11, "flops": 6e21, "fingerprint": "target"}


@pytest.fixture
def made(tmp_path):
    points = grid(noise=0.004).assign(fingerprint=[r["fingerprint"] for r in RECORDS])
    law = laws.fit(points)
    path = tmp_path / "forecast.json"
    content = forecast.write(path, law, laws.bootstrap(law, 200), TARGET, forecast.hashes(RECORDS))
    return path, law, content


def test_a_forecast_says_what_was_predicted_and_from_what(made):
    path, law, content = made
    assert json.loads(path.read_text()) == content == forecast.read(path)
    assert content["predicted"] == law.predict(1e10, 1e11)
    (low, high), (inner_low, inner_high) = content["interval"], content["confidence"]
    assert low < inner_low < content["predicted"] < inner_high < high
    assert content["compute_ratio"] == pytest.approx(6e21 / law.points.flops.max())
    assert set(content["records"]) == {r["fingerprint"] for r in RECORDS}
    assert content["fit"]["params"] == law.params and content["target"] == TARGET


def test_a_forecast_is_never_overwritten(made):
    path, law, _ = made
    before = path.read_bytes()
    with pytest.raises(laws.LawError, match="never overwritten"):
        forecast.write(path, law, laws.bootstrap(law, 50), TARGET, forecast.hashes(RECORDS))
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["forecast.json"]


def test_a_check_scores_the_run_once(made):
    path, _, content = made
    low, high = content["interval"]
    result = forecast.check(path, (low + high) / 2, forecast.hashes(RECORDS))
    assert result["inside"] and result["error"] == result["observed"] - result["predicted"]
    beside = path.parent / "forecast_check.json"
    assert json.loads(beside.read_text()) == result
    assert forecast.check(path, (low + high) / 2, forecast.hashes(RECORDS)) == result
    with pytest.raises(laws.LawError, match="checked once"):
        forecast.check(path, high * 1.01, forecast.hashes(RECORDS))
    assert json.loads(beside.read_text()) == result


def test_a_miss_is_a_miss_and_later_runs_may_join(made):
    path, _, content = made
    joined = forecast.hashes([*RECORDS, {"fingerprint": "target", "bits_per_byte": 9.0}])
    assert not forecast.check(path, content["interval"][1] * 1.001, joined)["inside"]


@pytest.mark.parametrize("edit", [
    lambda c: c.update(predicted=c["predicted"] * 1.01), lambda c: c["interval"].__setitem__(1, 99.0),
    lambda c: c["records"].popitem(), lambda c: c.pop("time"), lambda c: c.update(hash="0" * 64),
    lambda c: c.update(note="added")])
def test_an_edited_forecast_is_refused(made, edit):
    path, _, content = made
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(laws.LawError, match="changed after it was written"):
        forecast.check(path, 2.0, forecast.hashes(RECORDS))
    assert not (path.parent / "forecast_check.json").exists()


def test_changed_or_missing_records_are_named(made):
    path, _, _ = made
    changed = [r | {"bits_per_byte": 2.0} if r["fingerprint"] == "run3" else r for r in RECORDS[:-1]]
    with pytest.raises(laws.LawError, match=r"missing: run19; changed: run3\b"):
        forecast.check(path, 2.0, forecast.hashes(changed))
    assert not (path.parent / "forecast_check.json").exists()


def test_a_forecast_of_a_run_that_exists_is_none(tmp_path):
    points = grid(noise=0.004).assign(fingerprint=[r["fingerprint"] for r in RECORDS])
    law = laws.fit(points)
    boot, known = laws.bootstrap(law, 20), forecast.hashes(RECORDS)
    for target, records, words in [
            (TARGET | {"fingerprint": "run1"}, known, "already among the records"),
            ({"params_non_embedding": 1e10}, known, "lacks 'tokens_seen'"),
            (TARGET, forecast.hashes(RECORDS[1:]), "no record was given for fitted runs run0"),
            (TARGET, {}, "none were given")]:
        with pytest.raises(laws.LawError, match=words):
            forecast.write(tmp_path / "f.json", law, boot, target, records)
    with pytest.raises(laws.LawError, match="there is no forecast"):
        forecast.check(tmp_path / "f.json", 2.0, known)
    (tmp_path / "f.json").write_text("{")
    with pytest.raises(laws.LawError, match="is not a forecast"):
        forecast.check(tmp_path / "f.json", 2.0, known)


def test_a_records_hash_is_of_its_content():
    record = {"fingerprint": "a", "loss": float("nan"), "x": {"b": 1, "a": np.float64(2.5)}, "list": (1, 2)}
    again = {"list": [1, 2], "x": {"a": 2.5, "b": 1}, "loss": float("nan"), "fingerprint": "a"}
    assert forecast.record_hash(record) == forecast.record_hash(again)
    for other in (again | {"loss": 1.0}, again | {"list": [2, 1]}, again | {"extra": None}):
        assert forecast.record_hash(other) != forecast.record_hash(record)
