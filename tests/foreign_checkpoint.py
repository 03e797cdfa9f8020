"""Small Transformers whose parameters all differ from their first values, and checkpoints with tokenizers of others."""

import json

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from scaling import exchange
from scaling.exchange.plain import abstract_arrays, from_flat
from scaling.experiment import Experiment, Text
from scaling.families.transformer import Transformer
from scaling.study.restored import RestoredRun

END = "<|endoftext|>"
GPT2 = {"norm": "layernorm", "positions": "learned", "activation": "gelu", "qk_norm": False}
NEOX = GPT2 | {"positions": "rotary", "activation": "exact_gelu", "heads": 2, "biases": True}
LAYOUTS = {  # a member of each layout, with what it folds into its weights
    "llama": {"qk_norm": False, "tied": True, "logit_scale": 1.7, "base_layers": 1, "kv_heads": 1, "heads": 2},
    "mistral": {"qk_norm": False, "window": 5, "head_dim": 12, "rope_base": 5e5, "norm_epsilon": 1e-5},
    "qwen3": {"logit_scale": 0.5, "base_layers": 1, "depth_exponent": 0.5, "window": 5},
    "mixtral": {"qk_norm": False, "experts": 3, "window": 5, "base_layers": 1},
    "qwen3_moe": {"experts": 3, "top_k": 1, "tied": True, "logit_scale": 32.0},
    "qwen2": {"qk_norm": False, "attention_biases": "qkv", "rope_scaling": "linear:4", "base_layers": 1},
    "gpt_neox": NEOX | {"rope_share": 0.25, "parallel": True, "base_layers": 1, "norm_epsilon": 1e-5},
    "gpt2": GPT2 | {"biases": True, "tied": True, "logit_scale": 32.0, "base_layers": 1, "norm_epsilon": 1e-5}}


def decoder(**fields) -> Transformer:
    return Transformer(**{"vocab": 256, "length": 16, "width": 32, "layers": 2} | fields)


def moved_params(family, seed=0):
    """Random parameters, norms and biases included, which begin at ones and zeros. Nothing is compiled for them."""
    rng, abstract = np.random.default_rng(seed), abstract_arrays(family)
    draws = {path: rng.standard_normal(x.shape).astype(np.float32) for path, x in abstract.items()}
    return from_flat(family, {path: 1 + 0.1 * x if path.endswith("scale") else 0.2 * x for path, x in draws.items()})


def held_run(family, params=None, data=None) -> RestoredRun:
    """A run of a family that no workdir holds."""
    data = data or Text(length=family.length)
    params = moved_params(family) if params is None else params
    return RestoredRun({"fingerprint": "0123456789abcdef", "params_non_embedding": 1}, Experiment(family=family, data=data),
                       params, None)


def trained_tokenizer(text: str, vocab: int) -> str:
    """The tokenizer.json of a byte-level BPE whose last token ends documents, as that of GPT-2 does."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([text], trainer)
    trained.add_special_tokens([END])
    return trained.to_str()


def write_foreign(folder, text: str, **fields) -> Transformer:
    """Writes a checkpoint as others make them: tokens of their own, of which the last one ends documents, and more rows of
    embeddings than tokens. Returns the family."""
    state = trained_tokenizer(text, 280)
    size = len(json.loads(state)["model"]["vocab"]) + 1
    family = decoder(vocab=size + 3, **fields)
    exchange.export(held_run(family), folder, "hf")
    (folder / "tokenizer.json").write_text(state)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": END}}))
    (folder / "scaling.json").unlink()
    return family
