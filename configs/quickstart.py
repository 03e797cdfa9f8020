"""A language-model scaling study on real Python code, from nothing to a checked forecast, on a laptop.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

The sweep has four Transformers over a factor of 50 in parameters, on four amounts of data over a factor of 8, each with a
sweep of the learning rate. The law is L(N, D) = E + A N^-alpha + B D^-beta. The study forecasts a run with nine times the
compute of the largest fitted one before it trains that run.

Cost: two CPU cores, between three and five minutes with building the data; 65 runs in 5 programs, 1.0e13 FLOPs of
the models (1.5e13 are executed, since Muon has matrix products of its own).
Expect: the tuned loss falls at every step in N and in D, from 3.6 to 2.3 bits per byte. Forecasts are within 1% of the
observed 1.85 (-0.99% and -0.58% when this was written), inside intervals of about 5% either way. So little data hardly
shows E, and larger models gain more from data than an additive law allows (residuals of 2%); the fit reports both.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config():
    config = experiment.config("transformer")
    config.title = "Byte-level Transformers on the Python standard library"
    config.metric = "bits_per_byte"
    config.prompts = ("def ", "class ")
    # Muon learns about twice as fast as AdamW in runs this short, and a few layers run faster unrolled than scanned.
    config.optim.name, config.optim.warmup, config.optim.table_rate = "muon", 10, 8.0
    config.family.scan = False
    config.data.evaluation_tokens = 32_768
    config.sizes = (5e3, 2e4, 8e4, 3e5)
    config.tokens = (36_864, 73_728, 147_456, 294_912)
    config.learning_rates = (8e-3, 1.3e-2, 2e-2, 3.2e-2)
    config.target_size = 1e6
    config.target_tokens = 900_096
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
