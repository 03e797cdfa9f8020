"""How one model of captions and images scales: bits of rendered digits and of their names, alone and given each other.

    python -m experiments.run --config=configs/multimodal.py --workdir=runs/multimodal
    python -m experiments.run --config=configs/multimodal.py:quick --workdir=runs/multimodal-quick
    python -m experiments.generate --workdir=runs/multimodal-quick --caption='DIGIT SEVEN, DejaVu'
    python -m experiments.generate --workdir=runs/multimodal-quick --image=7
"""

from experiments._ladders import MULTIMODAL

CORNERS = ((12, 3_000), (32, 3_000), (12, 17_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = MULTIMODAL.config()
    config.quick, config.corners = False, ()
    config.title = "One model of rendered digits and their names"
    config.metric, config.beside, config.law = "loss", ("loss_text", "loss_image", "loss_image_given_text"), "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (8, 6, 4, 4, 3, 3)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if scale in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if scale == "rates" else ()
        config.tokenizer_amount = 17_000
        config.amounts = (2_000, 2_800, 4_000, 5_600, 8_000)
        config.widths, config.widest = (12, 16, 24, 32), (32, 32, 24, 16, 12)
        config.seeds = (2, 1, 1, 1, 1)
        config.target_width, config.target_amount = 32, 16_000
    return config


def sweep(config):
    return MULTIMODAL.sweep(config)


def target(config, learning_rate):
    del learning_rate  # the rule of the ladder gives it
    return MULTIMODAL.target(config)
