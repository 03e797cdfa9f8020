"""The recipes that claims share: the ladders of `experiments._ladders`, evaluated on less.

Each function gives one run. Widths are of the residual stream; the depth is fixed. `changes` are fields of the experiment,
which do not move the learning rate.
"""

import dataclasses

from experiments._ladders import GAN, TRANSFORMER, VAE, Rungs
from scaling import cost
from scaling.experiment import Experiment

METRICS = {"transformer": "bits_per_byte", "vae": "bits_per_dim", "gan": "fd_infinity_relative"}


def transformer(width: int, tokens: float, seed: int = 0, layers: int = 1, data: str = "pycode/stdlib", length: int = 128,
                **changes) -> Experiment:
    """A Transformer on bytes, in batches of as many tokens whatever the length."""
    rungs = dataclasses.replace(TRANSFORMER, least=65_536, batch=3 * 128 / length, rate=0.032)
    fields = {"family.layers": layers, "data.name": data, "data.length": length, "data.evaluation_tokens": 131_072}
    return _run(rungs, width, tokens, seed, fields, changes)


def vae(width: int, images: float, seed: int = 0, layers: int = 3, data: str = "glyphs/letters", **changes) -> Experiment:
    """A hierarchical VAE of `layers` blocks."""
    fields = {"family.layers": layers, "data.name": data, "data.evaluation_examples": 2048}
    return _run(VAE, width, images, seed, fields, changes)


def gan(width: int, images: float, seed: int = 0, layers: int = 2, data: str = "glyphs/letters", **changes) -> Experiment:
    """A generator and a critic of `layers` layers."""
    return _run(GAN, width, images, seed, {"family.layers": layers, "data.name": data}, changes)


RECIPES = {"transformer": transformer, "vae": vae, "gan": gan}


def at_compute(family: str, width: int, flops: float, seed: int, **changes) -> Experiment:
    """A run of about this compute: its data follow from the FLOPs of one token or image."""
    recipe = RECIPES[family]
    one = recipe(width, 2**18 if family == "transformer" else 16_000)
    return recipe(width, flops / (cost.train_flops(one.family, one.data.batch) / one.data.per_step), seed, **changes)


def _run(rungs: Rungs, width, amount, seed, fields, changes) -> Experiment:
    return rungs.run(rungs.config(**fields, seed=seed), width, amount, **changes)
