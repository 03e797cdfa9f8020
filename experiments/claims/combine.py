"""Conditions combine: models draw combinations of two factors that no training image has."""

import dataclasses

import jax
import numpy as np
import pandas as pd

import scaling
from experiments.claims import _recipes
from experiments.claims.bias import Gauge
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

PAIR = "slant,weight"  # in training, bold digits are slanted and regular ones upright, without an exception
CAPTION = 42  # bytes; captions name the digit and the font, such as "DIGIT TWO, DejaVu Sans Bold Oblique"
SIZES = {"5m": {"vae": ((12, 24), 32_000), "gan": ((12, 20), 24_000)},  # widths, images
         "30m": {"vae": ((12, 24, 40), 128_000), "gan": ((12, 20, 32), 64_000)},
         "2h": {"vae": ((12, 24, 48, 80), 256_000), "gan": ((12, 20, 32, 48), 128_000)},
         "gpu": {"vae": ((24, 64, 128, 256), 2_000_000), "gan": ((16, 32, 64, 128), 1_000_000)}}
SEEDS, SAMPLES = 4, 2048


def parts(budget):
    recipes = {"vae": (_recipes.vae, "bits_per_dim"), "gan": (_recipes.gan, "fd_infinity_relative")}
    found = {}
    for family, (recipe, metric) in recipes.items():
        widths, images = SIZES[budget][family]
        found[family] = Part([recipe(width, images, seed, data="glyphs/digits", **{
            "data.correlate": PAIR, "data.agree": 1.0, "data.caption": CAPTION, "data.evaluation_examples": SAMPLES})
            for width in widths for seed in range(SEEDS)], metric)
    return found


def analyse(name: str, part: Trained) -> Finding:
    del name
    gauges, sides, rows = None, {}, []
    for row in part.runs[["fingerprint", "params_non_embedding", "seed"]].to_dict("records"):
        run = scaling.restore(part.workdir, row["fingerprint"])
        data = run.experiment.data
        gauges = gauges or [Gauge(data, factor) for factor in PAIR.split(",")]
        sides = sides or {"seen": asked(data, 1.0), "unseen": asked(data, 0.0)}  # all runs have the same data
        rows.append(row | {side: share_right(run, gauges, *wanted) for side, wanted in sides.items()})
    return judge(pd.DataFrame(rows))


def asked(data, agree: float) -> tuple[dict, np.ndarray, np.ndarray]:
    """(captions of SAMPLES images in which the factors agree or not, these images, their factors, int32 [2, SAMPLES])."""
    found = [dataclasses.replace(data, agree=agree, label=factor, classes=2).load().evaluation("iid", SAMPLES)
             for factor in PAIR.split(",")]
    return {"caption": found[0]["caption"]}, found[0]["image"], np.stack([each["label"] for each in found])


def share_right(run, gauges, captions, images, factors) -> float:
    """The share of samples that show both factors as their captions say, over that of real images with these captions."""
    drawn = draw(run, captions)
    shares = [float(np.all([gauge.labeller.predict(shown) == wanted for gauge, wanted in zip(gauges, factors, strict=True)],
                           axis=0).mean()) for shown in (drawn, images)]
    return shares[0] / shares[1]


def draw(run, captions) -> np.ndarray:
    """An image of a restored run for each of SAMPLES captions, uint8."""
    batch = {**captions, "example": np.arange(SAMPLES, dtype=np.int32)}
    return np.asarray(jax.jit(run.family.sample)(run.params, batch, jax.random.key(0)))


def judge(table: pd.DataFrame) -> Finding:
    """table: a row for each run, with its params_non_embedding, seed, and what `share_right` gives for combinations that
    training has (`seen`) and has not (`unseen`)."""
    sizes = sorted(table["params_non_embedding"].unique())
    largest = table[table["params_non_embedding"] == sizes[-1]]
    ratio = largest["unseen"] / largest["seen"]
    means = table.groupby("params_non_embedding")[["seen", "unseen"]].mean()
    lines = [Line(f"combinations {name}", sizes, list(means[name])) for name in ("seen", "unseen")]
    said = (f"Both factors are as the caption says in {means['seen'].iloc[-1]:.0%} of the largest models' samples for "
            f"combinations that training has, and in {means['unseen'].iloc[-1]:.0%} for others, as shares of real images.")
    return Finding({"learnt": statistics.mean(largest["seen"]), "combines": statistics.mean(ratio)},
                   Panel("parameters", "both factors right, over real images", lines), said)


CLAIM = Claim(
    id="combine", statement="Conditions combine: models draw combinations of factors that no training image has.",
    source="Okawa et al. 2023, arXiv:2310.09336 (diffusion models combine concepts, suddenly, once each is learnt); Zhao "
           "et al. 2018, arXiv:1811.03259 (GANs and VAEs draw numbers and combinations beyond those of training)",
    published={"": "diffusion models do so in longer training; no share for VAEs and GANs"},
    rules={"learnt": Criterion("how often both factors are as the caption says, for combinations that training has, over "
                               "the same of real images, in the largest models", low=0.6,
                               why="A model that ignores captions has one half, since the factors always agree."),
           "combines": Criterion("the same for combinations that training has not, over the first number", low=0.5,
                                 why="A model that knows only the combinations of training has 0, and one to which the "
                                     "factors are separate has 1.")},
    parts=parts, analyse=analyse,
    cost={"5m": "8 runs of a VAE and 8 of a GAN on digits", "30m": "12 runs of each (not timed)",
          "2h": "16 runs of each (not timed)", "gpu": "16 runs of each, of up to a few million parameters"},
    more="Captions name the styles as fonts do (Bold, Oblique, Italic), and some fonts not at all. Conditions by two "
         "labels instead of a text, more factors, longer training.")
