"""A classifier of images: of the characters of the glyph stream, whose features compare images, or of any labels.

The one of characters trains in under a minute on two cores. The feature is the layer before the last activation,
layer-normalised. After the activation, Fréchet distances would be nearly blind to blur, noise and missing modes.
"""
import dataclasses
import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import axes, data, nn
from scaling.evaluate.pretrained import weights
from scaling.fields import EvaluateError
from scaling.store.files import replacing
from scaling.store.prepared import data_directory, locked
from scaling.store.progress import Progress

VERSION = 1  # raise it when something changes here that is not in the recipe; cached networks are then trained again


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything besides the data that determines the network: sizes, steps, and the source that it learns from."""

    source: str = "glyphs/letters"
    label: str = "character"
    widths: tuple[int, ...] = (16, 32, 64, 256)  # of three convolutions and the layer after them
    features: int = 128
    batch: int = 256
    steps: int = 600
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


class LabelNetwork(nnx.Module):
    """Images [n, size, size, channels] in [-1, 1] -> logits [n, classes].

    Three convolutions and two layers. The first convolution covers three sixteenths of each side at any image size,
    since a wider one averages noise away. Convolutions are matrix products over windows, because XLA's own convolutions
    are slow inside a compiled loop on CPU.
    """

    def __init__(self, draw, recipe, size, channels, classes):
        self.step, self.dimension = max(1, size // 16), recipe.features
        *convolutions, hidden = recipe.widths
        make, side, inputs = functools.partial(nn.Linear, draw, bias=True), size + 2 * self.step, channels
        self.kernels = ((2 * self.step + 1, self.step), (3, 2), (3, 2))  # and strides
        self.convolutions = nnx.List()
        for (kernel, stride), width in zip(self.kernels, convolutions, strict=True):
            self.convolutions.append(make({"window": kernel**2 * inputs}, {"embed": width}, scale=1.4))
            side, inputs = _places(side, kernel, stride), width
        inputs = side**2 * inputs
        self.norms = nnx.List(nn.Norm("layernorm", "embed", n) for n in (inputs, hidden))
        self.mix = make({"window": inputs}, {"embed": hidden}, scale=1.4)
        self.last = make({"embed": hidden}, {"mlp": recipe.features})
        self.head = make({"mlp": recipe.features}, {"classes": classes})

    def features(self, x):
        """float32 [n, dimension]: pre-activations, layer-normalised without gain."""
        margin = (self.step, self.step)
        x = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))
        for (kernel, stride), convolution in zip(self.kernels, self.convolutions, strict=True):
            x = jax.nn.gelu(convolution(_windows(x, kernel, stride)))
        x = jax.nn.gelu(self.mix(self.norms[0](x.reshape(len(x), -1))))
        x = self.last(self.norms[1](x))
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)

    def __call__(self, x):
        return self.head(jax.nn.gelu(self.features(x)))


def _places(size, kernel, stride):
    return (size - kernel) // stride + 1


def _windows(x, kernel, stride):
    """[n, H, W, c] -> [n, h, w, kernel * kernel * c]: each window becomes one row."""
    height, width = (_places(side, kernel, stride) for side in x.shape[1:3])
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return jnp.concatenate([x[:, i:i + rows:stride, j:j + columns:stride]
                            for i in range(kernel) for j in range(kernel)], axis=-1)


DEFAULT = Recipe()


def trained(size, channels, levels, recipe=DEFAULT, data_dir=None, progress=True):
    """(network, {"weights", "accuracy", "recipe"}), from the cache under `data_dir` or trained now.

    The cache's key is a hash of the recipe, the data and the size of the images. `accuracy` is measured on held-out
    images; `weights` is the SHA-256 of the arrays.
    """
    if size < 8:
        raise EvaluateError(f"the classifier's features need images of 8 pixels or more, not {size}; write "
                            "features='random' or 'pca'")
    source = data.load_images(recipe.source, size=size, channels=channels, levels=levels, batch=recipe.batch,
                              label=recipe.label, data_dir=data_dir, progress=progress)
    decided = dataclasses.asdict(recipe) | {"data": source.fingerprint, "size": size, "channels": channels,
                                            "levels": levels, "version": VERSION}
    if recipe.label == DEFAULT.label:
        del decided["label"]  # keys are those of earlier versions, which had no such field
    key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]
    path = data_directory(data_dir) / "evaluate" / f"classifier-{key}.npz"
    classes = len(source.classes(recipe.label))
    make = functools.partial(LabelNetwork, recipe=recipe, size=size, channels=channels, classes=classes)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: axes.drawn(make, jax.random.key(0))))
    with locked(path):
        if not path.exists():
            state, accuracy = _train(make, graph, source, recipe, levels, progress)
            arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, accuracy=accuracy, **arrays)
    with np.load(path) as file:
        arrays = dict(file)
    accuracy = float(arrays.pop("accuracy"))
    leaves = [jnp.asarray(arrays[str(i)]) for i in range(len(arrays))]
    state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    return nnx.merge(graph, state), {"weights": weights.arrays_digest(arrays), "accuracy": accuracy, "recipe": key}


def _train(make, graph, source, recipe, levels, progress):
    state = nnx.state(axes.drawn(make, jax.random.key(0)))
    optimiser, loss = _optimiser(recipe), functools.partial(_loss, graph, levels)
    arrays = jax.tree.map(jnp.asarray, source.arrays())
    chunk = max(1, min(50, recipe.steps // 10))

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(carry, arrays, start):
        def step(i, carry):
            state, inner, _ = carry
            value, gradient = jax.value_and_grad(loss)(state, source.slice(arrays, 0, start + i))
            updates, inner = optimiser.update(gradient, inner, state)
            return optax.apply_updates(state, updates), inner, value
        return jax.lax.fori_loop(0, chunk, step, carry)

    carry = (state, optimiser.init(state), jnp.zeros(()))
    bar = Progress(recipe.steps, unit="step") if progress else None
    for start in range(0, recipe.steps, chunk):
        carry = steps(carry, arrays, start)
        if bar:
            bar.update(chunk, f"classifier of each {recipe.label}, loss {float(carry[2]):.3f}")
    if bar:
        bar.close()
    held_out = source.evaluation(source.splits[0], min(4096, source.pictures.available(source.splits[0])))
    logits = jax.jit(lambda state, x: nnx.merge(graph, state)(nn.levels_to_signed(x, levels)))(carry[0], held_out["image"])
    return carry[0], float((np.asarray(logits).argmax(-1) == held_out["label"]).mean())


@dataclasses.dataclass(frozen=True, eq=False)
class Labeller:
    """A trained classifier of images of `levels` values."""

    network: LabelNetwork
    levels: int

    def features(self, images) -> np.ndarray:
        """float32 [n, dimension] of uint8 images [n, size, size, channels]; see `LabelNetwork.features`."""
        return self._in_parts(_features, images)

    def predict(self, images) -> np.ndarray:
        """The likeliest label of each image, int32 [n]."""
        return self._in_parts(_labels, images)

    def accuracy(self, images, labels) -> float:
        """The share of images whose predicted label is the given one."""
        return float(np.mean(self.predict(images) == np.asarray(labels)))

    def _in_parts(self, function, images, at_once: int = 1024):
        graph, state = nnx.split(self.network)
        return np.concatenate([np.asarray(function(graph, state, images[at:at + at_once], self.levels))
                               for at in range(0, len(images), at_once)])


def train_labeller(images, labels, classes: int, levels: int, recipe: Recipe = DEFAULT, seed: int = 0) -> Labeller:
    """A classifier of uint8 images [n, size, size, channels] by labels from 0 to classes - 1, int [n], freshly trained.

    `recipe.source` is not used. Batches are drawn with replacement, by `seed`, which draws the weights as well. So trained
    on samples of a conditioned model and tested on real images, it gives the classification accuracy score (Ravuri and
    Vinyals 2019, arXiv:1905.10887); trained on real images and tested on samples, GAN-test (Shmelkov et al. 2018,
    arXiv:1807.09499). Raises EvaluateError for labels that do not fit.
    """
    images, labels = np.asarray(images), np.asarray(labels, np.int32)
    if len(images) != len(labels) or not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise EvaluateError(f"{len(images)} images cannot be learnt with {len(labels)} labels, since each needs one from 0 "
                            f"to {classes - 1}")
    if images.shape[1] < 8:
        raise EvaluateError(f"the classifier needs images of 8 pixels or more, not {images.shape[1]}")
    rows = np.random.default_rng(seed).integers(len(images), size=(recipe.steps, recipe.batch), dtype=np.int32)
    graph, state = _fit(images, labels, rows, seed, recipe, classes, levels)
    return Labeller(nnx.merge(graph, state), levels)


@functools.partial(jax.jit, static_argnames=("recipe", "classes", "levels"))
def _fit(images, labels, rows, seed, recipe, classes, levels):
    make = functools.partial(LabelNetwork, recipe=recipe, size=images.shape[1], channels=images.shape[3], classes=classes)
    graph, state = nnx.split(axes.drawn(make, jax.random.key(seed)))
    optimiser, loss = _optimiser(recipe), functools.partial(_loss, graph, levels)

    def step(i, carry):
        state, inner = carry
        gradient = jax.grad(loss)(state, {"image": images[rows[i]], "label": labels[rows[i]]})
        updates, inner = optimiser.update(gradient, inner, state)
        return optax.apply_updates(state, updates), inner

    return graph, jax.lax.fori_loop(0, recipe.steps, step, (state, optimiser.init(state)))[0]


@functools.partial(jax.jit, static_argnames=("graph", "levels"))
def _labels(graph, state, images, levels):
    return nnx.merge(graph, state)(nn.levels_to_signed(images, levels)).argmax(-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("graph", "levels"))
def _features(graph, state, images, levels):
    return nnx.merge(graph, state).features(nn.levels_to_signed(images, levels))


def _optimiser(recipe):
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, recipe.steps // 20, recipe.steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=recipe.weight_decay))


def _loss(graph, levels, state, batch):
    logits = nnx.merge(graph, state)(nn.levels_to_signed(batch["image"], levels))
    return nn.cross_entropy(logits, batch["label"]).mean()
