"""A Transformer survives the way into each layout of Hugging Face and back, and what no layout holds is refused by name."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from foreign_checkpoint import GPT2, LAYOUTS, decoder, held_run, moved_params
from safetensors.numpy import load_file, save_file
from sources import tiny

from scaling import exchange
from scaling.exchange import ExchangeError, huggingface
from scaling.exchange.plain import flat_arrays, from_flat, plain_form

FOLDED = ("llama", "gpt2")  # which have every kind of factor between them; test_torch.py has all of them
TOKENS = np.random.default_rng(0).integers(0, 256, (2, 16))


def logits(family, params):
    looped = dataclasses.replace(family, scan=True)  # which compiles faster
    return np.asarray(jax.jit(looped.logits)(params, TOKENS))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_run_that_is_exported_and_read_back_gives_the_same_logits(name, tmp_path):
    family = decoder(**LAYOUTS[name])
    run = held_run(family)
    made = exchange.export(run, tmp_path / "hf", "hf")
    assert made["model_type"] == name
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
            "tokenizer_config.json"} < set(made["files"])
    back, arrays, _ = huggingface.read_huggingface(tmp_path / "hf")
    plain, wanted = plain_form(family, flat_arrays(run.params))
    assert back == dataclasses.replace(plain, scan=False)
    for path, x in wanted.items():
        np.testing.assert_allclose(arrays[path], x, rtol=2e-7, err_msg=path)
    if name in FOLDED:
        np.testing.assert_allclose(logits(back, from_flat(back, arrays)), logits(family, run.params), atol=2e-5, rtol=0)


def test_a_family_in_plain_form_comes_back_bit_for_bit(tmp_path):
    for name, fields in {"untied": {"qk_norm": False}, "qk_norm": {"window": 3}, "gpt2": GPT2 | {"biases": True}}.items():
        run = held_run(decoder(**fields))
        exchange.export(run, tmp_path / name, "hf")
        family, arrays, _ = huggingface.read_huggingface(tmp_path / name)
        assert family == dataclasses.replace(run.family, scan=False)
        assert all((arrays[path] == x).all() for path, x in flat_arrays(run.params).items())


def test_layer_norm_without_biases_is_a_gpt2_with_biases_of_zero():
    family = decoder(**GPT2)
    given = flat_arrays(moved_params(family))
    plain, arrays = plain_form(family, given)
    assert plain.biases and huggingface.layout_of(family).model_type == "gpt2"
    added = {path: x for path, x in arrays.items() if path not in given}
    assert all(path.endswith("bias") and not x.any() for path, x in added.items()) and len(added) == 9
    assert all((arrays[path] == x).all() for path, x in given.items())


REFUSED = {"logit_cap": {"logit_cap": 30.0}, "document_masking": {"document_masking": True},
           "positions": {"positions": "learned"}, "biases": {"biases": True}, "activation": {"activation": "gelu"},
           "norm": {"norm": "layernorm", "kv_heads": 1, "heads": 2, "window": 4}, "window": GPT2 | {"window": 4},
           "kv_heads": GPT2 | {"heads": 2, "kv_heads": 1}, "head_dim": GPT2 | {"heads": 2, "head_dim": 8},
           "parallel": {"parallel": True}, "rope_share": {"rope_share": 0.5},
           "attention_biases": {"attention_biases": "qkv"},
           "top_k": {"experts": 4, "top_k": 1, "qk_norm": False}}


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_that_no_layout_has_is_named_with_the_format_that_holds_it(field, tmp_path):
    family = decoder(**REFUSED[field])
    with pytest.raises(ExchangeError, match=rf"computes .*family\.{field}=.*write --format=safetensors"):
        exchange.export(held_run(family), tmp_path / "hf", "hf")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["seq2seq", "recurrent", "vae"])
def test_families_that_no_layout_fits_are_refused_with_the_reason(name, tmp_path):
    family = tiny(name).family
    with pytest.raises(ExchangeError, match=rf"the family {name}, because .*; write --format=safetensors"):
        huggingface.layout_of(family)


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("values, says", [
    ({"model_type": "opt"}, "of the type 'opt'.*can be imported: llama"),
    ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ({"attention_bias": True}, "lacks the tensor model.layers.0.self_attn.q_proj.bias"),
    ({"mlp_bias": True}, "mlp_bias=True"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "'yarn'.*computes default, dynamic, linear, llama3 alone"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
                       "original_max_position_embeddings": 8}}, "rope_scaling=llama3:8,4,1,8 is not known"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ({"num_key_value_heads": 3}, "kv_heads=3 must divide"),
    ({"intermediate_size": 40}, r"mlp.gate_proj.weight has the shape \[80, 32\], and config.json asks for \[40, 32\]"),
    ({"num_hidden_layers": 1}, "holds tensors that a llama does not have, such as model.layers.1"),
    ({"num_hidden_layers": 3}, "lacks the tensor model.layers.2"),
    ({"hidden_size": "many"}, "family.width='many' is text")])
def test_a_checkpoint_that_is_computed_otherwise_or_is_not_whole_is_refused(values, says, tmp_path):
    exchange.export(held_run(decoder(qk_norm=False)), tmp_path / "hf", "hf")
    changed(tmp_path / "hf", **values)
    with pytest.raises(ExchangeError, match=says):
        huggingface.read_huggingface(tmp_path / "hf")


def test_names_without_the_head_shards_half_precision_and_buffers_are_read(tmp_path):
    run = held_run(decoder(**GPT2, biases=True, tied=True, logit_scale=32.0))
    exchange.export(run, tmp_path / "hf", "hf")
    whole = load_file(tmp_path / "hf" / "model.safetensors")
    short = {name.removeprefix("transformer."): x.astype(np.float16) for name, x in whole.items()}
    short["h.0.attn.bias"] = np.ones((1, 1, 16, 16), np.float16)
    names = sorted(short)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: short[name] for name in own}, tmp_path / "hf" / part)
    (tmp_path / "hf" / "model.safetensors").unlink()
    index = {"weight_map": {name: part for part, own in parts.items() for name in own}}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    _, arrays, _ = huggingface.read_huggingface(tmp_path / "hf")
    for path, x in flat_arrays(run.params).items():
        np.testing.assert_allclose(arrays[path], x, rtol=1e-3, atol=1e-4)


def test_learned_positions_may_be_cut_and_not_made(tmp_path):
    run = held_run(decoder(**GPT2, biases=True))
    exchange.export(run, tmp_path / "hf", "hf")
    family, arrays, _ = huggingface.read_huggingface(tmp_path / "hf", 8)
    assert family.length == 8
    assert (arrays["model/position/weight"] == flat_arrays(run.params)["model/position/weight"][:8]).all()
    with pytest.raises(ExchangeError, match="--length=17 is more than the 16 tokens"):
        huggingface.read_huggingface(tmp_path / "hf", 17)
