"""A study small enough for tests, with every stage: two sizes, four lengths, two learning rates, and a target."""

from scaling import experiment
from scaling.experiment import grid

SHAPES = {5e3: (16, 2), 9e3: (16, 3), 2e4: (32, 2)}  # width, layers: the ladder of older versions


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


def sized(config, size):
    """The family of a size, with the shape that the ladder once gave it."""
    config = config.copy_and_resolve_references()
    if size in SHAPES:
        config.family.width, config.family.layers = SHAPES[size]
    return experiment.family_at(config, size)


def sweep(config):
    base = experiment.from_config(config)
    return grid(base, {"family": [sized(config, size) for size in config.sizes],
                       "optim.learning_rate": list(config.learning_rates), "data.tokens": list(config.tokens)})


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": sized(config, config.target_size), "data.tokens": config.target_tokens,
        "optim.learning_rate": learning_rate})
