"""Does one learning rate serve every width? Loss against the rate at widths over a factor of 16, all with three layers.

    python -m experiments.run --config=configs/recipe_width.py --workdir=runs/width          # AdamW
    python -m experiments.run --config=configs/recipe_width.py:muon --workdir=runs/width-muon
    python -m tools.draw_recipes --workdirs=runs/width,runs/width-muon --along=width

Cost: two CPU cores; about two minutes for widths 16 to 64 of 256 steps (four under Muon); the whole config was not run yet.
Expect: see docs/recipes.md, which says what was measured.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config(optimiser="adamw"):
    config = experiment.config("transformer")
    config.title, config.metric = "Learning rates over width", "bits_per_byte"
    config.optim.name, config.optim.warmup = optimiser, 20
    config.family.update({"head_dim": 16, "scan": False, "layers": 3})
    config.data.update({"length": 128, "batch": 8, "evaluation_tokens": 65_536, "tokens": 512 * 1024})
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
