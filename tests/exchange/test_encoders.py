"""Encoders of masked text become checkpoints of EuroBERT, in which a token stands for hidden ones."""

import dataclasses

import jax
import numpy as np
import pytest
from foreign_checkpoint import held_run
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from scaling import exchange
from scaling.data.tokenizers import BPE, Bytes
from scaling.exchange import ExchangeError, huggingface
from scaling.exchange.plain import abstract_arrays, as_decoder, flat_arrays
from scaling.exchange.tokens import write_tokenizer
from scaling.families.masked import Masked

FORMS = {"untied": {}, "scaled": {"logit_scale": 0.5, "base_layers": 1, "heads": 2},
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
