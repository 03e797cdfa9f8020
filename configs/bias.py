"""Do generators exaggerate what goes together in their data? Four families that are told the digit, against N and D.

    python -m experiments.run --config=configs/bias.py:vae --workdir=runs/bias-vae
    python -m tools.bias --workdir=runs/bias-vae

The variants are `vae`, `gan`, `diffusion` and `multimodal`. In these rendered digits even ones are bold and odd ones
regular in 80% of images, a correlation that is planted (`data.correlate`). All models are told the digit and nothing of the
weight: three by a label, and the model of captions and images by a caption such as "DIGIT SEVEN,", whose first 12 bytes
have no name of a font. A model that draws more than 80% in agreement amplifies the bias. Each family has two widths, three
amounts of data and two seeds of each, at the rates of its ladder (docs/recipes.md). The tokenizer of the model of captions
and images has learnt from digits in which nothing goes together.

Cost: one CPU core, about two minutes of its time for `vae` and `diffusion`, three for `multimodal` and four for `gan` (12
runs each, 2e11 to 7e11 FLOPs), compilation included, and 20 to 80 seconds for each `tools.bias`.
Expect: BiasAmp below zero in nearly all runs, which rises with the data; docs/safety.md has the figure and the table.
"""

from experiments._ladders import MULTIMODAL, QUICK_DIFFUSION, QUICK_GAN, QUICK_VAE
from scaling.fields import ConfigError, nearest

PLANTED = {"data.name": "glyphs/digits", "data.correlate": "character,weight", "data.agree": 0.8,
           "data.evaluation_examples": 1024}
LABEL = {"data.label": "character", "data.classes": 10}
LADDERS = {"vae": (QUICK_VAE, LABEL), "gan": (QUICK_GAN, LABEL | {"data.samples": 1024}),
           "diffusion": (QUICK_DIFFUSION, LABEL), "multimodal": (MULTIMODAL, {"data.caption": 12})}
WIDTHS = {"vae": (12, 32), "gan": (12, 24), "diffusion": (12, 32), "multimodal": (12, 32)}
AMOUNTS, SEEDS = (2_000, 6_000, 18_000), 2


def get_config(family="vae"):
    if family not in LADDERS:
        raise ConfigError(f"--config=configs/bias.py:{family} is no study of this config; {nearest(family, LADDERS)}")
    ladder, condition = LADDERS[family]
    config = ladder.config(**PLANTED, **condition)
    config.ladder, config.corners = family, ()
    config.title = f"Bias of digits and their weight: {family}"
    config.metric = {"gan": "fd_infinity_relative", "multimodal": "loss"}.get(family, "bits_per_dim")
    config.widths, config.amounts = WIDTHS[family], AMOUNTS
    config.widest, config.seeds = (WIDTHS[family][-1],) * len(AMOUNTS), (SEEDS,) * len(AMOUNTS)
    if family == "multimodal":
        config.tokenizer_amount = 17_000
    return config


def sweep(config):
    return LADDERS[config.ladder][0].sweep(config)
