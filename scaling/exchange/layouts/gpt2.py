"""GPT-2: learned positions, LayerNorm, GELU and biases (Radford et al. 2019). Its Conv1D keeps inputs in the rows."""

from scaling.exchange.layouts.layout import GELU, GeluLayout, Match

LAYER = "transformer.h.{layer}."


class GPT2(GeluLayout):
    model_type, architecture = "gpt2", "GPT2LMHeadModel"
    wants = {"norm": "layernorm", "positions": "learned", "biases": True, "qk_norm": False, "window": False,
             "experts": False}
    fixed = {"activation_function": tuple(GELU), "scale_attn_weights": (True,),
             "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,)}

    def config(self, family):
        return {"n_embd": family.width, "n_inner": family.mlp, "n_layer": family.layers, "n_head": family.heads,
                "n_positions": family.length, "activation_function": self.activation(family),
                "layer_norm_epsilon": family.norm_epsilon,
                "embd_pdrop": family.dropout, "resid_pdrop": family.dropout, "attn_pdrop": 0.0}

    def fields(self, config):
        width, heads = config["n_embd"], config["n_head"]
        return self.own() | {"vocab": config["vocab_size"], "length": config["n_positions"], "width": width, "heads": heads,
                      "layers": config["n_layer"], "mlp": config.get("n_inner") or 4 * width,
                      "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
                      "activation": GELU[config.get("activation_function", "gelu_new")],
                      "tied": config.get("tie_word_embeddings", True)}

    def matches(self, family):
        def linear(theirs, *ours, inputs=1):
            return [Match(f"{LAYER}{theirs}.weight", tuple(f"layers/{each}/weight" for each in ours), inputs, rows=False),
                    Match(f"{LAYER}{theirs}.bias", tuple(f"layers/{each}/bias" for each in ours))]

        def norm(theirs, ours):
            return [Match(f"{theirs}.weight", (f"{ours}/scale",)), Match(f"{theirs}.bias", (f"{ours}/bias",))]

        found = [Match("transformer.wte.weight", ("embed/weight",), 1, rows=False),
                 Match("transformer.wpe.weight", ("position/weight",), 1, rows=False),
                 *norm("transformer.ln_f", "norm"), *norm(f"{LAYER}ln_1", "layers/attention_norm"),
                 *norm(f"{LAYER}ln_2", "layers/mlp_norm"),
                 *linear("attn.c_attn", "attention/q", "attention/k", "attention/v"),
                 *linear("attn.c_proj", "attention/out", inputs=2),
                 *linear("mlp.c_fc", "mlp/up"), *linear("mlp.c_proj", "mlp/down")]
        return found if family.tied else [*found, Match("lm_head.weight", ("readout/weight",), 1)]
