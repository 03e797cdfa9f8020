"""How a GAN scales: distance of its samples from rendered letters against size and data, and a forecast ten times further.

    python -m experiments.run --config=configs/gan_scaling.py --workdir=runs/gan

PLACEHOLDER
"""

from scaling import experiment
from scaling.sweep import chain, grid


def get_config(scale="full"):
    config = experiment.config("gan")
    config.title = "Generative adversarial networks on rendered letters"
    config.metric, config.beside = "fd_infinity_relative", ("kid", "missed", "critic_advantage")
    config.data.update({"name": "glyphs/letters", "size": 16, "levels": 16, "batch": 32, "evaluation_examples": 1024,
                        "samples": 4096, "critic_steps": 200})
    config.optim.update({"beta1": 0.0, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.0, "clip": 0.0, "warmup": 20,
                         "ema": 0.99})
    config.sizes = (1e4, 4e4, 1.5e5, 5e5)
    config.examples = (6_400, 12_800, 25_600)
    config.learning_rates = (4e-3, 8e-3)
    config.centre, config.seeds = 4e4, 3
    config.unique_examples = (128, 2048)  # of the centre's longest run: data that repeat
    config.target_size, config.target_examples = 1.5e6, 89_600
    if scale == "quick":
        config.sizes, config.examples = (1e4, 4e4, 1.5e5), (6_400, 12_800)
        config.seeds, config.unique_examples = 1, (128,)
        config.target_size, config.target_examples = 3e5, 38_400
    return config


def sweep(config):
    base = experiment.from_config(config)
    sizes = {size: experiment.family_at(config, size) for size in config.sizes}
    rates, centre = {"optim.learning_rate": list(config.learning_rates)}, {"family": [sizes[config.centre]]}
    examples = {"data.examples": list(config.examples)}
    return chain(grid(base, {"family": list(sizes.values()), **rates, **examples}),
                 grid(base, {**centre, "seed": list(range(config.seeds)), **rates, **examples}),
                 grid(base, {**centre, **rates, "data.examples": [config.examples[-1]],
                             "data.unique_examples": list(config.unique_examples)}))


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.examples": config.target_examples,
        "optim.learning_rate": learning_rate})
