"""The table of forecasts: families on two kinds of data each, forecast at 10, 30, 100 and 300 times the fitted compute.

    python -m experiments.forecast_table --config=configs/forecasts.py --workdir=runs/forecasts --hours=2
    python -m experiments.run --config=configs/forecasts.py:transformer-pycode-30 --workdir=runs/pycode-30

Every study is named by its family, its data and the ratio of compute. The four studies of a family and its data fit the
same runs, which are trained once. A ladder holds the depth fixed and lets the width grow, the batch grows with the square
root of the amount of data, and one base rate serves all runs by a rule. Each cell has several seeds, and most targets have
three, whose mean is forecast. `transformer-pycode-rates` is the pilot that gave the base rate: five rates in the corners of
the grid, without a forecast. `transformer-pycode-scatter` is one for `tools.rehearse`: two seeds of every cell.

Cost and results: docs/forecasts.md.
"""

import dataclasses

from experiments._ladders import GAN, TRANSFORMER, VAE, Rungs
from scaling.fields import ConfigError

RATIOS = (10, 30, 100, 300)
PILOTS = ("rates", "scatter")  # parts of a plan without a forecast


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is fitted and what is forecast, for one family on one kind of data.

    Amounts of data are in tokens or examples. `cells` holds the largest width for each amount; the targets are (width,
    amount) for each of RATIOS, each the mean of so many seeds. The config has the fields of the ladder and then `fields`.
    """

    title: str
    metric: str
    rungs: Rungs
    cells: dict[int, int]
    seeds: tuple[int | tuple[int, ...], ...]  # of each amount, or of each of its widths
    widths: tuple[int, ...]
    targets: tuple[tuple[int, int], ...]
    target_seeds: tuple[int, ...] = (3, 3, 3, 3)
    law: str = "bounded"
    seed: int = 0  # the first one; a plan that is tried again takes others
    fields: dict = dataclasses.field(default_factory=dict)


TEACHER = {"data.name": "teacher:2,coupling=3", "data.levels": 4}

# Below width 20 a seed scatters three times as much, since groups of latents are given up. Seeds as for TRANSFORMERS.
VAES = {
    "metric": "bits_per_dim", "rungs": VAE, "widths": (20, 24, 32, 40, 48, 56), "law": "stacked", "seed": 400,
    "cells": {8_000: 56, 11_300: 48, 16_000: 40, 22_600: 32, 32_000: 24, 45_000: 24, 64_000: 20},
    "seeds": ((31, 8, 9, 7, 6, 9), (11, 11, 8, 2, 5), (15, 12, 5, 7), (12, 6, 9), (7, 4), (6, 11), (11,)),
    "targets": ((56, 105_000), (72, 194_000), (104, 330_000), (128, 655_000)), "target_seeds": (3, 2, 1, 1),
}

GANS = {  # the cells, seeds and law of configs/gan_scaling.py, whose target is the first one
    "metric": "fd_infinity_relative", "rungs": GAN, "widths": (12, 16, 24, 32, 40), "law": "kaplan", "seed": 400,
    "cells": {10_000: 40, 14_000: 32, 20_000: 24, 28_000: 24, 40_000: 16, 56_000: 12}, "seeds": (8, 6, 6, 6, 6, 6),
    "targets": ((48, 78_000), (64, 131_000), (88, 235_000), (120, 400_000)), "target_seeds": (3, 3, 2, 1),
}

# Seeds lie where one narrows the forecast most for its cost, by the slopes of three laws and the scatter of 44 pilot runs.
TRANSFORMERS = {
    "rungs": TRANSFORMER, "widths": (16, 24, 32, 40, 48, 64, 80),
    "cells": {262_144: 80, 370_688: 64, 524_288: 48, 741_376: 48, 1_048_576: 40, 1_482_752: 32, 2_097_152: 24,
              2_965_504: 16},
    "seeds": ((64, 8, 4, 4, 4, 4, 6), (4, 24, 24, 6, 4, 2), (4, 32, 20, 4, 4), (6, 24, 6, 4, 16), (6, 8, 4, 12), (4, 4, 16),
              (4, 6), (4,)),
}

PLANS = {
    "transformer-pycode": Plan(title="Byte-level Transformers on Python code", metric="bits_per_byte", seed=400, law="best",
                               targets=((80, 3_370_000), (104, 6_400_000), (144, 11_800_000), (192, 20_900_000)),
                               target_seeds=(3, 3, 3, 1), **TRANSFORMERS),
    "transformer-hmm": Plan(title="Transformers on the tokens of a hidden Markov chain", metric="loss", seed=400,
                            law="best", targets=((80, 3_060_000), (104, 5_650_000), (144, 10_070_000), (192, 17_450_000)),
                            target_seeds=(3, 3, 3, 1), fields={"data.name": "hmm:64"}, **TRANSFORMERS),
    "vae-glyphs": Plan(title="Hierarchical VAEs on rendered letters", **VAES),
    "vae-teacher": Plan(title="Hierarchical VAEs on the images of a teacher", fields=TEACHER, **VAES),
    "gan-glyphs": Plan(title="Generative adversarial networks on rendered letters", fields={"data.critic_steps": 200},
                       **GANS),
    "gan-teacher": Plan(title="Generative adversarial networks on the images of a teacher", fields=TEACHER, **GANS),
}


def names():
    """The studies that the table is made of."""
    return [f"{name}-{ratio}" for name in PLANS for ratio in RATIOS]


def get_config(study="transformer-pycode-10"):
    name, _, part = study.rpartition("-")
    if name not in PLANS or part not in (*PILOTS, *map(str, RATIOS)):
        raise ConfigError(f"{study} is no study of this config; write one of {', '.join(names())}, or {next(iter(PLANS))}"
                          "-rates or -scatter for a pilot")
    plan = PLANS[name]
    config = plan.rungs.config(**plan.fields)
    config.title, config.metric, config.law = plan.title, plan.metric, plan.law
    config.target_seeds = 1 if part in PILOTS else plan.target_seeds[RATIOS.index(int(part))]
    config.plan, config.part, config.seed = name, part, 900 if part == "scatter" else plan.seed
    return config


def sweep(config):
    plan = PLANS[config.plan]
    rungs = plan.rungs
    if config.part != "rates":
        seeds = (2,) * len(plan.cells) if config.part == "scatter" else plan.seeds
        return rungs.triangle(config, plan.widths, plan.cells, seeds)
    amounts = (rungs.least, sorted(plan.cells)[2], max(plan.cells))
    corners = [(width, amount) for amount in amounts
               for width in (min(plan.widths[1], plan.cells[amount]), plan.cells[amount])]
    return rungs.rates(config, corners)


def target(config, learning_rate):
    del learning_rate  # the rule gives it
    if config.part in PILOTS:
        return None
    plan = PLANS[config.plan]
    width, amount = plan.targets[RATIOS.index(int(config.part))]
    return plan.rungs.run(config, width, amount)
