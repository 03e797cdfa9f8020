"""The sweeps that tools.bench trains as whole commands; see SWEEPS in tools/_bench_cases.py for their sizes and lengths.

    python -m experiments.run --config=tools/_bench_config.py:learning_rates --workdir=runs/rates
    python -m experiments.run --config=tools/_bench_config.py:data_sizes --workdir=runs/sizes
    python -m experiments.run --config=tools/_bench_config.py:small_and_short --workdir=runs/small

Cost: half a minute to a minute and a half on two CPU cores. Expect: nothing; they are there to be timed.
"""

from scaling import experiment
from tools import _bench_cases


def get_config(variant="learning_rates"):
    sweep = _bench_cases.sweep_named(variant)
    config = experiment.config("transformer")
    config.title, config.metric = f"To be timed: {sweep.name}", "bits_per_byte"
    config.data.length, config.data.batch = sweep.models[0].length, sweep.models[0].batch
    config.optim.warmup, config.tune = _bench_cases.WARMUP, 0.0  # nothing beyond the runs that are timed
    config.data.evaluation_tokens = sweep.evaluation_tokens
    config.models = tuple((model.width, model.layers, model.heads) for model in sweep.models)
    config.learning_rates, config.tokens = sweep.learning_rates, sweep.tokens
    return config


def sweep(config):
    families = []
    for width, layers, heads in config.models:
        with config.unlocked() as at:
            at.family.width, at.family.layers, at.family.heads = width, layers, heads
        families.append(experiment.family_at(config, max(5e3, 12 * layers * width**2)))
    base = experiment.from_config(config)
    return experiment.grid(base, {"family": families, "optim.learning_rate": list(config.learning_rates),
                                  "data.tokens": list(config.tokens)})
