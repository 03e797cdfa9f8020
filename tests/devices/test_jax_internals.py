"""Private parts of JAX are used in one file, which says what to do on a JAX that lacks them."""

import importlib.util
import pathlib
import sys

import jax
import pytest
from jax._src import clusters

from scaling.devices import _jax_internals

FILE = pathlib.Path(_jax_internals.__file__)
PACKAGE = FILE.parents[1]


def load_again():
    """A new copy of the module, as a fresh interpreter would load it."""
    spec = importlib.util.spec_from_file_location("fresh_jax_internals", FILE)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_no_other_file_of_the_package_mentions_jax_src():
    assert [path for path in sorted(PACKAGE.rglob("*.py")) if "jax._src" in path.read_text()] == [FILE]


def test_this_jax_has_them():
    load_again()
    assert _jax_internals.distributed_state().client is None  # this process is on its own
    assert _jax_internals.detect_cluster(()) is None


@pytest.mark.parametrize("module", ["jax._src.distributed", "jax._src.clusters"])
def test_a_jax_without_the_module_is_refused_with_what_to_do(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"JAX {jax.__version__} lacks .*{module}.*; install an older JAX, or adapt"):
        load_again()


def test_a_jax_without_the_attribute_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.delattr(clusters.ClusterEnv, "_cluster_types")
    with pytest.raises(ImportError, match="_cluster_types.*install an older JAX, or adapt"):
        load_again()
