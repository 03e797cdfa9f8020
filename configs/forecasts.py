"""The table of forecasts: families on two kinds of data each, forecast at 10, 30, 100 and 300 times the fitted compute.

    python -m experiments.forecast_table --config=configs/forecasts.py --workdir=runs/forecasts --hours=2
    python -m experiments.run --config=configs/forecasts.py:transformer-pycode-30 --workdir=runs/pycode-30

Every study is named by its family, its data and the ratio of compute. The four studies of a family and its data fit the
same runs, which are trained once. A ladder holds the depth fixed and lets the width grow, the batch grows with the square
root of the amount of data, and one base rate serves all runs by a rule. Each cell has several seeds, and each target three,
whose mean is forecast. `transformer-pycode-rates` is the pilot that gave the base rate: five rates in the corners of the
grid, without a forecast.

Cost and results: docs/forecasts.md.
"""

import dataclasses

from scaling import experiment
from scaling.experiment import RateRule, by_rule, chain, grid
from scaling.fields import ConfigError

RATIOS = (10, 30, 100, 300)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is fitted and what is forecast, for one family on one kind of data.

    Amounts of data are in tokens or examples. `cells` holds the largest width for each amount; the targets are (width,
    amount) for each of RATIOS.
    """

    title: str
    metric: str
    cells: dict[int, int]
    seeds: tuple[int, ...]  # of each amount
    widths: tuple[int, ...]
    targets: tuple[tuple[int, int], ...]
    batch: int  # of the least amount
    rate: float  # of `width` on the least amount
    width: int
    horizon: float
    width_power: float
    law: str = "bounded"
    seed: int = 0  # the first one; a plan that is tried again takes others
    fields: dict = dataclasses.field(default_factory=dict)  # of the config

    @property
    def least(self) -> int:
        return min(self.cells)

    @property
    def rule(self) -> RateRule:
        return RateRule(seen=self.least, batch=self.batch, horizon=self.horizon, width=self.width,
                        width_power=self.width_power)


TEXT = {"family.layers": 1, "family.head_dim": 8, "data.length": 128, "data.evaluation_tokens": 262_144,
        "optim.name": "muon", "optim.warmup": 20, "optim.table_rate": 8.0}

IMAGES = {"data.name": "glyphs/letters", "data.size": 16, "data.levels": 16}
TEACHER = {"data.name": "teacher:2,coupling=3", "data.levels": 4}

VAE = {
    "metric": "bits_per_dim", "widths": (8, 12, 16, 24, 32, 48),
    "cells": {4_000: 48, 8_000: 32, 16_000: 24, 32_000: 16, 64_000: 12, 128_000: 8}, "seeds": (12, 8, 6, 4, 4, 4),
    "targets": ((40, 94_000), (56, 153_000), (72, 320_000), (104, 481_000)),
    "batch": 11, "rate": 0.01, "width": 24, "horizon": -0.36, "width_power": 0.0,
    "fields": IMAGES | {"family.layers": 3, "family.components": 3, "data.evaluation_examples": 4096,
                        "optim.name": "muon", "optim.warmup": 40, "optim.ema": 0.99},
}

GAN = {
    "metric": "fd_infinity_relative", "widths": (8, 12, 16, 24),
    "cells": {5_000: 24, 7_000: 16, 10_000: 16, 14_000: 12, 20_000: 12, 28_000: 8, 40_000: 8},
    "seeds": (10, 10, 10, 8, 8, 8, 8),
    "targets": ((32, 34_000), (48, 47_000), (64, 91_000), (96, 123_000)),
    "batch": 8, "rate": 0.008, "width": 16, "horizon": -0.36, "width_power": 0.0,
    "fields": IMAGES | {"family.layers": 2, "data.evaluation_examples": 1024, "data.samples": 4096, "optim.beta1": 0.0,
                        "optim.beta2": 0.99, "optim.epsilon": 1e-8, "optim.weight_decay": 0.0, "optim.clip": 0.0,
                        "optim.warmup": 20, "optim.ema": 0.99},
}

PLANS = {
    "transformer-pycode": Plan(
        title="Byte-level Transformers on Python code", metric="bits_per_byte", widths=(16, 24, 32, 40, 48, 56),
        cells={262_144: 56, 370_688: 48, 524_288: 40, 741_376: 32, 1_048_576: 24, 1_482_752: 16, 2_097_152: 16},
        seeds=(10, 8, 6, 6, 6, 6, 6), seed=100, law="stacked",
        targets=((64, 2_650_000), (88, 4_600_000), (112, 10_000_000), (160, 15_500_000)),
        batch=6, rate=0.0275, width=48, horizon=-0.36, width_power=-0.42, fields=TEXT | {"data.name": "pycode/stdlib"}),
    "transformer-hmm": Plan(
        title="Transformers on the tokens of a hidden Markov chain", metric="loss", widths=(8, 16, 24, 32, 48),
        cells={65_536: 48, 131_072: 48, 262_144: 48, 524_288: 32, 1_048_576: 24, 2_097_152: 16}, seeds=(16, 12, 8, 6, 6, 6),
        targets=((56, 2_660_000), (80, 4_150_000), (112, 7_360_000), (160, 11_300_000)),
        batch=3, rate=0.032, width=48, horizon=-0.36, width_power=-0.42, fields=TEXT | {"data.name": "hmm:64"}),
    "vae-glyphs": Plan(title="Hierarchical VAEs on rendered letters", **VAE),
    "vae-teacher": Plan(title="Hierarchical VAEs on the images of a teacher", **VAE | {"fields": VAE["fields"] | TEACHER}),
    "gan-glyphs": Plan(title="Generative adversarial networks on rendered letters", **GAN),
    "gan-teacher": Plan(title="Generative adversarial networks on the images of a teacher",
                        **GAN | {"fields": GAN["fields"] | TEACHER}),
}


def names():
    """The studies that the table is made of."""
    return [f"{name}-{ratio}" for name in PLANS for ratio in RATIOS]


def get_config(study="transformer-pycode-10"):
    name, _, part = study.rpartition("-")
    if name not in PLANS or part not in ("rates", *map(str, RATIOS)):
        raise ConfigError(f"{study} is no study of this config; write one of {', '.join(names())}, or {next(iter(PLANS))}"
                          "-rates for a pilot")
    plan = PLANS[name]
    config = experiment.config(name.partition("-")[0])
    config.title, config.metric, config.law, config.target_seeds = plan.title, plan.metric, plan.law, 3
    config.plan, config.part, config.seed = name, part, plan.seed
    config.update_from_flattened_dict(plan.fields)
    return config


def at(config, width, amount):
    """The experiment at one width on one amount of data, at the base rate; the rule gives it its own."""
    plan, sized = PLANS[config.plan], config.copy_and_resolve_references()
    sized.family.width = width
    batch = plan.batch * (amount / plan.least) ** 0.5
    sized.data.batch = 2 * round(batch / 2) if batch > 8 else round(batch)  # two devices divide the batch of a target
    base = experiment.from_config(sized)
    unit = "tokens" if hasattr(base.data, "tokens") else "examples"
    whole = round(amount / base.data.per_step) * base.data.per_step
    return base.replace({f"data.{unit}": whole, "optim.learning_rate": plan.rate})


def sweep(config):
    plan, first = PLANS[config.plan], config.seed
    if config.part == "rates":
        amounts = (plan.least, sorted(plan.cells)[2], max(plan.cells))
        corners = [(width, amount) for amount in amounts
                   for width in (min(plan.widths[1], plan.cells[amount]), plan.cells[amount])]
        rates = [plan.rate * factor for factor in (0.35, 0.6, 1.0, 1.7, 2.8)]
        cells = [grid(at(config, *corner), {"optim.learning_rate": rates, "seed": [first, first + 1]})
                 for corner in dict.fromkeys(corners)]
    else:
        cells = [grid(at(config, width, amount), {"seed": [first + number for number in range(seeds)]})
                 for (amount, largest), seeds in zip(plan.cells.items(), plan.seeds, strict=True)
                 for width in plan.widths if width <= largest]
    return by_rule(chain(*cells), plan.rule)


def target(config, learning_rate):
    del learning_rate  # the rule gives it
    if config.part == "rates":
        return None
    plan = PLANS[config.plan]
    width, amount = plan.targets[RATIOS.index(int(config.part))]
    return plan.rule(at(config, width, amount))
