"""How a VAE scales: bits per dimension of rendered letters against size and data, and a forecast nine times further.

    python -m experiments.run --config=configs/vae_scaling.py --workdir=runs/vae

The sweep has token VAEs over a factor of 50 in parameters, on four amounts of data over a factor of 8, with four learning
rates at every size (muP's multipliers carry them over widths; the sweep shows how far) and three seeds at the centre. The
law L(N, D) = E + A N^-alpha + B D^-beta is fitted to the negative ELBO, and to the distortion alone. The study forecasts a
run with nine times the compute of the largest fitted one before it trains that run. `:quick` is a smaller version.

Cost: two CPU cores, about half an hour; 93 runs in 5 programs, 1.8e13 FLOPs of the models (4.0e13 are
executed: at 32 images a step most are Muon's own).
Expect: the tuned bound falls at every step in N and in D, from 1.21 to 0.92 bits per dimension; E 0.56, alpha 0.31, beta
0.21, all with wide intervals. The forecast was 0.864, 90% [0.832, 0.898]; the observed value was 0.815, 5.6% better than
the law and outside the interval. Runs this short are limited by their number of steps, and larger models gain more from
data than an additive law allows.
"""

from scaling import experiment
from scaling.experiment import chain, grid, where


def get_config(scale="full"):
    config = experiment.config("vae")
    config.title = "Hierarchical VAEs on rendered letters"
    config.metric, config.beside = "bits_per_dim", ("distortion",)
    config.family.components = 3  # mixture components of the likelihood; five cost a third more at the smallest size
    config.data.update({"name": "glyphs/letters", "size": 16, "levels": 16, "batch": 32, "evaluation_examples": 4096})
    config.optim.update({"name": "muon", "warmup": 20, "ema": 0.99})
    config.sizes = (1e4, 4e4, 1.5e5, 5e5)
    config.examples = (8_000, 16_000, 32_000, 64_000)
    config.learning_rates = (2e-3, 4e-3, 8e-3, 1.6e-2)
    config.centre, config.seeds = 4e4, 3
    config.target_size, config.target_examples = 1.5e6, 80_000
    if scale == "quick":
        config.sizes, config.examples, config.learning_rates = (1e4, 4e4, 1.5e5), (8_000, 16_000, 32_000), (4e-3, 8e-3)
        config.seeds, config.target_size, config.target_examples = 1, 3e5, 80_000
    return config


def sweep(config):
    base = experiment.from_config(config)
    sizes = [experiment.family_at(config, size) for size in config.sizes]
    centre = {"family": [experiment.family_at(config, config.centre)], "seed": list(range(config.seeds))}
    everywhere = {"optim.learning_rate": list(config.learning_rates), "data.examples": list(config.examples)}
    # The largest size leaves out the most data, because that corner would cost a third of the whole sweep.
    largest = where(grid(base, {"family": sizes[-1:], **everywhere}), data=lambda data: data.examples < config.examples[-1])
    return chain(grid(base, {"family": sizes[:-1], **everywhere}), largest, grid(base, {**centre, **everywhere}))


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.examples": config.target_examples,
        "optim.learning_rate": learning_rate})
