"""Models amplify the bias of their data, mainly where the group is easier to recognise than the class."""

import dataclasses

import pandas as pd

import scaling
from experiments.claims import _recipes
from scaling import evaluate
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

# A class, on which models are conditioned, and a group, which goes with it. Slant is harder to recognise than weight.
PAIRS = {"easier": "slant,weight", "harder": "weight,slant"}
SHARES = {"5m": (0.7, 0.9), "30m": (0.6, 0.7, 0.8, 0.95), "2h": (0.6, 0.7, 0.8, 0.95),
          "gpu": (0.6, 0.7, 0.8, 0.95)}  # of images in which group and class go together
SIZES = {"5m": {"vae": (24, 32_000), "gan": (16, 16_000)}, "30m": {"vae": (32, 96_000), "gan": (24, 32_000)},
         "2h": {"vae": (48, 256_000), "gan": (32, 96_000)}, "gpu": {"vae": (192, 2_000_000), "gan": (96, 500_000)}}
SEEDS, SAMPLES, REAL = 3, 2048, 32_768
RECIPE = evaluate.Recipe(widths=(16, 32, 64, 128), features=64, batch=128, steps=600)


def parts(budget):
    recipes = {"vae": (_recipes.vae, "bits_per_dim"), "gan": (_recipes.gan, "fd_infinity_relative")}
    found = {}
    for family, (recipe, metric) in recipes.items():
        width, images = SIZES[budget][family]
        found[family] = Part([recipe(width, images, seed, data="glyphs/digits", **{
            "data.correlate": pair, "data.agree": share, "data.label": pair.partition(",")[0], "data.classes": 2,
            "data.evaluation_examples": SAMPLES, **({"data.samples": SAMPLES} if family == "gan" else {})})
            for pair in PAIRS.values() for share in SHARES[budget] for seed in range(SEEDS)], metric)
    return found


def analyse(name: str, part: Trained) -> Finding:
    del name
    gauges, rows = {}, []
    for fingerprint in part.runs["fingerprint"]:
        run = scaling.restore(part.workdir, fingerprint)
        pair = run.experiment.data.correlate
        if pair not in gauges:
            gauges[pair] = {factor: Gauge(run.experiment.data, factor) for factor in pair.split(",")}
        rows.append({"pair": pair, "planted": run.experiment.data.agree, "seed": run.experiment.seed,
                     "found": gauges[pair][pair.partition(",")[2]].agreement(run)})
    accuracy = {factor: gauge.accuracy for pair in gauges.values() for factor, gauge in pair.items()}
    return judge(pd.DataFrame(rows), accuracy)


class Gauge:
    """A classifier of one factor of images, trained and calibrated on real images in which it goes with no other one."""

    def __init__(self, data, factor):
        self.levels = data.levels
        source = dataclasses.replace(data, label=factor, classes=2, agree=0.5, batch=512).load()
        train = source.batches(0, 0, REAL // 512)
        images, labels = (train[name].reshape(-1, *train[name].shape[2:]) for name in ("image", "label"))
        self.labeller = evaluate.train_labeller(images, labels, 2, data.levels, RECIPE)
        balanced = source.evaluation("iid", REAL // 2)
        predicted, labels = self.labeller.predict(balanced["image"]), balanced["label"]
        self.right, self.wrong = (float(predicted[labels == value].mean()) for value in (1, 0))  # shares called 1
        self.accuracy = float((predicted == labels).mean())

    def agreement(self, run) -> float:
        """The share of samples whose group goes with the class that they were conditioned on, errors of the classifier
        taken out (Rogan and Gladen 1978)."""
        predicted, given = self.labeller.predict(run.sample(SAMPLES)), run.conditions()["label"][:SAMPLES]
        ones = [(predicted[given == value].mean() - self.wrong) / (self.right - self.wrong) for value in (0, 1)]
        return float((1 - ones[0] + ones[1]) / 2)


def judge(table: pd.DataFrame, accuracy) -> Finding:
    """The finding, from the planted and the found share of agreement of each run, and from how well the classifiers of
    real images recognise each factor."""
    table = table.assign(amplified=table["found"] - table["planted"])
    found, lines = {}, []
    for rule, pair in PAIRS.items():
        runs = table[table["pair"] == pair]
        found[rule] = statistics.mean(runs.groupby("seed")["amplified"].mean().to_numpy())
        means = runs.groupby("planted")["found"].mean()
        lines.append(Line(f"group {rule} than class", list(means.index), list(means)))
    planted = sorted(table["planted"].unique())
    lines.append(Line("as in the data", planted, planted, dots=False))
    recognised = ", ".join(f"{factor} in {share:.1%}" for factor, share in sorted(accuracy.items()))
    return Finding(found, Panel("share planted in the data", "share among samples", lines, log_x=False),
                   f"On balanced real images, a classifier recognises {recognised} of cases.")


CLAIM = Claim(
    id="bias", statement="Models amplify the bias of their data, mainly where the group is easier to recognise than the "
                         "class.",
    source="Hall et al. 2022, arXiv:2201.11706 (image classifiers with a planted bias)",
    published={"": "amplified where the group is easier, hardly or not where the class is easier"},
    rules={"easier": Criterion("the share of samples in which group and class go together, less that in the data, where "
                               "the group is easier", low=0.0, why="The claim is about the sign alone: bias is amplified."),
           "harder": Criterion("the same where the group is harder", high=0.0,
                               why="The claim is about the sign alone: bias is not amplified.")},
    parts=parts, analyse=analyse,
    cost={"5m": "24 runs on digits, two families, two pairs, two shares", "30m": "48 runs with four shares",
          "2h": "48 runs of larger models", "gpu": "48 runs of larger models still"},
    more="The source is about classifiers, and here generators are conditioned on the class. The classifier that finds the "
         "group is trained on real images and may err otherwise on samples, which blurs of a VAE would bring towards no "
         "bias. Other pairs of factors are one line of the file.")
