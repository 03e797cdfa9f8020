"""How does the best learning rate fall with the horizon? Loss against the rate for runs of 256 to 4,096 steps of one model.

    python -m experiments.run --config=configs/recipe_tokens.py --workdir=runs/tokens        # AdamW
    python -m experiments.run --config=configs/recipe_tokens.py:muon --workdir=runs/tokens-muon
    python -m tools.draw_recipes --workdirs=runs/tokens,runs/tokens-muon --along=steps

Runs of one rate share a trunk, and each has a cooldown of its own.

Cost: one CPU core, ten minutes for either optimiser (1.4e13 FLOPs of the models).
Expect: the best rate falls as steps^-0.29 under Muon and as steps^-0.42 under AdamW. See docs/recipes.md.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(optimiser="adamw"):
    config = experiment.config("transformer")
    config.title, config.metric = "Learning rates over the horizon", "bits_per_byte"
    config.optim.name, config.optim.warmup = optimiser, 20
    config.family.update({"head_dim": 16, "scan": False, "width": 32, "layers": 3})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 65_536})
    config.steps = (256, 512, 1024, 2048, 4096)
    config.learning_rates = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    return config


def sweep(config):
    base = experiment.from_config(config)
    return grid(base, {"data.tokens": [steps * base.data.per_step for steps in config.steps],
                       "optim.learning_rate": list(config.learning_rates)})
