"""The error of a difference between runs that were evaluated on the same examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.results import pairs
from scaling.results.pairs import Scores


def simulated(rng, runs, documents=60, common=0.3, own=0.02):
    """Runs on the same documents of several windows: hard text is hard for all of them."""
    clusters = np.repeat(np.arange(documents), rng.integers(1, 6, documents))
    under = rng.integers(90, 128, len(clusters)).astype(float)
    hard = 2 + common * rng.normal(size=documents)[clusters] + 0.1 * rng.normal(size=len(clusters))
    each = hard * (1 - 0.05 * np.arange(runs)[:, None]) + own * rng.normal(size=(runs, documents))[:, clusters]
    return {f"run{i}": Scores(under * x, under, clusters) for i, x in enumerate(each)}


def test_the_error_of_a_comparison_is_its_spread_over_other_documents():
    rng = np.random.default_rng(0)
    found = [pairs.compare_runs(*simulated(rng, 2).values()) for _ in range(600)]
    spread = np.std([each.log_ratio for each in found])
    assert np.mean([each.standard_error for each in found]) == pytest.approx(spread, rel=0.1)
    assert np.mean([each.log_ratio for each in found]) == pytest.approx(np.log(0.95), abs=0.003)


def test_the_common_error_and_those_of_each_run_agree_with_their_spread():
    rng = np.random.default_rng(1)
    sets, found = [simulated(rng, 4) for _ in range(600)], []
    for scores in sets:
        values = [each.over.sum() / each.under.sum() for each in scores.values()]
        found.append((pairs.evaluation_errors(scores), np.log(values)))
    logs = np.array([each for _, each in found])
    means = logs.mean(1)
    assert np.mean([errors.common for errors, _ in found]) == pytest.approx(means.std(), rel=0.1)
    for i in range(4):
        said = np.mean([errors.own[f"run{i}"] for errors, _ in found])
        assert said == pytest.approx((logs[:, i] - means).std(), rel=0.1)
        assert said < 0.3 * means.std()


@given(metric=st.sampled_from(["loss", "bits_per_byte", "absent"]), index=st.integers(0, 2), clustered=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, metric, index, clustered):
    rng, workdir = np.random.default_rng(index), tmp_path_factory.mktemp("scores")
    over, under, clusters = rng.normal(2, 1, (3, 20)), rng.uniform(1, 2, (3, 20)), np.arange(20) // 3
    found = {"loss": (over, np.ones((3, 20))), "bits_per_byte": (over, under), "absent": (over[:, 0], under[:, 0])}
    path = pairs.scores_path(workdir, "run")
    path.parent.mkdir()
    path.write_bytes(pairs.scores_to_bytes(found, index, clusters if clustered else None))
    read = pairs.read_scores(workdir, "run", metric)
    if metric == "absent":  # it is no metric of examples
        assert read is None
        return
    np.testing.assert_allclose(read.over, over[index], rtol=1e-6)
    np.testing.assert_allclose(read.under, found[metric][1][index], rtol=1e-6)
    np.testing.assert_array_equal(read.clusters, clusters if clustered else np.arange(20))


def test_a_damaged_or_missing_file_is_no_scores(tmp_path):
    assert pairs.read_scores(tmp_path, "run", "loss") is None
    path = pairs.scores_path(tmp_path, "run")
    path.parent.mkdir()
    whole = pairs.scores_to_bytes({"loss": (np.random.default_rng(0).normal(2, 1, (1, 500)), np.ones((1, 500)))}, 0)
    for damaged in (b"", whole[:300], whole[:200] + bytes([whole[200] ^ 8]) + whole[201:]):
        path.write_bytes(damaged)
        assert pairs.read_scores(tmp_path, "run", "loss") is None


def test_smaller_evaluation_sets_are_compared_on_what_both_have_and_other_examples_not_at_all():
    first, second = simulated(np.random.default_rng(3), 2).values()
    count = len(first.over) // 2
    cut = Scores(*(part[:count] for part in second))
    found = pairs.compare_runs(first, cut)
    assert found == pairs.compare_runs(Scores(*(part[:count] for part in first)), cut) and found.examples == count
    with pytest.raises(ValueError, match="different examples"):
        pairs.compare_runs(first, Scores(second.over, second.under, second.clusters[::-1]))
    assert pairs.read_errors("nowhere", ["run"], "loss") is None
