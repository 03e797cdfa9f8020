"""How a prior over the codes of images scales: bits of rendered letters given their character, and a forecast.

    python -m experiments.run --config=configs/coded_scaling.py --workdir=runs/coded
    python -m experiments.run --config=configs/coded_scaling.py:quick --workdir=runs/coded-quick

One tokenizer is trained first, and all runs stand on it (docs/finetuning.md).
"""

from experiments._ladders import CODED

CORNERS = ((12, 3_000), (32, 3_000), (12, 17_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = CODED.config()
    config.quick, config.corners = False, ()
    config.title = "Priors over the codes of rendered letters"
    config.metric, config.beside, config.law = "bits_per_dim", ("rate",), "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (8, 6, 4, 4, 3, 3)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if scale in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if scale == "rates" else ()
        config.amounts = (3_000, 4_200, 6_000, 8_500, 12_000, 17_000)
        config.widths, config.widest = (12, 16, 24, 32), (32, 32, 24, 24, 16, 12)
        config.seeds = (3, 2, 2, 2, 2, 2)
        config.target_width, config.target_amount = 32, 50_000
    return config


def sweep(config):
    return CODED.sweep(config)


def target(config, learning_rate):
    del learning_rate  # the rule of the ladder gives it
    return CODED.target(config)
