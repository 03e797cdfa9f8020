"""Studies of music and sound: every variant is a sweep over its data, and a variant that is not known is refused."""

import pytest

from configs import music
from scaling import families
from scaling.fields import ConfigError


@pytest.mark.parametrize("variant,name,family,metric", [
    ("quick", "music/abc", "transformer", "bits_per_byte"), ("abc-ngram-quick", "music/abc", "ngram", "bits_per_byte"),
    ("audio-quick", "music/audio", "transformer", "bits_per_sample"),
    ("speech-gru-quick", "speech/en", "recurrent", "bits_per_sample")])
def test_a_variant_is_a_sweep_over_sizes_and_amounts_of_its_data(variant, name, family, metric):
    config = music.get_config(variant)
    runs = music.sweep(config)
    assert config.metric == metric and {run.data.name for run in runs} == {name}
    assert {families.name(run.family) for run in runs} == {family} and {run.family.vocab for run in runs} == {256}
    assert len({(run.family, run.data.tokens) for run in runs}) == 9 == len(runs)
    assert all(run.data.unique_tokens == 0 or run.data.tokens <= run.data.unique_tokens for run in runs)
    assert bool(config.prompts) == (name == "music/abc") == bool(runs[0].data.samples)


def test_a_full_study_has_more_sizes_and_data_than_a_quick_one():
    full, quick = (music.get_config(variant) for variant in ("audio", "audio-quick"))
    assert max(full.sizes) > max(quick.sizes) and max(full.tokens) > max(quick.tokens) and len(full.factors) == 3


@pytest.mark.parametrize("wrong,known", [("abc-fast", "abc"), ("audio-gr", "audio-gru"), ("lstm-quick", "lstm")])
def test_a_variant_that_is_not_known_is_refused_with_the_nearest(wrong, known):
    with pytest.raises(ConfigError, match=f"not a variant.*{known}"):
        music.get_config(wrong)
