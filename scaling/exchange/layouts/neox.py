"""GPT-NeoX, of which the models of Pythia are: LayerNorm, GELU and biases, a part of each head rotated, and attention and
MLP that may read the same activations (Black et al. 2204.06745; Biderman et al. 2304.01373). Queries, keys and values of a
head lie together in one tensor."""

from scaling.exchange.layouts.layout import GELU, GeluLayout, Match
from scaling.exchange.layouts.rope import read_rope, write_rope

LAYER = "gpt_neox.layers.{layer}."


class NeoX(GeluLayout):
    model_type, architecture = "gpt_neox", "GPTNeoXForCausalLM"
    wants = {"norm": "layernorm", "positions": "rotary", "biases": True, "qk_norm": False, "window": False,
             "experts": False}
    varies = ("rope_share", "rope_scaling", "parallel")
    fixed = {"hidden_act": tuple(GELU), "attention_bias": (True,)}

    def config(self, family):
        return {"hidden_size": family.width, "intermediate_size": family.mlp, "num_hidden_layers": family.layers,
                "num_attention_heads": family.heads, "hidden_act": self.activation(family), "attention_bias": True,
                "max_position_embeddings": family.length, "layer_norm_eps": family.norm_epsilon,
                "rotary_pct": family.rope_share, "partial_rotary_factor": family.rope_share,
                "rotary_emb_base": family.rope_base, "rope_theta": family.rope_base, **write_rope(family),
                "use_parallel_residual": family.parallel, "hidden_dropout": family.dropout, "attention_dropout": 0.0}

    def fields(self, config):
        return self.own() | read_rope(config, "rotary_pct", "rotary_emb_base") | {
            "vocab": config["vocab_size"], "width": config["hidden_size"], "mlp": config["intermediate_size"],
            "layers": config["num_hidden_layers"], "heads": config["num_attention_heads"],
            "activation": GELU[config.get("hidden_act", "gelu")], "norm_epsilon": config.get("layer_norm_eps", 1e-5),
            "parallel": config.get("use_parallel_residual", True), "tied": bool(config.get("tie_word_embeddings"))}

    def matches(self, family):
        def linear(theirs, *ours, inputs=1, by_head=False):
            weights, biases = (tuple(f"layers/{each}/{part}" for each in ours) for part in ("weight", "bias"))
            return [Match(f"{LAYER}{theirs}.weight", weights, inputs, by_head=by_head),
                    Match(f"{LAYER}{theirs}.bias", biases, by_head=by_head)]

        def norm(theirs, ours):
            return [Match(f"{theirs}.weight", (f"{ours}/scale",)), Match(f"{theirs}.bias", (f"{ours}/bias",))]

        found = [Match("gpt_neox.embed_in.weight", ("embed/weight",), 1, rows=False),
                 *norm("gpt_neox.final_layer_norm", "norm"),
                 *norm(f"{LAYER}input_layernorm", "layers/attention_norm"),
                 *norm(f"{LAYER}post_attention_layernorm", "layers/mlp_norm"),
                 *linear("attention.query_key_value", *(f"attention/{name}" for name in "qkv"), by_head=True),
                 *linear("attention.dense", "attention/out", inputs=2),
                 *linear("mlp.dense_h_to_4h", "mlp/up"), *linear("mlp.dense_4h_to_h", "mlp/down")]
        return found if family.tied else [*found, Match("embed_out.weight", ("readout/weight",), 1)]
