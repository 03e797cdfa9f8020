"""Encoders of masked text become checkpoints of EuroBERT, in which a token stands for hidden ones, and such checkpoints
encoders."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from foreign_checkpoint import held_run
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

import scaling
from scaling import exchange
from scaling.data.tokenizers import BPE, Bytes
from scaling.exchange import ExchangeError, huggingface
from scaling.exchange.plain import abstract_arrays, as_decoder, flat_arrays, from_flat
from scaling.exchange.tokens import write_tokenizer
from scaling.families.masked import Masked
from scaling.study import evaluating

FORMS = {"untied": {"norm_epsilon": 1e-2, "rope_base": 50.0}, "scaled": {"logit_scale": 0.5, "base_layers": 1, "heads": 2},
         "tied": {"tied": True, "logit_scale": 32.0},
         "tied and scaled": {"tied": True, "logit_scale": 1.7, "base_layers": 1, "depth_exponent": 0.5}}
TOKENS = np.random.default_rng(0).integers(1, 256, (2, 16))
PLACES = np.array([[0, 3, 9], [15, 2, 7]], np.int32)


def encoder(**fields) -> Masked:
    return Masked(**{"vocab": 256, "length": 16, "width": 32, "layers": 2, "qk_norm": False} | fields)


@pytest.mark.parametrize("form", FORMS)
def test_every_array_of_a_run_is_in_its_checkpoint_and_the_token_that_hides_others_is_the_last(form, tmp_path):
    run = held_run(encoder(**FORMS[form]))
    made = exchange.export(run, tmp_path / "hf", "hf")
    assert made["model_type"] == "eurobert" and "generation_config.json" not in made["files"]
    tensors, ours = load_file(tmp_path / "hf" / "model.safetensors"), flat_arrays(run.params)
    table, inwards = tensors["model.embed_tokens.weight"], 32**0.5 if run.family.tied else 1.0
    np.testing.assert_allclose(table, np.concatenate([ours["model/embed/weight"] * np.float32(inwards),
                                                      ours["model/mask"][None]]), rtol=1e-6)
    assert tensors["lm_head.bias"][-1] < -1e3 and not tensors["lm_head.bias"][:-1].any()
    kept = [x.size for path, x in ours.items() if path.split("/")[1] not in ("mask", "embed", "readout")]
    layers = [x.size for name, x in tensors.items() if "norm" in name or "proj.weight" in name]
    assert sum(kept) == sum(layers)


def test_the_arrays_of_an_encoder_are_those_of_a_decoder_and_one_for_hidden_tokens():
    for family in (encoder(**fields) for fields in FORMS.values()):
        assert {*abstract_arrays(family)} - {"model/mask"} == {*abstract_arrays(as_decoder(family))}


@pytest.mark.parametrize("field, value", [("qk_norm", True), ("norm", "layernorm"), ("positions", "learned"),
                                          ("activation", "gelu"), ("biases", True)])
def test_a_field_that_the_layout_lacks_is_named(field, value):
    with pytest.raises(ExchangeError, match=rf"computes .*family\.{field}=.*write --format=safetensors"):
        huggingface.layout_of(encoder(**{field: value}))


def test_an_encoder_of_classes_is_refused():
    with pytest.raises(ExchangeError, match="tells classes.*write --format=safetensors"):
        huggingface.layout_of(encoder(classes=3))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_hidden_token_is_one_token_of_a_text_and_the_others_keep_their_numbers(kind, tmp_path):
    ours = Bytes() if kind == "bytes" else BPE(BPE.train(["the theme of these theories " * 9], 270))
    write_tokenizer(tmp_path, ours, 16, mask=ours.vocab)
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    first, last = (ours.encode(text).tolist() for text in ("the th", " of é"))
    assert theirs.encode("the th[MASK] of é").ids == [*first, ours.vocab, *last]


def logits_of(family, params):
    network = family.module(params)
    return np.asarray(jax.jit(lambda tokens: network.logits(network.read_at(tokens, PLACES)))(TOKENS))


@pytest.mark.parametrize("form", ["untied", "tied and scaled"])
def test_a_checkpoint_becomes_an_encoder_with_the_logits_of_the_run(form, tmp_path):
    run = held_run(encoder(**FORMS[form]))
    exchange.export(run, tmp_path / "hf", "hf")
    family, arrays, _ = huggingface.read_huggingface(tmp_path / "hf")
    assert type(family) is Masked and family.vocab == 256
    assert (family.norm_epsilon, family.rope_base) == (run.family.norm_epsilon, run.family.rope_base)
    ours = logits_of(run.family, run.params)
    np.testing.assert_allclose(logits_of(family, from_flat(family, arrays)), ours, atol=1e-5 * max(1.0, ours.std()))


def test_an_imported_encoder_is_evaluated_and_leaves_again_with_the_same_tensors(tmp_path, corpus, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    bpe = BPE(BPE.train(["the theme of these theories " * 9], 270))
    exchange.export(held_run(encoder(vocab=bpe.vocab)), tmp_path / "hf", "hf")
    write_tokenizer(tmp_path / "hf", bpe, 16, mask=bpe.vocab)
    fingerprint, there = exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs")
    run = scaling.restore(tmp_path / "runs", fingerprint)
    assert not there and run.record["family"] == "masked" and run.family.vocab == run.tokenizer.vocab == bpe.vocab
    text = "the theme of [MASK]"
    assert run.tokenizer.decode(run.tokenizer.encode(text)) == text  # which hides nothing
    found, _ = evaluating.evaluate_run(evaluating.with_data(run, f"text:{corpus}/0*.txt", 640))
    assert found["metrics"]["loss"] > 0
    exchange.export(run, tmp_path / "again", "hf")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("hf", "again"))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_allclose(second[name], tensor, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("changes, says", [
    ({"num_key_value_heads": 1, "num_attention_heads": 2, "head_dim": 16}, "family.kv_heads=1"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "family.rope_scaling=linear:4"),
    ({"mask_token_id": None}, "mask_token_id=None; write the number"), ({"mask_token_id": 3}, "is never told")])
def test_an_encoder_that_is_not_computed_here_is_refused(changes, says, tmp_path):
    family = encoder(heads=2)
    exchange.export(held_run(family), tmp_path / "hf", "hf")
    path, weights = tmp_path / "hf" / "config.json", tmp_path / "hf" / "model.safetensors"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    tensors = load_file(weights)
    if "num_key_value_heads" in changes:
        save_file({name: x[:16] if name.endswith(("k_proj.weight", "v_proj.weight")) else x for name, x in tensors.items()},
                  weights)
    with pytest.raises(ExchangeError, match=says):
        huggingface.read_huggingface(tmp_path / "hf")


def test_a_checkpoint_whose_hidden_token_is_one_of_its_own_keeps_it_and_biases_are_refused(tmp_path):
    """As published checkpoints are: any token hides, and the readout has no bias."""
    exchange.export(held_run(encoder()), tmp_path / "hf", "hf")
    path, weights = tmp_path / "hf" / "config.json", tmp_path / "hf" / "model.safetensors"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mask_token_id": 5, "mlp_bias": False}))
    tensors = load_file(weights)
    bare = {name: x for name, x in tensors.items() if not name.endswith("bias")}
    save_file(bare, weights)
    family, arrays, _ = huggingface.read_huggingface(tmp_path / "hf")
    assert family.vocab == 257
    np.testing.assert_array_equal(arrays["model/mask"], arrays["model/embed/weight"][5])
    save_file(bare | {"model.layers.0.mlp.up_proj.bias": np.ones(family.mlp, np.float32)}, weights)
    with pytest.raises(ExchangeError, match="bias that is not zero, model.layers.0.mlp.up_proj.bias"):
        huggingface.read_huggingface(tmp_path / "hf")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_logits_and_losses_of_hidden_tokens_agree_with_those_of_transformers(form, tmp_path):
    torch = pytest.importorskip("torch", reason="torch computes the models of transformers")
    transformers = pytest.importorskip("transformers", reason="its models are compared where it is installed")
    run = held_run(encoder(**FORMS[form]))
    exchange.export(run, tmp_path / "hf", "hf")
    model, said = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    hidden, labels = TOKENS.copy(), np.full_like(TOKENS, -100)
    np.put_along_axis(hidden, PLACES, model.config.mask_token_id, 1)
    np.put_along_axis(labels, PLACES, np.take_along_axis(TOKENS, PLACES, 1), 1)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(hidden), labels=torch.from_numpy(labels))
    theirs = np.take_along_axis(found.logits.numpy(), PLACES[..., None], 1)[..., :256]
    network = dataclasses.replace(run.family, scan=True).module(run.params)
    ours = np.asarray(jax.jit(lambda tokens: network.logits(network.read_at(tokens, PLACES)))(TOKENS))
    assert np.abs(theirs - ours).max() <= 1e-5 * max(1.0, ours.std())
    nats = -np.take_along_axis(np.asarray(jax.nn.log_softmax(ours)), np.take_along_axis(TOKENS, PLACES, 1)[..., None], -1)
    assert abs(float(found.loss) - nats.mean()) < 1e-4


@pytest.mark.slow
def test_a_model_of_transformers_becomes_an_encoder_with_its_logits(tmp_path):
    torch = pytest.importorskip("torch", reason="torch computes the models of transformers")
    transformers = pytest.importorskip("transformers", reason="its models are compared where it is installed")
    config = transformers.EuroBertConfig(
        vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16, rms_norm_eps=1e-3, initializer_range=0.3,
        mask_token_id=7, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 250.0})
    torch.manual_seed(0)
    model = transformers.EuroBertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    hidden = TOKENS.copy()
    np.put_along_axis(hidden, PLACES, 7, 1)
    with torch.no_grad():
        theirs = np.take_along_axis(model(torch.from_numpy(hidden)).logits.numpy(), PLACES[..., None], 1)
    family, arrays, _ = huggingface.read_huggingface(tmp_path)
    ours = logits_of(family, from_flat(family, arrays))
    assert family.rope_base == 250.0 and np.abs(theirs - ours).max() <= 1e-5 * max(1.0, ours.std())
