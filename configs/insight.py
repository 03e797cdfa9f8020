"""What do Transformers of several depths know, and when do they learn it? A small ladder for `tools.probe`.

    python -m experiments.run --config=configs/insight.py --workdir=runs/insight
    python -m tools.probe --workdir=runs/insight --runs=sizes --output=insight

Byte-level Transformers of 1, 2 and 4 layers and two widths, on three amounts of Python's standard library over a factor
of 16. One rate serves all, so runs of one shape share a trunk: the three amounts are three moments of one training, each
with its own cooldown. Windows have 256 bytes, so that there is something to repeat in them. No target is trained.

Cost: one CPU core, ten minutes; 18 runs in 6 programs, 1.4e13 FLOPs of the models.
Expect: see docs/insight.md, whose figures are of this ladder.
"""

from scaling import experiment
from scaling.experiment import grid


def get_config():
    config = experiment.config("transformer")
    config.title, config.metric, config.prompts = "Transformers to look into", "bits_per_byte", ("def ",)
    config.optim.update({"name": "muon", "warmup": 20, "table_rate": 8.0, "learning_rate": 0.015})
    config.family.update({"head_dim": 16, "base_layers": 2})
    config.data.update({"length": 256, "batch": 4, "evaluation_tokens": 131_072})
    config.depths, config.widths = (1, 2, 4), (32, 64)
    config.tokens, config.seeds = (262_144, 1_048_576, 4_194_304), 1
    return config


def sweep(config):
    base = experiment.from_config(config)
    shapes = [experiment.family_at(of_shape(config, layers, width), config.family.size)
              for layers in config.depths for width in config.widths]
    return grid(base, {"family": shapes, "data.tokens": list(config.tokens),
                       "seed": [config.seed + number for number in range(config.seeds)]})


def of_shape(config, layers, width):
    shaped = config.copy_and_resolve_references()
    shaped.family.update({"layers": layers, "width": width})
    return shaped
