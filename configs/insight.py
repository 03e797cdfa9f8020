"""What do models know, in which layer, and since when? Three small ladders for `tools.probe`.

    python -m experiments.run --config=configs/insight.py --workdir=runs/insight
    python -m experiments.run --config=configs/insight.py:copies --workdir=runs/insight-copies
    python -m experiments.run --config=configs/insight.py:glyphs --workdir=runs/insight-glyphs
    python -m tools.probe --workdir=runs/insight --runs=all --output=insight

The first has byte-level Transformers of five shapes, from 1 to 4 layers, on three amounts of Python's standard library over
a factor of 16. One rate serves all, so runs of one shape share a trunk: the three amounts are three moments of one
training, each with its own cooldown. Windows have 256 bytes, so that there is something to repeat in them. `:copies` has
one layer and two of about as many parameters on strings that repeat, as `experiments/claims/reach.py` has them, at more
moments. `:glyphs` has autoencoders of rendered letters, whose character, font, slant and size are known, of two widths.

Cost: one CPU core, six minutes for the first (15 runs in 5 programs, 1.0e13 FLOPs of the models) and two for each of the
others (20 runs in 2 programs and 2 in 2, 9.1e11 and 1.4e11 FLOPs).
Expect: docs/insight.md, whose figures are of these ladders.
"""

from experiments._ladders import QUICK_FSQ, TRANSFORMER
from scaling import experiment
from scaling.experiment import chain, grid
from scaling.fields import ConfigError


def get_config(data="code"):
    if data == "glyphs":
        config = QUICK_FSQ.config(**{"family.layers": 2})
        config.title, config.metric, config.tune = "Autoencoders of letters to look into", "distortion", 0.0
        config.widths, config.amounts = (12, 24), (32_000,)
        return config
    if data == "copies":
        config = TRANSFORMER.config(**{"data.name": "repeats:8", "data.length": 64, "data.evaluation_tokens": 32_768})
        config.title, config.metric, config.tune = "Transformers that copy, to look into", "bits_per_byte", 0.0
        config.shapes, config.seeds = ((1, 48), (2, 32)), 2
        config.amounts = (65_536, 131_072, 262_144, 524_288, 1_048_576)
        return config
    if data != "code":
        raise ConfigError(f"--config=configs/insight.py:{data} is not known; write code, copies or glyphs")
    config = experiment.config("transformer")
    config.title, config.metric, config.prompts = "Transformers to look into", "bits_per_byte", ("def ",)
    config.optim.update({"name": "muon", "warmup": 20, "table_rate": 8.0, "learning_rate": 0.015})
    config.family.update({"head_dim": 16, "base_layers": 2})
    config.data.update({"length": 256, "batch": 4, "evaluation_tokens": 131_072})
    config.shapes = ((1, 32), (1, 64), (2, 32), (2, 64), (4, 32))  # layers and width
    config.amounts, config.seeds = (262_144, 1_048_576, 4_194_304), 1
    return config


def sweep(config):
    if "shapes" not in config:
        return [QUICK_FSQ.run(config, width, amount) for width in config.widths for amount in config.amounts]
    copies = config.data.name.startswith("repeats")
    bases = [TRANSFORMER.run(of_shape(config, layers, width), width, max(config.amounts)) if copies else
             experiment.from_config(of_shape(config, layers, width)) for layers, width in config.shapes]
    seeds = [config.seed + number for number in range(config.seeds)]
    return chain(*(grid(base, {"data.tokens": list(config.amounts), "seed": seeds}) for base in bases))


def of_shape(config, layers, width):
    shaped = config.copy_and_resolve_references()
    shaped.family.update({"layers": layers, "width": width})
    return shaped
