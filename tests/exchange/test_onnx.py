"""A run that is exported to ONNX gives its own numbers in onnxruntime, or is refused; missing packages are named.

Both packages are in the extra `onnx`. `jax2onnx` needs an older orbax than CI has, so CI skips what needs it.
"""

import re
import sys

import jax
import numpy as np
import pytest
from foreign_checkpoint import GPT2, decoder, held_run
from sources import tiny

from scaling import exchange
from scaling.exchange import ExchangeError, onnx_models
from scaling.store import files

MEMBERS = {"rotary": {}, "gpt2": GPT2 | {"biases": True}, "looped": {"scan": True, "window": 4, "heads": 2, "kv_heads": 1},
           "bfloat16": {"dtype": "bfloat16", "tied": True}}


@pytest.fixture
def runtime():
    pytest.importorskip("jax2onnx", reason="jax2onnx makes the models")
    return pytest.importorskip("onnxruntime", reason="onnxruntime computes the models")


@pytest.mark.parametrize("package", onnx_models.PACKAGES)
def test_packages_that_are_missing_are_named_with_the_format_that_needs_none(package, tmp_path, monkeypatch):
    for name in onnx_models.PACKAGES:
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExchangeError, match=r"pip install 'scaling\[onnx\]', or write --format=stablehlo"):
        exchange.export(held_run(decoder(layers=1)), tmp_path / "onnx", "onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_a_decoder_gives_its_logits_for_any_batch_as_the_readme_in_the_folder_says(name, runtime, tmp_path, monkeypatch):
    family = decoder(**MEMBERS[name])
    run = held_run(family)
    made = exchange.export(run, tmp_path / "onnx", "onnx")
    assert made["computes"].startswith("the float32 logits") and "model.onnx" in made["files"]
    session = runtime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    same = decoder(**MEMBERS[name] | {"dtype": "float32"})
    for batch in (1, 5):
        tokens = np.random.default_rng(batch).integers(0, 256, (batch, 16)).astype(np.int32)
        [found] = session.run(["outputs"], {"tokens": tokens})
        np.testing.assert_allclose(found, np.asarray(jax.jit(same.logits)(run.params, tokens)), atol=1e-4)
    monkeypatch.chdir(tmp_path / "onnx")
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "onnx" / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["outputs"].shape == (2, 16, 256)
    said = files.read_json(tmp_path / "onnx" / "config.json")
    assert said["inputs"]["tokens"] == {"shape": ["b", "16"], "dtype": "int32"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hmm", "recurrent", "seq2seq", "textgan", "fsq"])
def test_other_families_are_models_too(name, runtime, tmp_path):
    experiment = tiny(name)
    run = held_run(experiment.family, experiment.family.init(jax.random.key(0)), experiment.data)
    assert "model.onnx" in exchange.export(run, tmp_path / "onnx", "onnx")["files"]


@pytest.mark.slow
def test_what_is_not_converted_or_is_computed_otherwise_is_refused(runtime, tmp_path, monkeypatch):
    with pytest.raises(ExchangeError, match=r"family transformer.*ragged_dot.*write --format=stablehlo"):
        exchange.export(held_run(decoder(experts=3)), tmp_path / "onnx", "onnx")
    monkeypatch.setattr(onnx_models, "TOLERANCE", 0.0)
    with pytest.raises(ExchangeError, match=r"computes alike \(ValueError: what the model gives differs by"):
        exchange.export(held_run(decoder()), tmp_path / "onnx", "onnx")
    assert not any(tmp_path.iterdir())
