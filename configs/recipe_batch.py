"""How does the best learning rate grow with the batch? Loss against the rate for batches of 4 to 64 sequences.

    python -m experiments.run --config=configs/recipe_batch.py --workdir=runs/batch          # AdamW
    python -m experiments.run --config=configs/recipe_batch.py:muon --workdir=runs/batch-muon
    python -m tools.draw_recipes --workdirs=runs/batch,runs/batch-muon --along=batch

All runs see 2,097,152 tokens, so that larger batches take fewer steps: 4,096 to 256.

Cost: one CPU core, eight minutes for either optimiser (2.4e13 FLOPs of the models).
Expect: the best rate grows as batch^0.67 under Muon, up to batches of 16, and as batch^0.32 under AdamW, up to 32. See
docs/recipes.md, whose larger batches had the highest rate that was tried; there is one more now.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(optimiser="adamw"):
    config = experiment.config("transformer")
    config.title, config.metric = "Learning rates over the batch", "bits_per_byte"
    config.optim.name, config.optim.warmup = optimiser, 20
    config.family.update({"head_dim": 16, "scan": False, "width": 32, "layers": 3})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 65_536, "tokens": 2**21})
    config.batches = (4, 8, 16, 32, 64)
    config.learning_rates = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
    return config


def sweep(config):
    return grid(experiment.from_config(config), {
        "data.batch": list(config.batches), "optim.learning_rate": list(config.learning_rates)})
