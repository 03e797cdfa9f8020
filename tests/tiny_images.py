"""An image study small enough for tests, of the family named after the colon: `tests/tiny_images.py:gan`."""

from scaling import experiment
from scaling.experiment import grid


def get_config(family):
    config = experiment.config(family)
    config.title, config.metric = f"A tiny study of the {family}", {"vae": "bits_per_dim", "gan": "fd_infinity"}[family]
    config.data.update({"name": "glyphs/letters", "batch": 8, "levels": 16, "evaluation_examples": 64, "samples": 128,
                        "features": "pca"})
    if family == "vae":  # the body that compiles fastest
        config.family.update({"body": "linear", "layers": 1, "components": 1})
    config.optim.warmup, config.optim.ema, config.tune = 4, 0.99, 0.0
    config.sizes = (1e4, 2e4)
    config.examples, config.seeds = (64, 128, 192, 256), (0,)
    config.learning_rates = (1e-3, 4e-3)
    config.target_size, config.target_examples = 4e4, 1024
    return config


def sweep(config):
    base = experiment.from_config(config)
    return grid(base, {"family": [experiment.family_at(config, size) for size in config.sizes],
                       "optim.learning_rate": list(config.learning_rates), "data.examples": list(config.examples),
                       "seed": list(config.seeds)})


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.examples": config.target_examples,
        "optim.learning_rate": learning_rate})
