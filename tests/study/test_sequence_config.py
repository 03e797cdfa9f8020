"""configs/sequence.py: six kinds of sequence models meet at about equal parameters, on equal data."""

import pathlib

import pytest

from experiments import _sequences
from scaling.fields import ConfigError
from scaling.study import configs

PATH = f"{pathlib.Path(__file__).parents[2]}/configs/sequence.py"


def sweep(kind):
    module = configs.load_config(PATH)
    return module.sweep(module.get_config(f"{kind}-quick"))


def test_the_kinds_meet_at_equal_sizes_and_data():
    runs = {kind: sweep(kind) for kind in _sequences.KINDS}
    base = runs["transformer"]
    for kind, own in runs.items():
        assert {_sequences.kind_of(run.family) for run in own} == {kind}
        assert [run.data for run in own] == [run.data for run in base]  # so they see the same windows in the same order
    for own in runs.values():
        sizes, wanted = ([_sequences.non_embedding(run) for run in some[::3]] for some in (own, base))
        assert all(0.7 < n / m < 1.4 for n, m in zip(sizes, wanted, strict=True))


def test_rates_and_batches_go_with_the_data_by_the_rule_of_the_kind():
    for kind, found in _sequences.KINDS.items():
        runs = sweep(kind)[:3]
        assert [run.data.batch for run in runs] == [2, _sequences.BATCH, 6]  # whole pairs near the root of the data
        for run in runs if found.rate else ():
            of_data, of_batch = run.data.tokens / _sequences.LEAST, run.data.batch / _sequences.BATCH
            assert run.optim.learning_rate == pytest.approx(found.rate * of_data**-0.3 * of_batch**0.5, rel=0.01)


@pytest.mark.parametrize("variant", ["lstn", "lstm-fast", "quick"])
def test_an_unknown_kind_is_refused_with_the_nearest_ones(variant):
    with pytest.raises(ConfigError, match="is no kind of sequence model; nearest: "):
        configs.load_config(PATH).get_config(variant)
