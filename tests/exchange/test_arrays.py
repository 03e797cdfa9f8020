"""Every family goes into safetensors and back, and a folder is written whole or not at all."""

import json

import jax
import numpy as np
import pytest
from foreign_checkpoint import held_run, moved_params
from safetensors import safe_open
from sources import tiny

from scaling import axes, exchange, families
from scaling.exchange import ExchangeError
from scaling.exchange.folders import new_folder
from scaling.exchange.plain import abstract_arrays, flat_arrays, from_flat
from scaling.store import checkpoint
from scaling.store.files import DamagedFile


def any_params(family):
    """Numbers of every type of array of a family."""
    rng = np.random.default_rng(0)
    return from_flat(family, {path: rng.integers(0, 100, x.shape).astype(x.dtype)
                              for path, x in abstract_arrays(family).items()})


@pytest.mark.parametrize("name", [families.name(cls) for cls in families.all()])
def test_every_family_is_read_back_bit_for_bit_with_the_names_of_its_axes(name, tmp_path):
    experiment = tiny(name)
    params = any_params(experiment.family)
    exchange.export(held_run(experiment.family, params, experiment.data), tmp_path / "out", "safetensors")
    found, back = exchange.read_exported(tmp_path / "out")
    assert found.family == experiment.family and found.data == experiment.data
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for path, x in flat_arrays(params).items():
        again = flat_arrays(back)[path]
        assert again.dtype == x.dtype and (again == x).all(), path
    with safe_open(tmp_path / "out" / "model.safetensors", framework="np") as file:
        named = json.loads(file.metadata()["axes"])
    wanted = zip(checkpoint.flatten(params)[0], jax.tree.leaves(axes.names(params)), strict=True)
    assert named == {path: list(own) for (path, _), own in wanted}


@pytest.fixture(scope="module")
def run():
    experiment = tiny("recurrent")
    return held_run(experiment.family, moved_params(experiment.family), experiment.data)


def test_a_folder_that_holds_files_is_refused_and_an_empty_one_is_filled(run, tmp_path):
    exchange.export(run, tmp_path, "safetensors")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for form in exchange.FORMATS:
        with pytest.raises(ExchangeError, match="holds files already, which are never overwritten"):
            exchange.export(run, tmp_path, form)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ExchangeError, match="is a file"):
        exchange.export(run, tmp_path / "config.json", "safetensors")
    with pytest.raises(ExchangeError, match="--format=tensors is not known; nearest: safetensors"):
        exchange.export(run, tmp_path / "new", "tensors")


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "part").write_text("half")
        raise RuntimeError
    assert not any((tmp_path / "deep").iterdir())


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path):
    with pytest.raises(ExchangeError, match="never overwritten"), new_folder(tmp_path / "out") as folder:
        (folder / "mine").write_text("mine")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("theirs")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_what_is_missing_or_altered_is_named(run, tmp_path):
    exchange.export(run, tmp_path / "out", "safetensors")
    config, weights = tmp_path / "out" / "config.json", tmp_path / "out" / "model.safetensors"
    text, content = config.read_text(), weights.read_bytes()
    config.write_text(text.replace('"width": ', '"width": 1'))
    with pytest.raises(DamagedFile, match="config.json"):
        exchange.read_exported(tmp_path / "out")
    config.write_text(text)
    weights.write_bytes(content[:100])
    with pytest.raises(ExchangeError, match="model.safetensors cannot be read"):
        exchange.read_exported(tmp_path / "out")
    config.write_text("{}")
    with pytest.raises(ExchangeError, match="holds no experiment"):
        exchange.read_exported(tmp_path / "out")
    config.unlink()
    with pytest.raises(ExchangeError, match="has no config.json"):
        exchange.read_exported(tmp_path / "out")


def test_arrays_of_another_family_are_refused(run):
    arrays = flat_arrays(run.params)
    with pytest.raises(ExchangeError, match="also have 'model/more'"):
        from_flat(run.family, arrays | {"model/more": np.zeros(1)})
    with pytest.raises(ExchangeError, match="lack 'model/embed/weight'"):
        from_flat(run.family, {path: x for path, x in arrays.items() if path != "model/embed/weight"})
    with pytest.raises(ExchangeError, match=r"'model/embed/weight' is float64\[2\]"):
        from_flat(run.family, arrays | {"model/embed/weight": np.zeros(2)})
