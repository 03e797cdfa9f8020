"""Does one learning rate serve every width? Loss against the rate at widths over a factor of 16, all with three layers.

    python -m experiments.run --config=configs/recipe_width.py --workdir=runs/width          # AdamW
    python -m experiments.run --config=configs/recipe_width.py:muon --workdir=runs/width-muon
    python -m tools.draw_recipes --workdirs=runs/width,runs/width-muon --along=width

Cost: one CPU core, half an hour for either optimiser (5.4e13 FLOPs of the models, most of them at width 256).
Expect: the best rate moves by a factor of 1.5 over all widths, less than the factor of 2 between neighbouring rates. Under
Muon it falls from .026 to .017, under AdamW it stays between .010 and .015. See docs/recipes.md.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(optimiser="adamw"):
    config = experiment.config("transformer")
    config.title, config.metric = "Learning rates over width", "bits_per_byte"
    config.optim.name, config.optim.warmup = optimiser, 20
    config.family.update({"head_dim": 16, "scan": False, "layers": 3})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 65_536, "tokens": 256 * 1024})
    config.widths = (16, 32, 64, 128, 256)
    config.learning_rates = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    return config


def sweep(config):
    def wide(width):
        sized = config.copy_and_resolve_references()
        sized.family.width = width
        return experiment.family_at(sized, 1e5)

    return grid(experiment.from_config(config), {
        "family": [wide(width) for width in config.widths], "optim.learning_rate": list(config.learning_rates)})
