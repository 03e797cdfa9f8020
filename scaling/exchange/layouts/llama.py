"""Llama and its kin: rotary positions, RMSNorm and SwiGLU without biases. Mistral adds a window, and Qwen 3 norms of
queries and keys (Touvron et al. 2302.13971; Jiang et al. 2310.06825; Qwen Team 2505.09388)."""

from scaling.exchange.errors import ExchangeError
from scaling.exchange.layouts.layout import CheckpointLayout, Match

LAYER = "model.layers.{layer}."


class Llama(CheckpointLayout):
    model_type, architecture = "llama", "LlamaForCausalLM"
    wants = {"norm": "rmsnorm", "positions": "rotary", "activation": "swiglu", "qk_norm": False, "biases": False,
             "window": False, "experts": False}
    fixed = {"hidden_act": ("silu", "swish"), "attention_bias": (False, None), "mlp_bias": (False, None)}

    def config(self, family):
        return {"hidden_size": family.width, "intermediate_size": family.mlp, "num_hidden_layers": family.layers,
                "num_attention_heads": family.heads, "num_key_value_heads": family.kv_heads, "head_dim": family.head_dim,
                "hidden_act": "silu", "max_position_embeddings": family.length, "rms_norm_eps": family.norm_epsilon,
                "rope_theta": family.rope_base, "attention_bias": False, "attention_dropout": 0.0}

    def fields(self, config):
        heads = config["num_attention_heads"]
        own = {name: value for name, value in self.wants.items() if name not in ("window", "experts")}
        return own | {
            "vocab": config["vocab_size"], "width": config["hidden_size"], "mlp": config["intermediate_size"],
            "layers": config["num_hidden_layers"], "heads": heads, "kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": config.get("head_dim") or config["hidden_size"] // heads, "norm_epsilon": config["rms_norm_eps"],
            "rope_base": _rope_base(config), "tied": bool(config.get("tie_word_embeddings")),
            "window": self.window(config)}

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


def _rope_base(config) -> float:
    """The base of rotary positions, which newer files keep in rope_parameters. ExchangeError for those that are scaled."""
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ExchangeError(f"config.json has rotary positions of the type {kind!r} (rope_parameters or rope_scaling), and "
                            "scaling computes 'default' alone: it cannot be imported")
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if share not in (1.0, None):
        raise ExchangeError(f"config.json rotates a part of each head alone (partial_rotary_factor={share}), which scaling "
                            "does not compute: it cannot be imported")
    return float(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))
