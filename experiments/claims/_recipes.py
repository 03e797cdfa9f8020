"""The recipes that claims share: small models of one smooth ladder, with the rates of `configs/forecasts.py`.

Each function gives one run. Widths are of the residual stream; the depth is fixed. `changes` are fields of the experiment,
which do not move the learning rate. Images are rendered letters of 16 x 16 pixels in 16 levels of grey.
"""

from scaling import experiment
from scaling.experiment import Experiment, RateRule

TEXT = {"data.evaluation_tokens": 131_072, "optim.name": "muon", "optim.warmup": 20, "optim.table_rate": 8.0}
IMAGES = {"data.size": 16, "data.levels": 16}
VAE = IMAGES | {"family.components": 3, "data.evaluation_examples": 2048, "optim.name": "muon", "optim.warmup": 40,
                "optim.ema": 0.99}
GAN = IMAGES | {"data.evaluation_examples": 1024, "data.samples": 4096, "optim.beta1": 0.0, "optim.beta2": 0.99,
                "optim.epsilon": 1e-8, "optim.weight_decay": 0.0, "optim.clip": 0.0, "optim.warmup": 20, "optim.ema": 0.99}


def transformer(width: int, tokens: float, seed: int = 0, layers: int = 1, data: str = "pycode/stdlib", length: int = 128,
                **changes) -> Experiment:
    """A Transformer on bytes; heads have 8 dimensions, and the batch grows with the square root of the tokens."""
    rule = RateRule(seen=65_536, batch=3 * 128 / length, horizon=-0.36, width=48, width_power=-0.42)
    fields = TEXT | {"family.layers": layers, "family.head_dim": 8, "data.name": data, "data.length": length,
                     "data.batch": _batch(4 * 128 / length, tokens / 131_072), "optim.learning_rate": 0.032}
    return _run("transformer", width, tokens, seed, fields, rule, changes)


def vae(width: int, images: float, seed: int = 0, layers: int = 3, data: str = "glyphs/letters", **changes) -> Experiment:
    """A hierarchical VAE of `layers` blocks; the batch grows with the square root of the number of images."""
    rule = RateRule(seen=4_000, batch=11, horizon=-0.36, width=24, width_power=0.0)
    fields = VAE | {"family.layers": layers, "data.name": data, "data.batch": _batch(11, images / 4_000),
                    "optim.learning_rate": 0.01}
    return _run("vae", width, images, seed, fields, rule, changes)


def gan(width: int, images: float, seed: int = 0, layers: int = 2, data: str = "glyphs/letters", **changes) -> Experiment:
    """A generator and a critic of `layers` layers; the batch grows with the square root of the number of images."""
    rule = RateRule(seen=5_000, batch=8, horizon=-0.36, width=16, width_power=0.0)
    fields = GAN | {"family.layers": layers, "data.name": data, "data.batch": _batch(8, images / 5_000),
                    "optim.learning_rate": 0.008}
    return _run("gan", width, images, seed, fields, rule, changes)


def _run(family, width, amount, seed, fields, rule, changes) -> Experiment:
    config = experiment.config(family)
    config.update_from_flattened_dict({"family.width": width, "seed": seed} | fields)
    base = experiment.from_config(config)
    whole = round(amount / base.data.per_step) * base.data.per_step
    return rule(base.replace({"data.tokens" if hasattr(base.data, "tokens") else "data.examples": whole})).replace(changes)


def _batch(least: float, factor: float) -> int:
    """A batch for `factor` times the data that `least` sequences or images suit. Two devices divide it."""
    return max(2, 2 * round(least * factor**0.5 / 2))
