"""The metric `excess` is there exactly where a source knows its entropy and the family has a likelihood."""

import dataclasses

import pytest

from scaling import experiment as experiments
from scaling.fields import ConfigError
from scaling.study import checks
from scaling.study.definition import Definition

KNOWN = {"transformer": {"data.name": "hmm:4", "data.length": 8, "family.vocab": 64},
         "associative": {"data.name": "zipf", "data.length": 1},
         "vae": {"data.name": "teacher", "data.levels": 4}}


def definition(family, metric="excess", **data):
    config = experiments.config(family, **{k: v for k, v in data.items() if k.startswith("data.")})
    config.family.size = 1e4
    return Definition("title", metric, [experiments.from_config(config)], None)


@pytest.mark.parametrize("family", KNOWN)
def test_a_study_of_a_teacher_may_be_about_the_excess(family):
    known = definition(family, **KNOWN[family])
    checks.check_study(known)
    checks.check_study(dataclasses.replace(known, beside=("loss",)), ("iid",))


@pytest.mark.parametrize("family", KNOWN)
def test_a_study_of_other_data_may_not(family):
    with pytest.raises(ConfigError, match="excess needs data whose entropy is known, such as data.name=zipf"):
        checks.check_study(definition(family))


def test_a_family_without_a_likelihood_has_none():
    with pytest.raises(ConfigError, match="'excess' is no metric of these runs"):
        checks.check_study(definition("gan", **KNOWN["vae"]))


def test_the_vocabulary_follows_the_teacher():
    e = definition("transformer", **KNOWN["transformer"]).sweep[0]
    assert e.family.vocab == 64 and e.replace({"data.name": "hmm:4,vocab=9"}).family.vocab == 9
    with pytest.raises(ConfigError, match="leave it out"):
        e.replace({"data.tokenizer": "bpe:300"})
