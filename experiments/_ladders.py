"""Smooth ladders: small models of one recipe, whose width grows while the depth is fixed, at rates that pilots found.

    config = VAE.config()
    run = VAE.run(config, width=24, amount=32_000)      # at the rate of the ladder's rule

Studies and claims take their runs from here. The batch grows with the square root of the amount of data, and one base rate
serves all runs by a rule (docs/recipes.md). Images are rendered letters of 16 x 16 pixels in 16 levels of grey, unless the
config names other data. Studies of minutes hold the batch fixed, so that one program trains all runs of a width.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from scaling import experiment, families
from scaling.experiment import Experiment, RateRule, Start, by_rule, chain, grid

RATES = (0.35, 0.6, 1.0, 1.7, 2.8)  # of a pilot, times the rate that was expected


@dataclasses.dataclass(frozen=True)
class Rungs:
    """Runs of one family that differ in width, amount of data and seed.

    fields: those of the config. batch: of `least` tokens or examples, in sequences or images. rate: of `width` at `least`.
    grows: power of the batch in the amount of data. horizon, width_power: powers of the rule of rates, see `RateRule`.
    """

    family: str
    fields: Mapping[str, object]
    least: int
    batch: float
    rate: float
    width: int
    grows: float = 0.5
    horizon: float = -0.36
    width_power: float = 0.0

    def config(self, **changes):
        """The config of a study, with the fields of the ladder and then `changes`."""
        config = experiment.config(self.family)
        config.update_from_flattened_dict({**self.fields, **changes})
        return config

    @property
    def rule(self) -> RateRule:
        return RateRule(seen=self.least, batch=self.batch, horizon=self.horizon, width=self.width,
                        width_power=self.width_power)

    def at(self, config, width: int, amount: float) -> Experiment:
        """The run of one width on an amount of data, in whole batches, at the base rate, which the rule has yet to move."""
        base = self.of_width(config, width)
        batch = whole_batch(self.batch * (amount / self.least) ** self.grows)
        per_step = batch * base.data.per_example
        return base.replace({"data.batch": batch, base.data.length_knob: round(amount / per_step) * per_step,
                             "optim.learning_rate": self.rate})

    def of_width(self, config, width: int) -> Experiment:
        """The run of a config at one width, with the amount of data and the rate that the config has."""
        sized = config.copy_and_resolve_references()
        sized.family.width = width
        return experiment.from_config(sized)

    def run(self, config, width: int, amount: float, **changes) -> Experiment:
        """The run of `at` at the rate of the rule; `changes` do not move the rate."""
        return self.rule(self.at(config, width, amount)).replace(changes)

    def triangle(self, config, widths: Iterable[int], largest: Mapping[int, int],
                 seeds: Iterable[int | Sequence[int]]) -> list[Experiment]:
        """The runs of every width up to the `largest` of each amount of data, with so many seeds for each amount, or for
        each of its widths.

        So all amounts end at about the same compute. Seeds count from `config.seed`.
        """
        cells = []
        for (amount, most), counts in zip(largest.items(), seeds, strict=True):
            taken = [width for width in widths if width <= most]
            for width, count in zip(taken, [counts] * len(taken) if isinstance(counts, int) else counts, strict=True):
                cells.append(grid(self.at(config, width, amount), {"seed": [config.seed + n for n in range(count)]}))
        return by_rule(chain(*cells), self.rule)

    def rates(self, config, corners: Iterable[tuple[int, int]], seeds: int = 2) -> list[Experiment]:
        """The runs of a pilot: RATES times the rate of the rule, at some pairs of width and amount."""
        cells = [grid(self.at(config, width, amount), {
            "optim.learning_rate": [self.rate * factor for factor in RATES],
            "seed": [config.seed + number for number in range(seeds)]}) for width, amount in dict.fromkeys(corners)]
        return by_rule(chain(*cells), self.rule)

    def sweep(self, config) -> list[Experiment]:
        """The pilot at `config.corners`, if there are any. Otherwise the triangle of `config.widths`, where each amount has
        its largest width in `config.widest` and its number of seeds in `config.seeds`."""
        if config.corners:
            return self.rates(config, config.corners)
        return self.triangle(config, config.widths, dict(zip(config.amounts, config.widest, strict=True)), config.seeds)

    def target(self, config) -> Experiment | None:
        """The run of `config.target_width` on `config.target_amount`; None for a pilot, which forecasts nothing."""
        return None if config.corners else self.run(config, config.target_width, config.target_amount)


class StandingRungs(Rungs):
    """Runs whose `model`, a Transformer, grows in width and reads the codes of one tokenizer, which is trained before them.

    The config's `tokenizer` is that of the tokenizer's run. Where the family reads no codes, no tokenizer is trained.
    """

    def config(self, **changes):
        config = super().config(**changes)
        config.tokenizer = FSQ.config(**{"family.width": 32})
        config.tokenizer_amount, config.layers, config.head_dim = 32_000, 2, 8
        return config

    def of_width(self, config, width):
        sized = config.copy_and_resolve_references()
        images = [field for field in sized.tokenizer.data if field in IMAGES_SHARED]
        for field in images:
            sized.tokenizer.data[field] = sized.data[field]
        base = QUICK_FSQ.run(sized.tokenizer, sized.tokenizer.family.width, sized.tokenizer_amount)
        model = families.find("transformer")(width=width, layers=config.layers, head_dim=config.head_dim, scan=False)
        sized.family.unlock()
        sized.family.tokenizer, sized.family.model = base.family, model
        found = experiment.from_config(sized)
        if getattr(found.family, "images", "codes") != "codes":
            return found
        return dataclasses.replace(found, start=Start(base, found.family.takes))


def whole_batch(size: float) -> int:
    """The nearest batch that two devices divide."""
    return max(2, 2 * round(size / 2))


TRANSFORMER = Rungs(  # on bytes
    "transformer", {"family.layers": 1, "family.head_dim": 8, "data.name": "pycode/stdlib", "data.length": 128,
                    "data.evaluation_tokens": 262_144, "optim.name": "muon", "optim.warmup": 20, "optim.table_rate": 8.0},
    least=262_144, batch=6, rate=0.0275, width=48, width_power=-0.42)

IMAGES_SHARED = ("name", "size", "channels", "levels", "data_dir", "feed")  # by a tokenizer and what stands on it
IMAGES = {"data.name": "glyphs/letters", "data.size": 16, "data.levels": 16}

VAE = Rungs(
    "vae", {**IMAGES, "family.layers": 3, "family.components": 3, "data.evaluation_examples": 4096, "optim.name": "muon",
            "optim.warmup": 40, "optim.ema": 0.99}, least=4_000, batch=11, rate=0.012, width=24, width_power=-0.33)

GAN = Rungs(
    "gan", {**IMAGES, "family.layers": 2, "data.evaluation_examples": 1024, "data.samples": 4096, "optim.beta1": 0.0,
            "optim.beta2": 0.99, "optim.epsilon": 1e-8, "optim.weight_decay": 0.0, "optim.clip": 0.0, "optim.warmup": 20,
            "optim.ema": 0.99}, least=5_000, batch=8, rate=0.0042, width=16, width_power=-0.6)

DIFFUSION = Rungs(
    "diffusion", {**IMAGES, "family.layers": 2, "data.evaluation_examples": 2048, "optim.name": "muon", "optim.warmup": 40,
                  "optim.ema": 0.99}, least=4_000, batch=12, rate=0.008, width=24, horizon=-0.3, width_power=-0.3)

FSQ = Rungs(  # at the rates of the VAE; only the short runs of QUICK_FSQ had a pilot
    "fsq", {**IMAGES, "family.layers": 1, "family.code_levels": "5,5,5", "data.evaluation_examples": 2048,
            "optim.name": "muon", "optim.warmup": 40, "optim.ema": 0.99},
    least=4_000, batch=12, rate=0.012, width=24, width_power=-0.33)

CLASSIFIER = Rungs(  # of ten digits, trained and attacked within a twentieth of the range of a pixel
    "classifier", {**IMAGES, "data.name": "glyphs/digits", "data.classes": 10, "family.layers": 1, "family.radius": 0.05,
                   "family.steps": 2, "data.evaluation_examples": 2048, "optim.name": "muon", "optim.warmup": 40,
                   "optim.ema": 0.99}, least=8_000, batch=32, rate=0.025, width=24, horizon=-0.35)

CODED = StandingRungs(
    "coded", {**IMAGES, "data.label": "character", "data.classes": 52, "data.evaluation_examples": 1024,
              "optim.name": "muon", "optim.warmup": 20, "optim.ema": 0.99},
    least=3_000, batch=12, grows=0.0, rate=0.029, width=24, width_power=-0.2)

MULTIMODAL = StandingRungs(
    "multimodal", {**IMAGES, "data.name": "glyphs/digits", "data.caption": 24, "data.evaluation_examples": 512,
                   "optim.name": "muon", "optim.warmup": 20, "optim.ema": 0.99},
    least=3_000, batch=12, grows=0.0, rate=0.031, width=24, width_power=-0.5)

QUICK_VAE = dataclasses.replace(VAE, batch=12, grows=0.0, horizon=-0.55, width_power=-0.15)
QUICK_DIFFUSION = dataclasses.replace(DIFFUSION, grows=0.0)
QUICK_FSQ = dataclasses.replace(FSQ, grows=0.0, rate=0.0095, horizon=-0.42, width_power=-0.15)
QUICK_CLASSIFIER = dataclasses.replace(CLASSIFIER, grows=0.0)
QUICK_GAN = dataclasses.replace(GAN, grows=0.0, rate=0.0025, width_power=-0.3)


def sweep_and_target(full: Rungs, quick: Rungs | None = None):
    """The functions `sweep` and `target` of a config, by its ladder or, where the config says `quick`, by another one."""
    def ladder(config):
        return quick if quick and config.quick else full

    def sweep(config):
        return ladder(config).sweep(config)

    def target(config, learning_rate):
        del learning_rate  # the rule of the ladder gives it
        return ladder(config).target(config)

    return sweep, target
