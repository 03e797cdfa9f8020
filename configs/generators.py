"""Which generator of images is the best at which compute? Four families on one stream, forecast at 10 and 30 times.

    python -m experiments.forecast_table --config=configs/generators.py --workdir=runs/generators
    at=runs/generators
    python -m experiments.report --output=$at/page-glyphs \\
        --workdirs=$at/vae-glyphs-30,$at/gan-glyphs-30,$at/diffusion-glyphs-30,$at/coded-glyphs-30

    python -m experiments.run --config=configs/generators.py:gan-garments-10 --workdir=runs/gan-garments-10

A VAE, a GAN, a diffusion model, and a Transformer over the codes of an FSQ tokenizer learn the same images, without labels:
rendered letters (`glyphs`, endless), and photographs of garments (`fashion_mnist`, 60,000). Each family has its own ladder,
whose width grows at a fixed depth, with the base rate that its pilot gave. What a family trains is fitted and forecast,
which is a bound on bits per dimension, or for the GAN the Fréchet distance at infinitely many samples. The samples of all
runs are judged alike, so that the page shows the distance, precision and coverage of all four against compute. A variant
such as `vae-fashion_mnist-rates` is a pilot of five rates in three corners: the base rates of the ladders, which are of
letters, lie within a step of 1.7 of the best on garments too. Distances are those of the package's classifier of letters,
also on garments; `vae-garments-10` and so on are the same runs, judged by a classifier of the ten kinds of garments that is
trained first (`data.features=labels`), whose accuracy records have.

Cost: 184 fitted runs and 16 targets of each kind of image, 1.7e13 FLOPs of the models; about 35 minutes of a CPU core for
letters and 30 for garments, half of it for the GANs. The four studies `*-garments-10` have 7.0e12 FLOPs.
Expect (docs/generators.md has the figures and samples): of Fréchet distances against compute the GAN's and, on garments,
that of codes fall the fastest; codes are lowest from the start, without the tokenizer's 9.8e10 FLOPs. Fourteen of sixteen
forecasts are inside: bounds within 0.6 to 3.2%, distances of GANs off by -37 to +51%.
"""

from experiments._ladders import CODED, QUICK_DIFFUSION, QUICK_GAN, QUICK_VAE
from scaling.fields import ConfigError, nearest

LADDERS = {"vae": QUICK_VAE, "gan": QUICK_GAN, "diffusion": QUICK_DIFFUSION, "coded": CODED}
DATA = {"glyphs": {"data.name": "glyphs/letters", "data.size": 16},
        "fashion_mnist": {"data.name": "fashion_mnist", "data.size": 16}}
GARMENTS = DATA["fashion_mnist"] | {"data.features": "labels"}  # judged by a classifier of the garments
UNLABELLED = {"data.label": "", "data.classes": 0}
WIDTHS, AMOUNTS = (12, 16, 24, 32), (4_000, 6_000, 9_000, 14_000, 20_000)
WIDEST, SEEDS = (32, 32, 24, 16, 12), (4, 3, 3, 3, 3)
CORNERS = ((12, 4_000), (32, 4_000), (12, 20_000))  # widths and images of a pilot
TARGETS = {"10": (32, 60_000), "30": (48, 87_000)}  # width and images, by the compute over the largest fitted run's
SAMPLES, BESIDE = 2048, ("fd_infinity_relative", "precision", "coverage")


def names():
    """The studies that the pages are made of."""
    return [f"{family}-{data}-{ratio}" for data in DATA for family in LADDERS for ratio in TARGETS]


def get_config(study="vae-glyphs-10"):
    known = names() + [f"{family}-{data}-rates" for data in DATA for family in LADDERS]
    known += [f"{family}-garments-{ratio}" for family in LADDERS for ratio in TARGETS]
    if study not in known:
        raise ConfigError(f"--config=configs/generators.py:{study} is no study of this config; {nearest(study, known)}")
    family, data, part = study.split("-")
    config = LADDERS[family].config(**UNLABELLED, **{**DATA, "garments": GARMENTS}[data], **{
        "data.levels": 16, "data.samples": 0 if part == "rates" and family != "gan" else SAMPLES,
        "data.evaluation_examples": SAMPLES})
    config.ladder, config.law, config.target_seeds = family, "bounded", 2
    config.corners = CORNERS if part == "rates" else ()
    config.title = f"Four generators of images: {family} on {data}"
    config.metric = BESIDE[0] if family == "gan" else "bits_per_dim"
    config.beside = () if part == "rates" else tuple(name for name in BESIDE if name != config.metric)
    config.widths, config.amounts, config.widest, config.seeds = WIDTHS, AMOUNTS, WIDEST, SEEDS
    config.target_width, config.target_amount = TARGETS.get(part, (0, 0))
    return config


def sweep(config):
    return LADDERS[config.ladder].sweep(config)


def target(config, learning_rate):
    del learning_rate  # the rule of the ladder gives it
    return LADDERS[config.ladder].target(config)
