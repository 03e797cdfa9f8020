"""The page says whether the fitted E is the entropy of the data, where a teacher knows it."""
from types import SimpleNamespace

import pytest

from scaling.report import dataset, fitting


def study(metric, low, high, entropy=(2.5, 0.0), sets=1):
    contents = {"documents": 10, "bytes": 0, "things": "windows", "units": 80, "left_out": {}, "notes": [],
                "entropy": dict(zip(("bits", "error"), entropy, strict=True)) if entropy else {}}
    fit = {"form": "power_mean", "params": {"E": (low + high) / 2}, "intervals": {"E": [low, high]}, "level": 0.9}
    data = [{"name": "zipf", "fingerprint": "f", "contents": contents}] * sets
    return SimpleNamespace(metric=metric, fit=fit, unsure="", study={"data": data}, unit=SimpleNamespace(name="tokens"))


@pytest.mark.parametrize("metric,low,high,said", [
    ("bits_per_byte", 2.4, 2.6, "2.5000, and the fit has 2.50, whose 90% interval 2.40 to 2.60 covers it."),
    ("bits_per_dim", 2.6, 2.8, "does not cover it"), ("excess", -0.1, 0.1, "it is 0, and the fit has")])
def test_the_fitted_e_is_compared_with_the_entropy(metric, low, high, said):
    found = " ".join(fitting.remarks(study(metric, low, high)))
    assert "E is known" in found and said in found


def test_the_error_of_an_estimated_entropy_counts():
    found = " ".join(fitting.remarks(study("bits_per_byte", 2.52, 2.6, (2.5, 0.015))))
    assert "2.500 ± 0.015" in found and "covers it" in found and "not cover" not in found


@pytest.mark.parametrize("changes", [{"metric": "loss"}, {"metric": "bits_per_byte", "entropy": None},
                                     {"metric": "bits_per_byte", "sets": 2}])
def test_nothing_is_said_where_it_is_not_known(changes):
    assert not fitting.remarks(study(**{"low": 2.4, "high": 2.6, **changes}))


def test_what_was_found_is_called_by_its_name():
    [found] = dataset.data_sets(study("excess", 0, 1))
    assert found["facts"][0] == "Found: 10 windows and 80 tokens to train on."
