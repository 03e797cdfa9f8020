"""A language-model scaling study on real Python code, from nothing to a checked forecast, on a laptop.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

Four Transformers over a factor of 50 in parameters, on four amounts of data over a factor of 8, each with a sweep of
the learning rate; the law L(N, D) = E + A N^-alpha + B D^-beta; and the forecast of a run of more than ten times the
compute of the largest fitted one, written before that run is trained.
"""

from scaling import experiment
from scaling.sweep import grid


def get_config():
    config = experiment.config("transformer")
    config.title = "Byte-level Transformers on the Python standard library"
    config.metric = "bits_per_byte"
    config.prompts = ("def ", "class ")
    config.sizes = (5e3, 2e4, 8e4, 3e5)
    config.tokens = (81_920, 163_840, 327_680, 655_360)
    config.learning_rates = (2e-3, 4e-3, 8e-3, 1.6e-2)
    config.target_size = 1e6
    config.target_tokens = 2_097_152
    return config


def sweep(config):
    base = experiment.from_config(config)
    sizes = [experiment.family_at(config, size) for size in config.sizes]
    return grid(base, {"family": sizes, "optim.learning_rate": list(config.learning_rates),
                       "data.tokens": list(config.tokens)})


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.tokens": config.target_tokens,
        "optim.learning_rate": learning_rate})
