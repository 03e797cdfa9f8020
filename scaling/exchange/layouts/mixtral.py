"""Mixtures of experts whose router chooses as `scaling.nn.Experts` does: Mixtral, and Qwen 3 with experts.

The softmax is over all experts, and the probabilities of those that are chosen are divided by their sum. With one expert a
token, the probability itself multiplies its output, which Qwen's `norm_topk_prob=false` says and Mixtral cannot say (Jiang
et al. 2401.04088; Qwen Team 2505.09388).
"""

from scaling.exchange.errors import ExchangeError
from scaling.exchange.layouts.layout import Match
from scaling.exchange.layouts.llama import LAYER, Mistral, Qwen3


class Mixtral(Mistral):
    model_type, architecture = "mixtral", "MixtralForCausalLM"
    wants = {**Mistral.wants, "experts": True}

    def differs(self, family):
        return super().differs(family) + (["top_k"] if family.experts and family.top_k == 1 else [])

    def config(self, family):
        return super().config(family) | {"num_local_experts": family.experts, "num_experts_per_tok": family.top_k}

    def fields(self, config):
        if config["num_experts_per_tok"] == 1:
            raise ExchangeError("config.json has num_experts_per_tok=1, for which Mixtral ignores the probability that "
                                "scaling multiplies by: it cannot be imported")
        return super().fields(config) | {"experts": config["num_local_experts"], "top_k": config["num_experts_per_tok"]}

    def mlp_matches(self):
        names = {"gate": "w1", "down": "w2", "up": "w3"}
        return [Match(f"{LAYER}block_sparse_moe.gate.weight", ("layers/mlp/router/weight",), 1),
                *(Match(f"{LAYER}block_sparse_moe.experts.{{expert}}.{theirs}.weight", (f"layers/mlp/{ours}/weight",), 1)
                  for ours, theirs in names.items())]


class Qwen3Moe(Qwen3):
    model_type, architecture = "qwen3_moe", "Qwen3MoeForCausalLM"
    wants = {**Qwen3.wants, "experts": True}
    fixed = {**Qwen3.fixed, "decoder_sparse_step": (1,), "mlp_only_layers": ([], None)}

    def config(self, family):
        return super().config(family) | {
            "moe_intermediate_size": family.mlp, "num_experts": family.experts, "num_experts_per_tok": family.top_k,
            "norm_topk_prob": family.top_k > 1, "decoder_sparse_step": 1, "mlp_only_layers": []}

    def fields(self, config):
        top_k = config["num_experts_per_tok"]
        if bool(config.get("norm_topk_prob")) != (top_k > 1):
            raise ExchangeError(f"config.json has norm_topk_prob={config.get('norm_topk_prob')} with num_experts_per_tok="
                                f"{top_k}, and scaling divides by the sum exactly where there are several: it cannot be "
                                "imported")
        experts = config["num_local_experts"] if "num_local_experts" in config else config["num_experts"]  # newer, older
        return super().fields(config) | {"experts": experts, "top_k": top_k,
                                         "mlp": config["moe_intermediate_size"]}

    def mlp_matches(self):
        return [Match(f"{LAYER}mlp.gate.weight", ("layers/mlp/router/weight",), 1),
                *(Match(f"{LAYER}mlp.experts.{{expert}}.{name}_proj.weight", (f"layers/mlp/{name}/weight",), 1)
                  for name in ("gate", "up", "down"))]
