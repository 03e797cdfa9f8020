"""Conditions steer what is generated, better in larger models, and temperature trades quality for diversity."""

import numpy as np
import pandas as pd

import scaling
from experiments.claims import _recipes
from scaling import evaluate
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

SIZES = {"5m": {"vae": ((8, 16, 32), 32_000), "gan": ((8, 12, 24), 16_000)},  # widths, images
         "30m": {"vae": ((8, 16, 32, 64), 96_000), "gan": ((8, 12, 24, 48), 32_000)},
         "2h": {"vae": ((8, 16, 32, 64, 96), 256_000), "gan": ((8, 12, 24, 48), 96_000)},
         "gpu": {"vae": ((16, 32, 64, 128, 256), 2_000_000), "gan": ((16, 32, 64, 128), 500_000)}}
SEEDS, SAMPLES, REAL, COOL = 3, 2048, 16_384, 0.5  # COOL: the lower of two temperatures
RECIPE = evaluate.Recipe(widths=(16, 32, 64, 128), features=64, batch=128, steps=200)


def parts(budget):
    recipes = {"vae": (_recipes.vae, "bits_per_dim"), "gan": (_recipes.gan, "fd_infinity_relative")}
    found = {}
    for family, (recipe, metric) in recipes.items():
        widths, images = SIZES[budget][family]
        found[family] = Part([recipe(width, images, seed, data="glyphs/digits", **{
            "data.label": "character", "data.classes": 10, "data.evaluation_examples": SAMPLES,
            **({"data.samples": SAMPLES} if family == "gan" else {})})
            for width in widths for seed in range(SEEDS)], metric)
    return found


def analyse(name: str, part: Trained) -> Finding:
    del name
    classroom, rows = None, []
    for row in part.runs[["fingerprint", "params_non_embedding", "seed"]].to_dict("records"):
        run = scaling.restore(part.workdir, row["fingerprint"])
        classroom = classroom or Classroom(run.source, run.experiment.data.classes)
        rows.append(row | classroom.measure(run))
    return judge(pd.DataFrame(rows))


class Classroom:
    """Classifiers of real images, and real images to test others on."""

    def __init__(self, source, classes):
        self.levels, self.classes, steps = source.levels, classes, -(-REAL // source.batch_size)
        train = source.batches(0, 0, steps)
        images, labels = (train[name].reshape(-1, *train[name].shape[2:]) for name in ("image", "label"))
        test = source.evaluation("iid", 2 * SAMPLES)
        self.images, self.labels = test["image"][SAMPLES:], test["label"][SAMPLES:]
        self.labeller = self.train(images, labels)
        self.real = self.labeller.accuracy(self.images, self.labels)
        few = self.train(images[:SAMPLES], labels[:SAMPLES])  # of as many images as there are samples
        self.taught = few.accuracy(self.images, self.labels)

    def train(self, images, labels):
        return evaluate.train_labeller(images, labels, self.classes, self.levels, RECIPE)

    def measure(self, run) -> dict[str, float]:
        """Numbers of the samples of a run, as shares of those of real images: `agrees`, how often the class is the one that
        was asked for (GAN-test), and `taught`, how well a classifier does that learnt from them (CAS). At the lower
        temperature: `cool`, which is `agrees` there, and `spread`, the variance of features within classes over that at
        temperature 1."""
        given = run.conditions()["label"][:SAMPLES]
        warm, cool = run.sample(SAMPLES), run.sample(SAMPLES, temperature=COOL)
        within = [spread(self.labeller.features(images), given) for images in (cool, warm)]
        return {"agrees": self.labeller.accuracy(warm, given) / self.real,
                "cool": self.labeller.accuracy(cool, given) / self.real,
                "taught": self.train(warm, given).accuracy(self.images, self.labels) / self.taught,
                "spread": within[0] / within[1]}


def spread(features, labels) -> float:
    """The mean variance of features [n, d] within the classes of `labels` [n]."""
    return float(np.mean([features[labels == label].var(0).sum() for label in np.unique(labels)]))


def judge(table: pd.DataFrame) -> Finding:
    """The finding, from the numbers of `Classroom.measure` of each run."""
    sizes = sorted(table["params_non_embedding"].unique())
    largest = table[table["params_non_embedding"] == sizes[-1]]
    found = {name: statistics.mean(largest[name].to_numpy()) for name in ("taught", "agrees")}
    found["grows"] = statistics.jackknife(table, growth, "seed")
    found["quality"] = statistics.mean((table["cool"] - table["agrees"]).to_numpy())
    found["diversity"] = statistics.mean(np.log(table["spread"].to_numpy()))
    means = table.groupby("params_non_embedding")[["agrees", "taught", "cool"]].mean()
    names = {"agrees": "class as asked for", "taught": "taught by samples", "cool": f"class, temperature {COOL}"}
    lines = [Line(said, sizes, list(means[name])) for name, said in names.items()]
    return Finding(found, Panel("parameters", "accuracy over that of real images", lines))


def growth(table) -> float:
    """The rise of the agreement of classes where parameters are ten times as many: the slope of a line through means."""
    means = table.groupby("params_non_embedding")["agrees"].mean()
    return float(np.polyfit(np.log10(means.index.to_numpy()), means.to_numpy(), 1)[0])


CLAIM = Claim(
    id="control",
    statement="Conditions steer what is generated, better in larger models, and temperature trades quality for diversity.",
    source="Ravuri and Vinyals 2019, arXiv:1905.10887 (CAS); Shmelkov et al. 2018, arXiv:1807.09499 (GAN-test)",
    published={"vae": "taught by samples, 0.75 of the accuracy of real images (VQ-VAE-2, ImageNet)",
               "gan": "taught by samples, 0.58 of the accuracy of real images (BigGAN-deep, ImageNet)"},
    rules={"taught": Criterion("the accuracy on real images of a classifier taught by samples of the largest models, over "
                               "that of one taught by as many real images", low=0.5,
                               why="Both published ratios lie above one half, and chance lies at a tenth."),
           "agrees": Criterion("how often the class of a sample is the one asked for, over the accuracy on real images, in "
                               "the largest models", low=0.5, why="By chance it would be a tenth."),
           "grows": Criterion("the rise of the agreement of classes where models are ten times as large", low=0.0,
                              why="The claim is about the sign, since no size was published."),
           "quality": Criterion("the rise of the agreement of classes at half the temperature", low=0.0,
                                why="The claim is about the sign."),
           "diversity": Criterion("the log ratio of the variance within classes, at half the temperature", high=0.0,
                                  why="The claim is about the sign.")},
    parts=parts, analyse=analyse,
    cost={"5m": "18 runs on digits, three sizes of each family", "30m": "24 runs on digits, four sizes of each family",
          "2h": "27 runs on digits", "gpu": "27 runs on digits, of up to a few million parameters"},
    more="Digits are easy, so that the agreement may reach its ceiling, where neither size nor temperature can raise it: "
         "write --set=data.name=glyphs/letters --set=data.classes=52. The claim `combine` tries combinations of conditions "
         "that were held out.")
