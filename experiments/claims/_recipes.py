"""The recipes that claims share: the ladders of `experiments._ladders`, evaluated on less.

Each function gives one run. Widths are of the residual stream; the depth is fixed. `changes` are fields of the experiment,
which do not move the learning rate.
"""

import dataclasses

from experiments._ladders import GAN, TRANSFORMER, VAE, Rungs
from scaling.experiment import Experiment


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


def _run(rungs: Rungs, width, amount, seed, fields, changes) -> Experiment:
    return rungs.run(rungs.config(**fields, seed=seed), width, amount, **changes)
