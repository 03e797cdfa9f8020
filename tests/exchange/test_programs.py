"""A run that is exported as a program gives the same numbers without this package, at every size that is left open."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_checkpoint import decoder, held_run
from jax import export as jax_export
from safetensors.numpy import load_file
from sources import tiny

from scaling import exchange, families
from scaling.exchange import ExchangeError, programs
from scaling.store import files


def read(folder):
    """(the program, its parameters) of an exported folder."""
    program = jax_export.deserialize(bytearray((folder / programs.PROGRAM).read_bytes()))
    return program, load_file(folder / "model.safetensors")


def test_a_decoder_gives_its_logits_for_any_batch_and_length_as_the_readme_in_the_folder_says(tmp_path, monkeypatch):
    family = decoder(positions="learned", layers=1)
    run = held_run(family)
    exchange.export(run, tmp_path, "stablehlo")
    program, params = read(tmp_path)
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    for shape in ((1, 16), (3, 5)):
        tokens = np.random.default_rng(0).integers(0, 256, shape).astype(np.int32)
        own = np.asarray(jax.jit(family.logits)(run.params, tokens))
        np.testing.assert_allclose(program.call(params, {"tokens": tokens}), own, atol=1e-5)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["outputs"].shape == (2, 4, 256)
    assert "The batch size and the number of tokens are free." in (tmp_path / "README.md").read_text()


def test_a_family_without_logits_gives_the_loss_of_each_example(tmp_path):
    experiment = tiny("ngram")
    family = experiment.family
    params = jax.jit(family.init)(jax.random.key(0))
    made = exchange.export(held_run(family, params, experiment.data), tmp_path, "stablehlo")
    assert made["computes"].startswith("the loss of each example")
    program, stored = read(tmp_path)
    given = family.example_batch(3, jax.random.key(1)) | {"example": jnp.arange(3, dtype=jnp.int32)}
    own = jax.jit(family.evaluate)(params, given, jax.random.key(0))["loss"]
    np.testing.assert_allclose(program.call(stored, given), own.over / own.under, atol=1e-5)
    assert files.read_json(tmp_path / "config.json")["inputs"]["tokens"] == {"shape": ["b", "17"], "dtype": "int32"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [families.name(cls) for cls in families.all()])
def test_every_family_computes_the_same_as_a_program(name, tmp_path):
    experiment = tiny(name)
    run = held_run(experiment.family, experiment.family.init(jax.random.key(0)), experiment.data)
    exchange.export(run, tmp_path, "stablehlo")
    program, stored = read(tmp_path)
    _, compute, shapes = programs.program_of(run)
    sizes = {"b": 3, "s": 5}
    given = {name: np.zeros([sizes.get(size, size) for size in shape], dtype) for name, (shape, dtype) in shapes.items()}
    given |= {"example": np.arange(3, dtype=np.int32)} if "example" in given else {}
    found, own = np.asarray(program.call(stored, given)), np.asarray(jax.jit(compute)(run.params, given))
    if found.dtype == np.uint8:  # images, whose levels are rounded
        assert own.dtype == np.uint8 and (np.abs(found.astype(int) - own) <= 1).all()
    else:
        np.testing.assert_allclose(found, own, atol=1e-5)


def test_a_program_needs_flatbuffers_and_says_so(tmp_path, monkeypatch):
    def serialize(self):
        raise ImportError("Please install 'flatbuffers'")

    monkeypatch.setattr(jax_export.Exported, "serialize", serialize)
    with pytest.raises(ExchangeError, match="pip install flatbuffers"):
        exchange.export(held_run(decoder(layers=1)), tmp_path / "out", "stablehlo")
    assert not any(pathlib.Path(tmp_path).iterdir())
