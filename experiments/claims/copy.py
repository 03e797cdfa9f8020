"""What models memorise is bounded: bits per parameter in Transformers, and copies that vanish with more data in GANs."""

import jax
import numpy as np
import pandas as pd

import scaling
from experiments.claims import _recipes
from scaling import cost
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

VOCAB, LENGTH = 64, 32
RANDOM = f"hmm:1,vocab={VOCAB},sharpness=0"  # uniform and independent tokens: a chain of one state with equal chances
BITS = float(np.log2(VOCAB))
PUBLISHED = 3.6  # bits for each parameter
FILLS = (1, 2)  # bits of random strings for each parameter, over what was published
# widths, passes over the strings at a fill of 1, seeds
STRINGS = {"5m": ((8, 16, 24), 1000, 3), "30m": ((8, 16, 32), 2000, 4), "2h": ((16, 32, 64), 3000, 4),
           "gpu": ((32, 64, 128, 256), 4000, 4)}
# width, images seen, different images in each step, seeds
IMAGES = {"5m": (16, 2**13, (16, 64, 256, 1024, 4096), 3), "30m": (24, 2**15, (16, 64, 256, 1024, 4096, 16384), 4),
          "2h": (32, 2**17, (16, 64, 256, 1024, 4096, 16384), 4),
          "gpu": (96, 2**20, (16, 64, 256, 1024, 4096, 16384, 65536), 6)}


def parts(budget):
    widths, passes, seeds = STRINGS[budget]
    strings = [memoriser(width, fill, passes, seed) for width in widths for fill in FILLS for seed in range(seeds)]
    width, seen, amounts, seeds = IMAGES[budget]
    images = [_recipes.gan(width, seen, seed, **{"data.unique_examples": amount}) for amount in amounts
              for seed in range(seeds)]
    return {"transformer": Part(strings, "bits_per_byte"), "gan": Part(images, "memorised")}


def memoriser(width: int, fill: float, passes: float, seed: int):
    """A run on so many random strings that they hold `fill` times the bits that its parameters should have room for."""
    family = _recipes.transformer(width, 2**26, data=RANDOM, length=LENGTH).family
    room = PUBLISHED * cost.param_count(family)["total"]
    strings = max(16, round(fill * room / (BITS * LENGTH)))
    return _recipes.transformer(width, strings * LENGTH * passes, seed, data=RANDOM, length=LENGTH, **{
        "data.unique_tokens": strings * LENGTH, "data.evaluation_tokens": 2**12, "data.batch": 32,
        "optim.weight_decay": 0.0})


def memorised_bits(run) -> float:
    """Bits that the model of a restored run knows of its training strings: those that it saves over their entropy."""
    source, strings = run.source, run.experiment.data.unique_tokens // LENGTH
    tokens = source.teacher.read(source.teacher.tables, np.arange(strings, dtype=np.uint32), LENGTH + 1)
    found = jax.jit(run.family.evaluate)(run.params, {"tokens": tokens.astype(np.int32)}, jax.random.key(0))
    return float(LENGTH * strings * BITS - LENGTH * np.asarray(found["loss"].over).sum() / np.log(2))


def measure(part: Trained) -> pd.DataFrame:
    """One row a run: parameters N, bits of its strings, bits memorised, seed."""
    rows = []
    for run in part.runs.to_dict("records"):
        bits = memorised_bits(scaling.restore(part.workdir, run["fingerprint"]))
        rows.append({"size": run["params_total"], "given": BITS * run["tokens_unique"], "bits": bits, "seed": run["seed"]})
    return pd.DataFrame(rows)


def judge_strings(table: pd.DataFrame) -> Finding:
    """Bits for each parameter, where more strings bring no more; and the exponent of the bits in N. The room of a model is
    what it memorises at the fill at which models of its size, over the seeds, memorise most."""
    table = table.assign(fill=_fills(table))
    best = table.groupby(["size", "fill"])["bits"].mean().groupby("size").idxmax()
    room = table[[(size, fill) in set(best) for size, fill in zip(table["size"], table["fill"])]]
    each = (room["bits"] / room["size"]).groupby(room["seed"]).mean()
    lines = [Line(f"{size:,.0f}", list(means.index), list(means)) for size, means in (
        (size, own.groupby("given")["bits"].mean()) for size, own in table.groupby("size"))]
    by_size = (room["bits"] / room["size"]).groupby(room["size"]).mean()
    said = f"Bits for each parameter: {', '.join(f'{value:.2f} at N = {size:,.0f}' for size, value in by_size.items())}."
    exponent = statistics.slope(np.log(room["size"]), np.log(room["bits"].clip(1)))
    panel = Panel("bits of the strings", "bits memorised", lines, log_y=True, labels="parameters")
    return Finding({"bits": statistics.mean(each), "exponent": exponent}, panel, said)


def _fills(table):
    return [min(FILLS, key=lambda fill: abs(np.log(given / (fill * PUBLISHED * size))))
            for given, size in zip(table["given"], table["size"])]


def judge_images(runs: pd.DataFrame) -> Finding:
    """The fall of the share of copies from the fewest images to the most."""
    table = runs.pivot_table(index="seed", columns="examples_unique", values="memorised").dropna()
    few, many = table.columns[0], table.columns[-1]
    means, spread = table.mean(), table.std(ddof=1)
    panel = Panel("different images D", "share of copies", [Line(
        "GAN", list(means.index), list(means), list(means - spread), list(means + spread))])
    shares = ", ".join(f"{share:.1%} at D = {amount:,.0f}" for amount, share in means.items())
    said = f"Copies: {shares}. A model that copies nothing has 1%."
    return Finding({"copies": statistics.mean(table[few] - table[many])}, panel, said)


def analyse(name: str, part: Trained) -> Finding:
    return judge_images(part.runs) if name == "gan" else judge_strings(measure(part))


CLAIM = Claim(
    id="copy",
    statement="What models memorise is bounded: some bits for each parameter, and fewer copies the more data there are.",
    source="Morris et al. 2025, arXiv:2505.24832, abstract (random strings, 500 thousand to 1.5 billion parameters); Feng "
           "et al. 2021, arXiv:2202.11765, abstract (GANs replicate as exp(-D))",
    published={"transformer": "3.6 bits for each parameter", "gan": "replication falls as exp(-D)"},
    rules={"bits": Criterion("the bits memorised for each parameter where more strings bring no more", 2.4, 5.4,
                             why="What was published, within a factor of 1.5. All parameters count, also those of tables."),
           "exponent": Criterion("the exponent of the bits memorised in N", 0.8, 1.2,
                                 why="1 is a fixed number of bits for each parameter."),
           "copies": Criterion("the share of copies among a GAN's images with the fewest training images, less that with "
                               "the most", low=0.05,
                               why="A copy is nearer to a training image than all but 1% of new real images are. Five in a "
                                   "hundred would be noticed.")},
    parts=parts, analyse=analyse,
    cost={"5m": "18 runs of 2 to 10 thousand parameters, 15 runs of a GAN of 19 thousand",
          "30m": "24 runs of 2 to 16 thousand parameters, 24 runs of a GAN of 37 thousand",
          "2h": "24 runs of 5 to 57 thousand parameters, 24 runs of a GAN of 62 thousand",
          "gpu": "32 runs of 16 thousand to 0.9 million parameters, 42 runs of a GAN of half a million"},
    more="More passes: a model of so few parameters takes thousands of them until it has learnt what it can. The bits of a "
         "model that stopped early are a lower bound of its room.")
