"""Does one learning rate serve every depth? Loss against the rate at 2 to 32 layers of width 32, with CompleteP.

    python -m experiments.run --config=configs/recipe_depth.py --workdir=runs/depth          # AdamW
    python -m experiments.run --config=configs/recipe_depth.py:muon --workdir=runs/depth-muon
    python -m tools.draw_recipes --workdirs=runs/depth,runs/depth-muon --along=layers

`--config.family.base_layers=0` leaves branches as they are, with initial weights of 1/sqrt(2 layers).

Cost: one CPU core, ten minutes for either optimiser (2.4e13 FLOPs of the models).
Expect: the best rate moves by a factor of 1.5 from 2 to 32 layers, less than the factor of 2 between neighbouring rates.
See docs/recipes.md.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(optimiser="adamw"):
    config = experiment.config("transformer")
    config.title, config.metric = "Learning rates over depth", "bits_per_byte"
    config.optim.name, config.optim.warmup = optimiser, 20
    config.family.update({"head_dim": 16, "width": 32, "base_layers": 2})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 65_536, "tokens": 512 * 1024})
    config.depths = (2, 4, 8, 16, 32)
    config.learning_rates = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    return config


def sweep(config):
    runs = grid(experiment.from_config(config), {
        "family.layers": list(config.depths), "optim.learning_rate": list(config.learning_rates)})
    return [e.replace({"family.scan": e.family.layers > 8}) for e in runs]  # few layers run faster unrolled
