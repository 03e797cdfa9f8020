"""The recipes that claims share: small models of one smooth ladder, with the rates of `configs/forecasts.py`.

Each function gives one run. Widths are of the residual stream; the depth is fixed. `changes` are fields of the experiment.
"""

from scaling import experiment
from scaling.experiment import Experiment, RateRule


def transformer(width: int, tokens: int, seed: int = 0, layers: int = 1, data: str = "pycode/stdlib", length: int = 128,
                **changes) -> Experiment:
    """A Transformer on bytes; heads have 8 dimensions, and the batch grows with the square root of the tokens."""
    config = experiment.config("transformer")
    config.update_from_flattened_dict({
        "family.width": width, "family.layers": layers, "family.head_dim": 8, "data.name": data, "data.length": length,
        "data.evaluation_tokens": 131_072, "data.batch": _batch(4 * 128 / length, tokens / 131_072), "optim.name": "muon",
        "optim.warmup": 20, "optim.table_rate": 8.0, "optim.learning_rate": 0.032, "seed": seed})
    base = experiment.from_config(config)
    whole = round(tokens / base.data.per_step) * base.data.per_step
    rule = RateRule(seen=65_536, batch=3 * 128 / length, horizon=-0.36, width=48, width_power=-0.42)
    return rule(base.replace({"data.tokens": whole})).replace(changes)


def _batch(least: float, factor: float) -> int:
    """A batch for `factor` times the data that `least` sequences or images suit. Two devices divide it."""
    return max(2, 2 * round(least * factor**0.5 / 2))
