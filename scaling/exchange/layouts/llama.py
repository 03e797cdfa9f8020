"""Llama and its kin: rotary positions, RMSNorm and SwiGLU, without biases or with those of attention. Mistral adds a
window, Qwen 2 biases of queries, keys and values, and Qwen 3 norms of queries and keys (Touvron et al. 2302.13971; Llama
Team 2407.21783; Jiang et al. 2310.06825; Qwen Team 2407.10671, 2505.09388)."""

from typing import ClassVar

from scaling.exchange.errors import ExchangeError
from scaling.exchange.layouts.layout import CheckpointLayout, Match
from scaling.exchange.layouts.rope import read_rope, write_rope

LAYER = "model.layers.{layer}."


class Llama(CheckpointLayout):
    model_type, architecture = "llama", "LlamaForCausalLM"
    wants = {"norm": "rmsnorm", "positions": "rotary", "activation": "swiglu", "qk_norm": False, "biases": False,
             "window": False, "experts": False}
    varies = ("rope_scaling", "attention_biases")
    biases: ClassVar[tuple[str, ...]] = ("none", "all")  # of attention, without and with attention_bias in config.json
    fixed = {"hidden_act": ("silu", "swish"), "mlp_bias": (False, None)}

    def differs(self, family):
        return super().differs(family) + ([] if family.attention_biases in self.biases else ["attention_biases"])

    def config(self, family):
        return {"hidden_size": family.width, "intermediate_size": family.mlp, "num_hidden_layers": family.layers,
                "num_attention_heads": family.heads, "num_key_value_heads": family.kv_heads, "head_dim": family.head_dim,
                "hidden_act": "silu", "max_position_embeddings": family.length, "rms_norm_eps": family.norm_epsilon,
                "rope_theta": family.rope_base, **write_rope(family), "attention_bias": family.attention_biases != "none",
                "attention_dropout": 0.0}

    def fields(self, config):
        heads = config["num_attention_heads"]
        return self.own() | read_rope(config) | {
            "vocab": config["vocab_size"], "width": config["hidden_size"], "mlp": config["intermediate_size"],
            "layers": config["num_hidden_layers"], "heads": heads, "kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": config.get("head_dim") or config["hidden_size"] // heads, "norm_epsilon": config["rms_norm_eps"],
            "attention_biases": self.biases[-1 if config.get("attention_bias") else 0],
            "tied": bool(config.get("tie_word_embeddings")), "window": self.window(config)}

    def window(self, config) -> int:
        """The tokens that a token sees, or 0 for all."""
        return 0

    def matches(self, family):
        def linear(theirs, ours, inputs=1):
            return Match(f"{LAYER}{theirs}.weight", (f"layers/{ours}/weight",), inputs)

        def vector(theirs, ours):
            return Match(f"{LAYER}{theirs}.weight", (f"layers/{ours}/scale",))

        found = [Match("model.embed_tokens.weight", ("embed/weight",), 1, rows=False),
                 Match("model.norm.weight", ("norm/scale",)),
                 vector("input_layernorm", "attention_norm"), vector("post_attention_layernorm", "mlp_norm"),
                 *(linear(f"self_attn.{name}_proj", f"attention/{name}") for name in "qkv"),
                 linear("self_attn.o_proj", "attention/out", 2), *self.mlp_matches()]
        biased = {"none": (), "qkv": "qkv", "all": "qkvo"}[family.attention_biases]
        found += [Match(f"{LAYER}self_attn.{name}_proj.bias", (f"layers/attention/{'out' if name == 'o' else name}/bias",))
                  for name in biased]
        if family.qk_norm:
            found += [vector(f"self_attn.{name}_norm", f"attention/{name}_norm") for name in "qk"]
        return found if family.tied else [*found, Match("lm_head.weight", ("readout/weight",), 1)]

    def mlp_matches(self) -> list[Match]:
        return [Match(f"{LAYER}mlp.{name}_proj.weight", (f"layers/mlp/{name}/weight",), 1)
                for name in ("gate", "up", "down")]


class Mistral(Llama):
    """Every layer sees a window, the token itself included, as here."""

    model_type, architecture = "mistral", "MistralForCausalLM"
    wants = {name: value for name, value in Llama.wants.items() if name != "window"}
    biases = ("none",)

    def config(self, family):
        return super().config(family) | {"sliding_window": family.window or None}

    def window(self, config):
        return config.get("sliding_window") or 0


class Qwen3(Llama):
    """An RMSNorm of each head's queries and keys comes before they are rotated. All of its layers have the window, or
    none."""

    model_type, architecture = "qwen3", "Qwen3ForCausalLM"
    wants = {**Mistral.wants, "qk_norm": True}

    def config(self, family):
        kind = "sliding_attention" if family.window else "full_attention"
        return super().config(family) | {
            "use_sliding_window": family.window > 0, "sliding_window": family.window or None, "max_window_layers": 0,
            "layer_types": [kind] * family.layers}

    def window(self, config):
        window, layers = config.get("sliding_window"), config["num_hidden_layers"]
        if not config.get("use_sliding_window") or not window:
            return 0
        whole = min(config.get("max_window_layers", 28), layers)  # the first layers, which see all tokens
        kinds = config.get("layer_types") or ["full_attention"] * whole + ["sliding_attention"] * (layers - whole)
        if len(set(kinds)) > 1:
            raise ExchangeError("config.json has layers with a window and layers without (layer_types), and those of a "
                                "Transformer of scaling are alike: it cannot be imported")
        return window if kinds[0] == "sliding_attention" else 0


class Qwen2(Qwen3):
    """Biases of queries, keys and values are in the place of norms."""

    model_type, architecture = "qwen2", "Qwen2ForCausalLM"
    wants = Mistral.wants
    biases = ("qkv",)
