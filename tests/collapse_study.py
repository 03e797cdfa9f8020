"""A study for tests of collapse: four widths at one depth on three amounts of data, two seeds, and mistuned runs of each.

At the most data every size is also trained at three and nine times the rate, at a third of it, and with weights that decay
in a tenth of the training (`optim.weight_decay` is the decay for a rate of 1). Here three times the rate is about as good,
and so is no mistuning; nine times is three times too much.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config():
    config = experiment.config("transformer")
    config.title, config.metric = "Collapse of tiny runs", "bits_per_byte"
    config.optim.warmup, config.family.scan, config.family.layers = 10, False, 2
    config.data.evaluation_tokens = 32_768
    config.widths, config.tokens, config.rate, config.seeds = (16, 24, 32, 48), (73_728, 147_456, 294_912), 8e-3, (0, 1)
    return config


def at_width(config, width):
    changed = config.copy_and_resolve_references()
    changed.family.width = width
    return experiment.family_at(changed, 1e4)


def sweep(config):
    base = experiment.from_config(config).replace({"optim.learning_rate": config.rate, "optim.weight_decay": 0.0})
    sizes = {"family": [at_width(config, width) for width in config.widths]}
    tuned = grid(base, sizes | {"data.tokens": list(config.tokens), "seed": list(config.seeds)})
    longest = base.replace({"data.tokens": config.tokens[-1]})
    wrong = [*({"optim.learning_rate": factor * config.rate} for factor in (3, 9, 1 / 3)),
             {"optim.weight_decay": 10 / (longest.data.steps * config.rate)}]
    return [*tuned, *(run for change in wrong for run in grid(longest.replace(change), sizes))]
