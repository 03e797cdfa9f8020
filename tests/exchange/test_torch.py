"""Logits of exported runs are those of `transformers` in torch, and those of its models are the logits of imported runs.

Both packages are in the extra `exchange`; without them this file is skipped.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest
from foreign_checkpoint import END, GPT2, LAYOUTS, NEOX, decoder, held_run, trained_tokenizer

import scaling
from scaling import exchange
from scaling.data.tokenizers import BPE, Bytes, Stored
from scaling.exchange import huggingface
from scaling.exchange.plain import from_flat
from scaling.exchange.tokens import write_tokenizer
from scaling.families._generate import generate

torch = pytest.importorskip("torch", reason="torch computes the models of transformers")
transformers = pytest.importorskip("transformers", reason="its models are compared where it is installed")

TOLERANCE = 1e-5  # of logits of order 1
TOKENS = np.random.default_rng(0).integers(0, 256, (2, 16))
LLAMA3 = {"rope_scaling": "llama3:8,1,4,32", "rope_base": 100.0}  # with pairs in each of its three bands
MORE = {"qwen3 whole": {"attention_biases": "all"}, "llama 3": {"qk_norm": False} | LLAMA3,
        "gpt_neox in turn": NEOX | {"activation": "gelu", "tied": True, "logit_scale": 32.0} | LLAMA3,
        "gpt2 without biases": GPT2, "qwen3_moe two": {"experts": 3},
        "gpt2 untied": GPT2 | {"biases": True, "tied": True, "logit_scale": 3.0}}


def ours(family, params, tokens=TOKENS):
    looped = dataclasses.replace(family, scan=True)
    return np.asarray(jax.jit(looped.logits)(params, tokens))


def theirs(model, tokens=TOKENS):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(tokens)).logits.numpy()


def close(found, wanted):
    return np.abs(found - wanted).max() <= TOLERANCE * max(1.0, wanted.std())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LAYOUTS, *MORE])
def test_logits_agree_in_both_directions(name, tmp_path):
    family = decoder(**(LAYOUTS | MORE)[name])
    run = held_run(family)
    exchange.export(run, tmp_path / "hf", "hf")
    model, said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).config_class.model_type == name.partition(" ")[0]
    assert close(theirs(model), ours(family, run.params))
    with torch.no_grad():
        for x in model.parameters():
            x.add_(0.05 * torch.randn_like(x))
    model.save_pretrained(tmp_path / "changed")
    back, arrays, _ = huggingface.read_huggingface(tmp_path / "changed")
    assert close(ours(back, from_flat(back, arrays)), theirs(model))


@pytest.mark.slow
def test_tokenizers_and_generation_are_the_same_there(tmp_path):
    text = "the law of the loss, über 日本;\n\n  x = 1"
    state = trained_tokenizer(text * 3, 280)
    end = json.loads(state)["added_tokens"][0]["id"]
    for kind, tokenizer in {"bytes": Bytes(), "bpe": BPE(BPE.train([text * 3], 280)), "stored": Stored(state, end)}.items():
        (tmp_path / kind).mkdir()
        write_tokenizer(tmp_path / kind, tokenizer, 64)
        there = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        tokens = there(text)["input_ids"]
        assert tokens == tokenizer.encode(text).tolist() and there.decode(tokens) == text
        assert there.eos_token_id == (None if kind == "bytes" else 0)
    run = held_run(decoder(length=64))
    exchange.export(run, tmp_path / "hf", "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    there = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    found = model.generate(**there("the ", return_tensors="pt"), max_new_tokens=12, do_sample=False)
    [here] = generate(run.family, run.params, [run.tokenizer.encode("the ")], max_tokens=12, temperature=0.0, stop=[0])
    assert found[0, 4:].tolist()[:len(here)] == np.asarray(here).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind, fields", [
    ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}),
    ("Llama", {"rms_norm_eps": 1e-5, "tie_word_embeddings": True,
               "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    ("Llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}),
    ("Llama", {"attention_bias": True, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}),
    ("Mistral", {"sliding_window": 5, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    ("Qwen2", {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    ("GPTNeoX", {}), ("GPTNeoX", {"use_parallel_residual": False, "hidden_act": "gelu_fast",
                                  "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}}),
    ("Qwen3", {"head_dim": 24, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}})])
def test_a_model_that_transformers_made_is_imported(kind, fields, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    state = trained_tokenizer("the law of the loss " * 9, 280)
    (tmp_path / "tokenizer.json").write_text(state)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token=END)
    sizes = {} if kind == "GPT2" else {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2,
                                       "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    if kind == "GPTNeoX":
        sizes["intermediate_size"] = 128
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer) + 5, **sizes, **fields)
    model = getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM"))(config)
    with torch.no_grad():
        for x in model.parameters():
            x.add_(0.1 * torch.randn_like(x))
    for each in (model, tokenizer):
        each.save_pretrained(tmp_path / "hf")
    exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs")
    run = scaling.restore(tmp_path / "runs")
    tokens, numbers = np.random.default_rng(0).integers(0, len(tokenizer), (2, 32)), run.tokenizer.numbers
    assert close(run.logits(numbers[tokens])[..., numbers], theirs(model, tokens))
    assert (numbers[tokenizer("the loss of über")["input_ids"]] == run.tokenizer.encode("the loss of über")).all()
