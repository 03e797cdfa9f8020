"""The loss of translation is one power of the pairs whatever the architecture and the noise, and it forecasts BLEU."""

import dataclasses
import functools

import numpy as np

from experiments.claims import downstream
from scaling import experiment
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.experiment import Experiment, RateRule

# Rates are those of 8,192 pairs. Pilots of one run each on postfix, in bits per byte: in batches of 4, Muon has 0.53 at a
# rate of 0.00125, 0.12 at 0.0025, 0.045 or 0.049 at 0.005, 0.08 at 0.01 and 0.44 at 0.02, and AdamW 0.29; in batches of 16,
# Muon has 0.27 and AdamW 1.35 at the best of three rates. On 1,024 pairs 0.009 is the best rate of Muon. On help pages it
# has 2.01, 1.97, 1.99, 2.06 and 2.14 at 0.00275 and its doubles, and on 1,024 pairs 2.46, 2.42, 2.42, 2.45 and 2.62 at
# 0.0051 and its doubles.
LEAST, BATCH = 8192, 4
POSTFIX = {"data.name": "postfix", "data.source_length": 32, "data.length": 32, "optim.learning_rate": 5.5e-3}
HELP = {"data.name": "lohelp/en-de", "data.tokenizer": "bpe:1024", "data.source_length": 64, "data.length": 64,
        "optim.learning_rate": 7.5e-3, "optim.table_rate": 8.0}  # LibreOffice's help, English to German
SAMPLES = 256  # targets of a run that BLEU judges
DEPTHS = {"even": (2, 2), "deep encoder": (3, 1)}  # layers of the encoder and of the decoder
NOISE = 0.1  # the share of pairs with the target of another pair
NOISY = "even, noisy"
# width, pairs, seeds; those of the help, which has 25 thousand pairs; rungs (width, pairs) of BLEU, the last of which is
# forecast, and seeds
SIZES = {"5m": ((32, (1024, 2048, 4096, 8192, 16_384), 3), (32, (1024, 2048, 4096, 8192), 3),
                (((16, 2048), (16, 4096), (24, 8192), (24, 14_336), (32, 24_576)), 4)),
         "30m": ((64, (2048, 4096, 8192, 16_384, 32_768, 65_536), 4), (64, (1024, 2048, 4096, 8192, 16_384, 24_576), 4),
                 (((16, 4096), (24, 8192), (32, 16_384), (48, 32_768), (64, 65_536), (96, 131_072)), 4)),
         "2h": ((96, (4096, 8192, 16_384, 32_768, 65_536, 131_072), 4), (96, (1024, 2048, 4096, 8192, 16_384, 24_576), 4),
                (((16, 4096), (24, 8192), (32, 16_384), (48, 32_768), (64, 65_536), (128, 262_144)), 5)),
         "gpu": ((256, (8192, 16_384, 32_768, 65_536, 131_072, 262_144), 6),
                 (256, (1024, 2048, 4096, 8192, 16_384, 24_576), 6),
                 (((32, 16_384), (48, 32_768), (64, 65_536), (96, 131_072), (128, 262_144), (256, 1_048_576)), 6))}


def parts(budget):
    exact, helps, (rungs, seeds) = SIZES[budget]
    most = max(*exact[1], *(pairs for _, pairs in rungs))
    ladder = [run(POSTFIX, width, pairs, seed, "even", **{"data.unique_examples": most, "data.samples": SAMPLES})
              for width, pairs in rungs for seed in range(seeds)]
    runs = {"help": lines(HELP, *helps), "pairs": lines(POSTFIX, *exact, most), "bleu": ladder}
    return {name: Part(sweep, "bits_per_byte") for name, sweep in runs.items()}


def lines(task, width, pairs, seeds, most=0) -> list[Experiment]:
    """The runs of each line of the loss against pairs, each of which is seen once."""
    fresh = {"data.unique_examples": most or max(pairs)}  # of one number, so that one program trains all runs of a shape
    return [run(task, width, each, seed, name, **fresh, **changes)
            for name, changes in series() for each in pairs for seed in range(seeds)]


def series():
    """(name of DEPTHS, changes) of each line of the loss against pairs."""
    return [*((name, {}) for name in DEPTHS), ("even", {"data.noise": NOISE, "data.noises": "target"})]


def run(task, width: int, pairs: int, seed: int = 0, depth: str = "even", **changes) -> Experiment:
    """An encoder-decoder of one of DEPTHS on fresh pairs of a task, POSTFIX or HELP."""
    changes = {"data.examples": pairs, "seed": seed} | changes
    return RateRule(seen=LEAST, batch=BATCH)(first(tuple(task.items()), width, depth).replace(changes))


@functools.cache
def first(task, width: int, depth: str) -> Experiment:
    """One run of a task, a width and a depth, whose data and seed others change."""
    encoder, decoder = DEPTHS[depth]
    return experiment.from_config(experiment.config("seq2seq", **{
        "family.width": width, "family.layers": decoder, "family.encoder_layers": encoder, "family.head_dim": 16,
        "data.batch": BATCH, "data.evaluation_examples": 1024, "optim.name": "muon", "optim.warmup": 20, **dict(task)}))


def analyse(name: str, part: Trained) -> Finding:
    if name == "bleu":
        return judge_bleu(part.runs)
    layers, noisy = part.runs["family.encoder_layers"], part.runs["data.noise"] > 0
    deep = layers > part.runs["family.layers"]
    return judge(part.runs.assign(series=np.select([noisy, deep], [NOISY, "deep encoder"], "even")))


def judge(runs) -> Finding:
    """runs: a row for each run, with its seed, `series` (a name of DEPTHS, or NOISY), examples_seen and bits_per_byte."""
    even = runs[runs["series"] == "even"]
    power = statistics.slope(np.log(even["examples_seen"]), -np.log(even["bits_per_byte"]))
    estimates = {"exponent": power} | {rule: statistics.jackknife(
        runs, lambda some, other=other: exponent(some, other) - exponent(some, "even"), "seed")
        for rule, other in (("architecture", "deep encoder"), ("noise", NOISY))}
    means = runs.groupby(["series", "examples_seen"])["bits_per_byte"].mean()
    panel = Panel("pairs", "bits per byte", log_y=True, lines=[
        Line(name, list(means[name].index), list(means[name])) for name in means.index.get_level_values(0).unique()])
    said = "The loss falls as " + ", ".join(f"D^-{exponent(runs, name):.2f} ({name})" for name in (*DEPTHS, NOISY)) + "."
    return Finding(estimates, panel, said)


def exponent(runs, name: str) -> float:
    """The power of the pairs by which the loss of a series falls, of means over seeds."""
    own = np.log(runs[runs["series"] == name].groupby("examples_seen")["bits_per_byte"].mean())
    return float(-np.polyfit(np.log(own.index.to_numpy()), own.to_numpy(), 1)[0])


def judge_bleu(runs) -> Finding:
    """runs: the records of the ladder. BLEU is forecast as the claim `downstream` forecasts the share that fails."""
    found = downstream.judge("transformer", runs.assign(loss=runs["bits_per_byte"], failed=1 - runs["bleu"] / 100))
    error = found.estimates["error"]
    last = runs[runs["flops"] == runs["flops"].max()]["bleu"].mean()
    said = f"BLEU of the largest runs is {last:.1f}, and {last + 100 * error.value:.1f} was forecast through the loss."
    panel = found.panel and dataclasses.replace(found.panel, y="1 - BLEU / 100")
    return dataclasses.replace(found, said=said, panel=panel)


CLAIM = Claim(
    id="translation",
    statement="The loss of translation is one power of the number of pairs, whatever the architecture and the noise, and "
              "it forecasts BLEU.",
    source="Bansal et al. 2022, arXiv:2202.01994, sections 3 to 5 (German and Chinese to English, 512 million pairs)",
    published={"help": "D^-0.28 for encoder-decoders, deep encoders, decoders alone, and filtered or noisy pairs",
               "pairs": "the same, of an exact task here, postfix in place of a language",
               "bleu": "BLEU is exponential in the loss (Ghorbani et al. 2021, arXiv:2109.07740, equation 8)"},
    rules={"exponent": Criterion("the exponent by which the loss falls in pairs", 0.2, 0.36,
                                 why="The published 0.28, with 0.08 to each side for another task and small models."),
           "architecture": Criterion("the exponent of a deep encoder less that of an even model", -0.05, 0.05,
                                     why="The published exponents differ by less than 0.02."),
           "noise": Criterion("the exponent on pairs of which a tenth have another's target less that on clean ones", -0.05,
                              0.05, why="Noise is said to move the curve, and to leave its exponent."),
           **{name: dataclasses.replace(downstream.CLAIM.rules[name], quantity=quantity) for name, quantity in (
               ("error", "1 - BLEU / 100 minus its forecast in two steps, through the loss"),
               ("order", "the rank correlation of the loss and 1 - BLEU / 100, over all runs"))}},
    parts=parts, analyse=analyse,
    cost={"5m": "36 runs on 1 to 8 thousand pairs of LibreOffice's help (apt-get install libreoffice-help-en-us "
                "libreoffice-help-de), 45 on 1 to 16 thousand of postfix, and 20 whose targets BLEU judges",
          "30m": "72 runs on 1 to 25 thousand pairs of help, 72 on 2 to 66 thousand of postfix, and 24 whose targets BLEU "
                 "judges (not timed)",
          "2h": "72 runs on help, 72 on 4 to 131 thousand pairs of postfix, and 30 whose targets BLEU judges (not timed)",
          "gpu": "108 runs on help and 108 on 8 to 262 thousand pairs of postfix, and 36 whose targets BLEU judges, of up "
                 "to 3.7 million parameters (not timed)"},
    more="Without the packages, --parts=pairs,bleu tries the exact task alone. Postfix has no noise of its own, so its "
         "loss may fall faster once a model has understood the rule. Other languages are --set=data.name=lohelp/en-zh.")
