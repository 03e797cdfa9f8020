"""A ladder small enough for tests: one size on three amounts of data, two seeds, and a target nobody needs."""

from scaling import experiment
from scaling.experiment import grid


def get_config():
    config = experiment.config("transformer")
    config.update_from_flattened_dict({
        "data.length": 32, "data.batch": 4, "optim.warmup": 4, "data.evaluation_tokens": 1024, "family.width": 16,
        "family.layers": 2, "optim.learning_rate": 8e-3})
    config.title, config.metric, config.tune = "A tiny ladder", "bits_per_byte", 0.0
    config.tokens, config.seeds = (2560, 5120, 10240), (0, 1)
    return config


def sweep(config):
    return grid(experiment.from_config(config), {"data.tokens": list(config.tokens), "seed": list(config.seeds)})


def target(config, learning_rate):
    return experiment.from_config(config).replace({"data.tokens": 40_960, "optim.learning_rate": learning_rate})
