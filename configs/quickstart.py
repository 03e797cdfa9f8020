"""A language-model scaling study on real Python code, from nothing to a checked forecast, on a laptop.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

The sweep has Transformers of four widths and three layers, on four amounts of data over a factor of 8, with two seeds each.
No rate is tuned: one base rate serves all sizes (see docs/recipes.md), and falls with the amount of data as D^-0.44, which
configs/recipe_tokens.py measured. Laws are scored on held-out runs, and the best one forecasts a run with ten times the
compute of the largest fitted one before that run is trained.

Cost: COST
Expect: EXPECT
"""

from scaling import experiment
from scaling.experiment import RateRule, by_rule, grid


def get_config():
    config = experiment.config("transformer")
    config.title = "Byte-level Transformers on the Python standard library"
    config.metric = "bits_per_byte"
    config.prompts = ("def ", "class ")
    # Muon learns about twice as fast as AdamW in runs this short, and a few layers run faster unrolled than scanned.
    config.optim.update({"name": "muon", "warmup": 20, "table_rate": 8.0, "learning_rate": 0.026})
    config.horizon = -0.44  # the power of the amount of data by which the rate falls
    config.family.update({"layers": 3, "head_dim": 16, "scan": False})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 131_072})
    config.widths, config.seeds = (16, 24, 32, 48), 2
    config.tokens = (262_144, 524_288, 1_048_576, 2_097_152)
    config.target_width, config.target_tokens = 96, 5_242_880
    return config


def rule(config):
    return RateRule(seen=config.tokens[0], batch=config.data.batch, horizon=config.horizon)


def family(config, width):
    config = config.copy_and_resolve_references()
    config.family.width = width
    return experiment.family_at(config, config.family.size)


def sweep(config):
    runs = grid(experiment.from_config(config), {
        "family": [family(config, width) for width in config.widths], "data.tokens": list(config.tokens),
        "seed": list(range(config.seeds))})
    return by_rule(runs, rule(config))


def target(config, learning_rate):
    del learning_rate  # the rule gives it
    base = experiment.from_config(config)
    return rule(config)(base.replace({"family": family(config, config.target_width), "data.tokens": config.target_tokens}))
