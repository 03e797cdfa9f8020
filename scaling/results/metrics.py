"""The units of data and the metrics of studies in words: labels, nouns, units, and whether more is better.

The report knows tokens, examples and metrics only through this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd



class Unit(NamedTuple):
    """A unit of data. `name` is its plural, which is also the key of a training curve's points."""
    name: str
    loss: str = ""  # the unit of the training loss, where all families agree on it

    @property
    def seen(self) -> str:
        """The column of records with the number of units trained on, repeats included."""
        return f"{self.name}_seen"

    @property
    def unique(self) -> str:
        """The column of records with the number of different units."""
        return f"{self.name}_unique"

    @property
    def training_loss(self) -> str:
        return f"training loss ({self.loss})" if self.loss else "training loss"


UNITS = {unit.name: unit for unit in (Unit("tokens", "nats per token"), Unit("examples"))}


class Metric(NamedTuple):
    """A metric in words: `label` for an axis, `noun` for a sentence such as "the loss falls"."""
    label: str
    noun: str = "loss"
    unit: str = ""        # the unit of its values, such as "bits per byte"; distances and shares have none
    rises: bool = False   # True if more is better

    @property
    def falls(self) -> str:
        """The verb for better models: the loss "falls", the coverage "rises"."""
        return "rises" if self.rises else "falls"

    @property
    def fall(self) -> str:
        return self.falls.removesuffix("s")

    def amount(self, value: str) -> str:
        """A value in a sentence: "1.48 bits per byte", "a Fréchet distance of 0.034"."""
        return f"{value} {self.unit}" if self.unit else f"a {self.label} of {value}"


def _bits(label: str, unit: str, noun: str = "loss") -> Metric:
    return Metric(f"{label} ({unit})" if label else unit, noun, unit if not label else "")


DISTANCE = "distance"
# A study without study.json is about the first of these that its records hold.
METRICS: dict[str, Metric] = {
    "bits_per_byte": _bits("", "bits per byte"),
    "bits_per_dim": _bits("", "bits per dimension"),
    "bits_per_sample": _bits("", "bits per sample"),
    # beyond the entropy of a source that knows it, per byte (a token, where those are no text) or dimension
    "excess": Metric("excess loss (bits)", "excess loss", "bits of excess loss"),
    "rate": _bits("rate", "bits per dimension", "rate"),
    "distortion": _bits("distortion", "bits per dimension", "distortion"),
    "mse": Metric("mean squared error", "error"),
    "code_bits": _bits("codes", "bits per image", "bits of the codes"),
    "code_entropy": _bits("codes by their frequency", "bits per image", "entropy of the codes"),
    "code_perplexity": Metric("perplexity of the codes", "perplexity", rises=True),
    "codes_used": Metric("share of codes used", "share of codes used", rises=True),
    "fd": Metric("Fréchet distance (FD)", DISTANCE),
    "fd_relative": Metric("relative Fréchet distance (FD)", DISTANCE),
    "fd_infinity": Metric("Fréchet distance (FD∞)", DISTANCE),  # FD at infinitely many samples, extrapolated
    "fd_infinity_relative": Metric("relative Fréchet distance (FD∞)", DISTANCE),
    "kid": Metric("kernel distance (KID)", DISTANCE),
    "cmmd": Metric("kernel distance (CMMD)", DISTANCE),
    "sliced_wasserstein": Metric("sliced Wasserstein distance", DISTANCE),
    "missed": Metric("missed share (1 − coverage)", "missed share"),
    "critic_advantage": Metric("fresh critic's advantage", "critic's advantage"),
    "critic_error": Metric("fresh critic's error", "critic's error", rises=True),
    "precision": Metric("precision", "precision", rises=True),
    "recall": Metric("recall", "recall", rises=True),
    "density": Metric("density", "density", rises=True),
    "coverage": Metric("coverage", "coverage", rises=True),
    "agreement": Metric("share of samples that agree with their captions", "agreement", rises=True),
    "memorised": Metric("memorised share", "memorised share"),
    "nearest": Metric("distance to the nearest training image", "distance to training images", rises=True),
    # of windows of text; `<metric>_real` is that of held-out text
    "parses": Metric("share of blocks that parse", "share that parses", rises=True),
    "compiles": Metric("share of blocks that compile", "share that compiles", rises=True),
    "tunes_parse": Metric("share of tunes that parse", "share that parses", rises=True),
    "in_metre": Metric("share of bars that fit the metre", "share of bars in metre", rises=True),
    "in_key": Metric("share of notes in the key", "share of notes in key", rises=True),
    **{f"distinct_{n}": Metric(f"different {n}-grams", f"share of different {n}-grams", rises=True) for n in (1, 2, 3, 4)},
    "bleu": Metric("BLEU", "BLEU", rises=True),
    "self_bleu": Metric("BLEU of samples against each other", "self-BLEU"),
    "novelty": Metric("share of new 4-grams", "novelty", rises=True),
    "repeated": Metric("repeated share", "repeated share"),
    "active_latents": Metric("share of active latents", "share of active latents", rises=True),
    "chrf": Metric("chrF", "chrF", rises=True),
    "exact": Metric("share of exact matches", "share of exact matches", rises=True),
    "iwae_bits_per_dim": _bits("importance-weighted bound", "bits per dimension", "bound"),
    # each token masked alone in turn, which is no likelihood: it is compared with no other bits per byte
    "pseudo_bits_per_byte": _bits("pseudo-likelihood", "bits per byte"),
    "pseudo_loss": Metric("pseudo-likelihood (nats per token)"),
    "loss": Metric("loss"),
    # of a model of captions and images: of one modality alone, and given the other
    "loss_text": Metric("captions (nats per token)"),
    "loss_text_given_image": Metric("captions given images (nats per token)"),
    "loss_image": Metric("images (nats per token)"),
    "loss_image_given_text": Metric("images given captions (nats per token)"),
    "bits_per_byte_given_image": _bits("captions given images", "bits per byte"),
    "bits_per_dim_given_text": _bits("images given captions", "bits per dimension"),
    "image_information": Metric("what a caption tells about its image (bits)", "information", "bits", rises=True),
    "text_information": Metric("what an image tells about its caption (bits)", "information", "bits", rises=True),
    "wrong_caption": Metric("what an image costs more after a wrong caption (bits)", "information", "bits", rises=True),
    "named": Metric("share of images that are named right", "share of right names", rises=True),
    "captioned": Metric("share of captions that are right to the end", "share of right captions", rises=True),
    "accuracy": Metric("accuracy", "accuracy", rises=True),
    "error": Metric("classification error", "error"),
    # by the worst of several attacks on each image, and what tells whether they can be believed
    "robust_loss": Metric("robust loss", "robust loss"),
    "robust_error": Metric("robust error", "robust error"),
    "patient_error": Metric("robust error by longer attacks", "robust error"),
    "search_error": Metric("robust error by random search", "robust error"),
    "masked_gradients": Metric("share that random search alone fools", "share"),
    "gradients_mislead": Metric("gradients mislead the attacks (1 is yes)", "share"),
    "boundless_error": Metric("robust error without bounds", "robust error", rises=True),
    "macro_f1": Metric("macro-F1", "macro-F1", rises=True),
    "calibration_error": Metric("expected calibration error", "calibration error"),
}
PLAYERS = {"gen": "generator", "disc": "discriminator"}  # players in a training curve's names, <player>/loss
# The report draws these beside the fitted metric, where records hold them.
BESIDE = ("bits_per_dim", "rate", "distortion", "fd_infinity_relative", "kid", "missed", "critic_advantage",
          "memorised")


def find_unit(study: Mapping | None, table: pd.DataFrame) -> Unit:
    """The unit named in study.json, or else the first whose counts are in the records, or else tokens."""
    name = (study or {}).get("unit")
    if name is None:
        counted = [each for each in UNITS.values() if each.seen in table and table[each.seen].notna().any()]
        return counted[0] if counted else UNITS["tokens"]
    return UNITS.get(name, Unit(str(name)))


def find_metric(name: str) -> Metric:
    """The metric called `name`, or `<metric>_<split>`, a metric on a split. An unknown name becomes its own label."""
    base = base_of(name)
    if base is None:
        return Metric(name.replace("_", " "))
    split = name.removeprefix(base).strip("_").replace("_", " ")
    known = METRICS[base]
    return known._replace(label=f"{known.label}, {split}", unit=known.unit and f"{known.unit}, {split}") \
        if split else known


def base_of(name: str) -> str | None:
    """The longest known metric that equals `name` or starts it, or None."""
    found = [known for known in METRICS if name == known or name.startswith(f"{known}_")]
    return max(found, key=len, default=None)


def metric_columns(columns) -> list[str]:
    """The names in `columns` that are evaluation metrics, without their standard errors."""
    return [name for name in columns if base_of(name) and not name.endswith("_se")]
