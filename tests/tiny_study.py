"""A study small enough for tests, with every stage: two sizes, four lengths, two learning rates, and a target."""

from scaling import experiment
from scaling.experiment import grid


def get_config():
    config = experiment.config("transformer")
    config.update_from_flattened_dict({
        "data.length": 32, "data.batch": 4, "optim.warmup": 4, "data.evaluation_tokens": 1024})
    config.title, config.metric, config.prompts = "A tiny study", "bits_per_byte", ("a",)
    config.tune = 0.0  # two rates are always at the edge
    config.sizes = (5e3, 9e3)
    config.tokens = (2560, 5120, 7680, 10240)
    config.learning_rates = (4e-3, 8e-3)
    config.target_size, config.target_tokens = 2e4, 40_960
    return config


def sweep(config):
    base = experiment.from_config(config)
    return grid(base, {"family": [experiment.family_at(config, size) for size in config.sizes],
                       "optim.learning_rate": list(config.learning_rates), "data.tokens": list(config.tokens)})


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.tokens": config.target_tokens,
        "optim.learning_rate": learning_rate})
