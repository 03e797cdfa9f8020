"""How a GAN scales: distance of its samples from rendered letters against size and data, and a forecast ten times further.

    python -m experiments.run --config=configs/gan_scaling.py --workdir=runs/gan

The sweep has token GANs (R3GAN's game) over a factor of 50 in parameters, generator and discriminator together, on three
amounts of data over a factor of 4. Every size has two learning rates, and the smaller half has two more. The centre has
three seeds, and runs that repeat few images. The law L(N, D) = E + A N^-alpha + B D^-beta is fitted to the Fréchet distance
at infinitely many samples, over the trace of the real covariance, in the space of a character classifier. It is also fitted
to the kernel distance, to 1 - coverage, and to a fresh critic's advantage. The study forecasts a run with ten times the
compute of the largest fitted one before it trains that run. `:quick` is a smaller version.

Cost: two CPU cores, a quarter of an hour; 51 runs in 7 programs, 2.2e13 FLOPs of the models.
Expect: the tuned distance falls at every step in N and in D, from 0.26 to 0.08 (real images against real ones: 0.001);
alpha 0.44, 90% [0.33, 0.73], beta 0.83 [0.67, 1.60], no visible floor E. The forecast was 0.0436 [0.0386, 0.0703]; the
observed value was 0.0411, inside the interval. At this budget D acts as the number of steps: 2,048 different images are as
good as 19,200, but 128 are not.
"""

from scaling import experiment
from scaling.experiment import chain, grid, where


def get_config(scale="full"):
    config = experiment.config("gan")
    config.title = "Generative adversarial networks on rendered letters"
    config.metric, config.beside = "fd_infinity_relative", ("kid", "missed", "critic_advantage")
    config.data.update({"name": "glyphs/letters", "size": 16, "levels": 16, "batch": 32, "evaluation_examples": 1024,
                        "samples": 4096, "critic_steps": 200})
    config.optim.update({"beta1": 0.0, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.0, "clip": 0.0, "warmup": 20,
                         "ema": 0.99})
    config.sizes = (1e4, 4e4, 1.5e5, 5e5)
    config.examples = (4_800, 9_600, 19_200)
    config.learning_rates, config.outer_rates = (4e-3, 8e-3), (2e-3, 1.6e-2)  # at every size; at the smaller half too
    config.centre, config.seeds = 4e4, 3
    config.unique_examples = (128, 2048)  # for the centre's longest run, which repeats its data
    config.target_size, config.target_examples = 1.5e6, 33_600
    if scale == "quick":
        config.sizes, config.examples = (1e4, 4e4, 1.5e5), (2_400, 4_800, 9_600)
        config.seeds, config.unique_examples = 1, (128,)
        config.target_size, config.target_examples = 3e5, 24_000
    return config


def sweep(config):
    base = experiment.from_config(config)
    sizes = [experiment.family_at(config, size) for size in config.sizes]
    centre = {"family": [experiment.family_at(config, config.centre)]}
    rates, examples = {"optim.learning_rate": list(config.learning_rates)}, {"data.examples": list(config.examples)}
    smaller = sizes[:len(sizes) // 2]
    # The largest size leaves out the most data, because that corner would cost half as much as all the rest.
    largest = where(grid(base, {"family": sizes[-1:], **rates, **examples}),
                    data=lambda data: data.examples < config.examples[-1])
    return chain(grid(base, {"family": sizes[:-1], **rates, **examples}), largest,
                 grid(base, {"family": smaller, "optim.learning_rate": list(config.outer_rates), **examples}),
                 grid(base, {**centre, "seed": list(range(config.seeds)), **rates, **examples}),
                 grid(base, {**centre, **rates, "data.examples": [config.examples[-1]],
                             "data.unique_examples": list(config.unique_examples)}))


def target(config, learning_rate):
    return experiment.from_config(config).replace({
        "family": experiment.family_at(config, config.target_size), "data.examples": config.target_examples,
        "optim.learning_rate": learning_rate})
