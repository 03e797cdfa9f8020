"""Feature spaces in which sets of images are compared, and the facts about a space to record beside every number.

    classifier        the last pre-activation layer of a character classifier that this package trains
    labels            the same of a classifier of the data's own labels ("label"), trained on its training images
    random            a fixed untrained network: a check that a result does not come from what a network has learnt
    pca               the first principal components of held-out images: another such check
    inception/RULE    InceptionV3 from the file that FID tools use; RULE is tf1, pytorch-fid or clean-fid;
                      plain "inception" is inception/clean-fid
    dinov2            DINOv2 from an official backbone file
"""
import dataclasses
import functools
import warnings
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from scaling import nn
from scaling.evaluate import classifier
from scaling.evaluate.pretrained import dinov2, inception, resize, weights
from scaling.fields import EvaluateError

COMPONENTS = 64    # of the PCA and the random network
HIDDEN = 512       # of the random network
PRETRAINED_BATCH = 32  # images at a time of the large networks


@dataclasses.dataclass(frozen=True)
class FeatureExtractor:
    """A map from images to features, and the facts that identify it.

    `weights` is the SHA-256 of the published file or of the arrays. `resize` names the rule that brings images to the
    network's size ("none" if it works at theirs). `function` maps uint8 images [b, H, W, C] of values 0..levels-1 to
    float32 [b, dimension] in JAX, and is called with `batch` images at a time. `notes` say how good the network is.
    A classifier also has `labels`, which maps them to the likeliest labels, int32 [b].
    """

    name: str
    weights: str
    resize: str
    dimension: int
    function: Callable
    batch: int = 1024
    notes: dict = dataclasses.field(default_factory=dict)
    labels: Callable | None = None

    def __call__(self, images) -> np.ndarray:
        """float32 [n, dimension] for uint8 images [n, H, W, C]."""
        return self._in_parts(self.function, images)

    def predict(self, images) -> np.ndarray:
        """The likeliest label of each image, int32 [n], by a classifier."""
        return self._in_parts(self.labels, images)

    def _in_parts(self, function, images):
        images = np.asarray(images)
        found = []
        for start in range(0, len(images), self.batch):
            part = images[start:start + self.batch]
            # Padding gives every call the same shape, so it compiles once.
            padded = np.pad(part, ((0, self.batch - len(part)), (0, 0), (0, 0), (0, 0)), mode="edge")
            found.append(np.asarray(function(padded))[:len(part)])
        return np.concatenate(found)

    def describe(self) -> dict:
        return {"name": self.name, "weights": self.weights, "resize": self.resize,
                "dimension": self.dimension, **self.notes}


@dataclasses.dataclass(frozen=True)
class DataToJudge:
    """The data and settings that an extractor may need. `examples` are uint8 [n, size, size, channels]."""

    examples: np.ndarray
    levels: int = 256
    weights: str = ""
    data_dir: str | None = None
    progress: bool = True
    source: str = ""  # the name of the data

    def pixels(self, images):
        """Images as float32 rows [n, H * W * C] in [-1, 1]."""
        return nn.levels_to_signed(images.reshape(len(images), -1), self.levels)


def find_features(name: str, judged: DataToJudge) -> FeatureExtractor:
    """The extractor called `name`, or `name/resize rule`, for these data; raises EvaluateError."""
    kind, _, rule = name.partition("/")
    if kind not in MAKERS or (rule and kind != "inception"):
        raise EvaluateError(f"features={name!r} are not known; write one of {', '.join(MAKERS)}, or "
                            f"inception/RULE with one of {', '.join(INCEPTION_RULES)}")
    if kind in ("inception", "dinov2") and not judged.weights:
        network = (inception if kind == "inception" else dinov2).NETWORK
        raise EvaluateError(f"features={name!r} need a weights file: convert {network} by `python -m "
                            "tools.convert_weights`, and give the path of the result as `weights`")
    return MAKERS[kind](judged, *([rule] if rule else []))


def _linear(name, judged, arrays, apply, notes=None):
    """An extractor that works on pixels: `apply(arrays, rows [n, pixels])` returns the features."""
    function = jax.jit(lambda images: apply(arrays, judged.pixels(images)))
    dimension = jax.eval_shape(function, judged.examples[:1]).shape[-1]
    return FeatureExtractor(name, weights.arrays_digest(arrays), "none", dimension, function, notes=notes or {})


def _random(judged):
    """One hidden layer of ReLUs, then a projection, with the weights of He et al. 2015 (arXiv:1502.01852)."""
    rng, fan_in = np.random.default_rng(0), judged.examples[0].size
    arrays = {"hidden": rng.normal(size=(fan_in, HIDDEN)) * np.sqrt(2 / fan_in),
              "bias": 0.1 * rng.normal(size=(1, HIDDEN)),
              "out": rng.normal(size=(HIDDEN, COMPONENTS)) * np.sqrt(2 / HIDDEN)}
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    return _linear("random", judged, arrays,
                   lambda a, x: jax.nn.relu(x @ a["hidden"] + a["bias"]) @ a["out"])


def _pca(judged, most=2048):
    """The first principal components of up to `most` examples, together scaled to variance one."""
    x = judged.pixels(judged.examples[:most]).astype(np.float64)
    mean = x.mean(0, keepdims=True)
    x = x - mean
    count = min(COMPONENTS, len(x) - 1, x.shape[1])
    values, vectors = np.linalg.eigh(x @ x.T)  # [images, images], since there may be many more pixels than images
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    axes = x.T @ vectors / np.sqrt(values.clip(1e-9)).reshape(1, -1)
    # The sign of a direction is arbitrary: its largest entry is made positive.
    axes *= np.sign(axes[np.abs(axes).argmax(0), range(count)]).reshape(1, -1)
    axes /= np.sqrt(values.mean() / len(x))
    arrays = {"mean": mean.astype(np.float32), "axes": axes.astype(np.float32)}
    explained = float(values.sum() / np.square(x).sum())
    return _linear("pca", judged, arrays, lambda a, x: (x - a["mean"]) @ a["axes"], {"explained": explained})


def _labels(judged):
    return _classifier(judged, "labels", classifier.Recipe(source=judged.source, label="label"))


def _classifier(judged, name="classifier", recipe=classifier.DEFAULT):
    size, channels = judged.examples.shape[2:]
    network, info = classifier.trained(size, channels, judged.levels, recipe, judged.data_dir, judged.progress)
    function = jax.jit(functools.partial(_classifier_features, network, judged.levels))
    labels = jax.jit(lambda images: network(nn.levels_to_signed(images, judged.levels)).argmax(-1).astype("int32"))
    return FeatureExtractor(name, info["weights"], "none", network.dimension, function,
                            notes={"accuracy": info["accuracy"], "recipe": info["recipe"]}, labels=labels)


def _classifier_features(network, levels, images):
    return network.features(nn.levels_to_signed(images, levels))


INCEPTION_RULES = ("tf1", "pytorch-fid", "clean-fid")


def _inception(judged, rule="clean-fid"):
    if rule not in INCEPTION_RULES:
        raise EvaluateError(f"resize rule {rule!r} is not known; write one of {', '.join(INCEPTION_RULES)}")
    arrays, sha256 = weights.read_weights(judged.weights)
    network = inception.Inception(arrays)
    _warn_unless_official(judged.weights, inception.NETWORK, sha256, inception.SHA256)
    return _pretrained("inception", judged, network, resize.RULES[rule], sha256, inception.SHA256)


def _dinov2(judged):
    arrays, sha256 = weights.read_weights(judged.weights)
    network = dinov2.DinoV2(arrays)
    official = None if network.has_registers else dinov2.SHA256.get(network.width)
    _warn_unless_official(judged.weights, dinov2.NETWORK, sha256, official)
    return _pretrained("dinov2", judged, network, resize.RULES["dinov2"], sha256, official)


def _warn_unless_official(path, network, sha256, official):
    """Warns if the hash of the official file is known and these weights were not converted from that file."""
    if official and sha256 != official:
        warnings.warn(f"weights file {path!r} fits {network} but was not converted from the official file: "
                      f"its SHA-256 is {sha256}, not {official}; results are recorded under {sha256[:8]}...", stacklevel=2)


def _pretrained(name, judged, network, rule, sha256, official):
    """The extractor of a network; `official` is the SHA-256 of the official file, or None if it is not known."""
    graph, state = nnx.split(network)
    run = jax.jit(lambda state, images: nnx.merge(graph, state)(rule(images, judged.levels)))
    dimension = jax.eval_shape(run, state, judged.examples[:1]).shape[-1]
    return FeatureExtractor(name, sha256, rule.name, dimension, functools.partial(run, state), PRETRAINED_BATCH,
                            {"official": sha256 == official if official else None})


MAKERS = {"classifier": _classifier, "labels": _labels, "random": _random, "pca": _pca, "inception": _inception,
          "dinov2": _dinov2}
FEATURES = (*MAKERS, *(f"inception/{rule}" for rule in INCEPTION_RULES))  # every name that `find_features` takes
