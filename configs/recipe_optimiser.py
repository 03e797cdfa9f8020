"""Which rate does AdamW need where Muon's is known? Loss against the rate of both at the ends of the ladder of a claim.

    python -m experiments.run --config=configs/recipe_optimiser.py --workdir=runs/optimisers          # a Transformer
    python -m experiments.run --config=configs/recipe_optimiser.py:vae --workdir=runs/optimisers-vae

The claim `fade` compares the two optimisers on four rungs of size and data. Its rate of AdamW is a multiple of Muon's, and
this study finds that factor at the smallest and at the largest rung, with seeds that the claim does not use.

Cost: two CPU cores, about three minutes.
Expect: see docs/recipes.md, which says what was measured.
"""

from experiments.claims import _recipes, fade
from scaling import experiment


def get_config(family="transformer"):
    config = experiment.config(family)
    config.title, config.metric = "Learning rates of two optimisers", fade.METRICS[family]
    config.seed, config.seeds = 900, 2
    config.muon = (0.5, 1.0, 2.0)  # times the rate of the ladder
    config.adamw = (0.06, 0.12, 0.25, 0.5, 1.0)
    return config


def sweep(config):
    rungs, runs = fade.RUNGS["5m"][config.family.name][0], []
    for width, amount in (rungs[0], rungs[-1]):
        for seed in range(config.seed, config.seed + config.seeds):
            run = _recipes.RECIPES[config.family.name](width, amount, seed)
            for factors, change in ((config.muon, {}), (config.adamw, fade.ADAMW[config.family.name])):
                runs += [run.replace(change | {"optim.learning_rate": run.optim.learning_rate * factor})
                         for factor in factors]
    return runs


def target(config, learning_rate):
    """None: nothing is forecast."""
    del config, learning_rate
