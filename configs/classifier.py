"""How robust error scales: adversarially trained classifiers of rendered digits against size and data, and a forecast.

    python -m experiments.run --config=configs/classifier.py --workdir=runs/classifier
    python -m experiments.run --config=configs/classifier.py:quick --workdir=runs/classifier-quick
"""

from experiments._ladders import CLASSIFIER, QUICK_CLASSIFIER

CORNERS = ((12, 8_000), (32, 8_000), (12, 24_000), (24, 32_000))  # widths and images of a pilot


def get_config(scale="full"):
    config = CLASSIFIER.config()
    config.quick, config.corners = False, ()
    config.title = "Classifiers of rendered digits under attack"
    config.metric, config.beside, config.law = "robust_error", ("robust_loss",), "bounded"
    config.widths = (12, 16, 24, 32, 48, 64)
    config.amounts = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)  # images
    config.widest = (64, 48, 32, 24, 16, 12)  # the largest width of each amount
    config.seeds = (6, 5, 4, 3, 3, 2)  # of each amount; they count from config.seed
    config.target_width, config.target_amount = 72, 125_000
    if scale in ("quick", "rates"):
        config.quick = True
        config.corners = CORNERS if scale == "rates" else ()
        config.data.evaluation_examples, config.family.test_steps = 512, 6
        config.amounts = (6_000, 10_000, 16_000, 26_000, 40_000)
        config.widths, config.widest = (12, 16, 24, 32), (32, 32, 24, 16, 12)
        config.seeds = (2, 2, 1, 1, 1)
        config.target_width, config.target_amount = 32, 64_000
    return config


def sweep(config):
    return ladder(config).sweep(config)


def target(config, learning_rate):
    del learning_rate  # the rule of the ladder gives it
    return ladder(config).target(config)


def ladder(config):
    return QUICK_CLASSIFIER if config.quick else CLASSIFIER
