"""A trace is written and read back, names operations with their places in the code, and changes no result."""

import filecmp
import re

import jax
import jax.numpy as jnp
import pytest
from launcher import results
from tiny_workdir import text_workdir

from scaling.fields import ConfigError
from scaling.nn import layers
from scaling.study.preflight import check_profile
from scaling.sweeps import profiling
from scaling.sweeps.runner import TrainingOptions

STEPS = 3


@pytest.fixture(scope="module")
def workdirs(corpus, tmp_path_factory):
    """(the workdir of two runs, that of the same runs traced)."""
    found = []
    for steps in (0, STEPS):
        folder = tmp_path_factory.mktemp(f"profile-{steps}")
        text_workdir(folder, corpus, target=False, options=TrainingOptions(profile=steps, log_every=2))
        found.append(folder)
    return found


def test_a_trace_changes_no_bit_of_the_results(workdirs):
    plain, traced = workdirs
    assert results(plain) == results(traced) and len(results(plain)) == 2
    for folder in ("curves", "scores"):
        same = filecmp.dircmp(plain / folder, traced / folder)
        assert same.common_files and not (same.diff_files or same.left_only or same.right_only)
    digests = [sorted((path.relative_to(root), path.read_bytes()) for path in root.glob("params/*/*/digests.json"))
               for root in workdirs]
    assert not (plain / "profile").exists() and len(digests[0]) == len(digests[1]) == 2


def test_the_slowest_operations_are_those_of_the_step_with_their_places(workdirs):
    found = profiling.slowest_operations(workdirs[1] / "profile", most=1000)
    assert found == sorted(found, key=lambda one: -one.seconds)
    assert sum(one.share for one in found) == pytest.approx(1) and all(one.seconds > 0 and one.times for one in found)
    assert len(profiling.slowest_operations(workdirs[1] / "profile")) == profiling.SLOWEST
    assert any("dot" in one.name or "fusion" in one.name for one in found)
    assert profiling.slowest_operations(workdirs[0] / "profile") == []


def test_the_text_of_a_program_says_where_an_operation_comes_from():
    x = jnp.ones((4, 4))
    places = profiling._places([jax.jit(lambda x: layers.product(jnp.tanh(x), x)).lower(x).compile().as_text()])
    assert any(re.fullmatch(r"scaling/nn/layers\.py:\d+ \(dot_general\)", place) for place in places.values()), places
    assert any(place == "(tanh)" for place in places.values())  # which is not of the package


def test_what_cannot_be_traced_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--executor, or --profile"):
        check_profile(TrainingOptions(profile=4, executor=object()), tmp_path)
    with pytest.raises(ConfigError, match="must be a local folder, not gs://bucket/a"):
        check_profile(TrainingOptions(profile=4), "gs://bucket/a")
    check_profile(TrainingOptions(), "gs://bucket/a")
