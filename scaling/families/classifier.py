"""The classifier of images: patch tokens, adversarial training, and the error under the worst of several attacks."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import axes, nn
from scaling.families import _attacks as attacks
from scaling.families._classes import class_numbers, conclude_classes
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, divisors, ladder_arguments
from scaling.families._gan_tokens import stack_blocks, through_blocks
from scaling.families._ladder import nearest_shape
from scaling.families._pictures import random_images
from scaling.families._sums import Whole, mean_of
from scaling.families._text import mean_loss
from scaling.fields import ConfigError, check_fields, convert_fields, static

SMALLEST, LARGEST = 4e3, 2e9  # parameters of the ladder
NARROWEST = 8  # width of the ladder
PATIENT = 5  # times the steps of the evaluation's attacks, to see what more of them find
QUERIES = 300  # of the random search that looks for masked gradients
ROWS, COLUMNS = 4, 8  # of the pictures of attacked images


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Sizes of a Vision Transformer (Dosovitskiy et al. 2010.11929) that tells the class of an image, with the blocks of
    the GAN and of diffusion models, and of the attacks that it is trained and evaluated with.

    Training with a `radius` minimises the nats of the label on attacked images (Madry et al. 1706.06083, equation 2.1). The
    attack starts at random within the radius, takes `steps` gradient steps of `step_size` times the radius, and the best
    image that it saw counts. A radius of 0 is plain training. Radii are shares of the range of a pixel, so that 8/255 is
    the usual one of CIFAR-10, and they bound the change of every value (the l-infinity norm).

    Evaluations attack every image within `test_radius` by two attacks, each from `test_restarts` starts (see
    `scaling.families._attacks.strongest`), and an image counts as wrong where any of them gives it another class.

    The head is a linear map of the mean over patches, with std 1/width. Matrices start normal with std 1/sqrt(fan_in);
    those that write to the residual stream have 1/sqrt(2 layers) of that, or 1/sqrt(2 base_layers). With `base_layers`,
    branches are multiplied by (base_layers / layers)^depth_exponent (CompleteP, Dey et al. 2505.01618).
    """

    reads: ClassVar[str] = "classified"

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    classes: int = static(52, least=2, most=2**20)  # of the label; the data say it
    width: int = static(64, least=1, most=2**16)  # of the residual stream
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of attention and MLP
    patch: int = static(0, least=0, most=4096)  # pixels of a patch's side; 0: 4, or 8 from 64 pixels on
    radius: float = static(0.0, least=0, most=1)  # of attacks in training, as a share of the range of a pixel
    steps: int = static(4, least=1, most=2**16)  # gradient steps of an attack in training
    step_size: float = static(0.0, least=0, most=100)  # of these steps, as a share of the radius; 0: 2.5 / steps
    test_radius: float = static(0.0, least=0, most=1)  # of attacks in evaluations; 0: as in training
    test_steps: int = static(8, least=1, most=2**16)  # gradient steps of each attack in evaluations
    test_restarts: int = static(2, least=1, most=2**16)  # starts of each: the clean image, then random ones
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.image_size % self.patch_size:
            raise ConfigError(f"family.patch={self.patch_size} must divide the {self.image_size} pixels of data.size; "
                              f"write one of {divisors(self.image_size)}")

    # ---- the protocol of families

    def init(self, key):
        return {"model": nnx.state(_network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def loss(self, params, batch, key):
        """Mean nats of the labels, of attacked images where there is a `radius`. The batch is {"image": uint8 [B, H, W, C],
        "label": int32 [B], "example": int32 [B]}."""
        images, labels = self._read(batch)
        if self.radius:
            images = self.attacked(jax.lax.stop_gradient(params), batch, key).images
        return mean_loss(nn.cross_entropy(self.logits(params, images), labels))

    def evaluate(self, params, batch, key):
        """For each image "loss" (nats), "accuracy", "error", and "robust_loss" and "robust_error": the most nats, and
        whether the class is wrong, on any image that the attacks tried; by `conclude` also "macro_f1" and
        "calibration_error", of clean images. Without a radius the robust ones are those of clean images too."""
        images, labels = self._read(batch)
        found = class_numbers(self.logits(params, images), labels)
        found["error"] = mean_of(1 - found["accuracy"].over)
        if not self.reach:
            return found | {"robust_loss": found["loss"], "robust_error": found["error"]}
        worst = self.suite(params, batch, key)
        return found | {"robust_loss": mean_of(worst.loss), "robust_error": mean_of(worst.wrong)}

    def conclude(self, found):
        """Of what `evaluate` found the metrics of `scaling.families._classes.conclude_classes`; of what `examine` found
        "gradients_mislead", 1 where `scaling.families._attacks.gradients_are_masked`, so that robust errors are too low."""
        concluded = conclude_classes(found) if "_label" in found else {}
        if "masked_gradients" in found:
            masked, boundless = (np.asarray(found[name].over) for name in ("masked_gradients", "boundless_error"))
            flag = attacks.gradients_are_masked(masked.mean(-1), boundless.mean(-1), masked.shape[-1])
            concluded["gradients_mislead"] = Whole(np.asarray(flag, np.float64))
        return concluded

    def examine(self, params, batch, key):
        """Whether the attacks can be believed: `scaling.families._attacks.masking_signs`, and "patient_error", the robust
        error by attacks of more steps. Without a radius nothing is attacked."""
        if not self.reach:
            return {}
        signs = attacks.masking_signs(functools.partial(self.logits, params), *self._read(batch), batch["example"], key,
                                      self.reach, self.test_steps, self.test_restarts, QUERIES)
        patient = dataclasses.replace(self, test_steps=PATIENT * self.test_steps).suite(params, batch, key)
        return {name: mean_of(x) for name, x in signs.items()} | {"patient_error": mean_of(patient.wrong)}

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    # ---- the parts

    def _read(self, batch):
        """Images float32 [B, H, W, C] from -1 to 1, and labels int32 [B]."""
        return nn.levels_to_signed(batch["image"], self.levels), batch["label"].astype(jnp.int32)

    def logits(self, params, images):
        """Images float32 [B, H, W, C] from -1 to 1 -> float32 [B, classes]."""
        return nnx.merge(_graphdef(self), params["model"])(images)

    def class_logits(self, params, batch):
        """float32 logits [B, classes] of {"image": uint8 [B, H, W, C]}."""
        return self.logits(params, nn.levels_to_signed(batch["image"], self.levels))

    def attacked(self, params, batch, key) -> attacks.Attacked:
        """The attack of training on the images of a batch."""
        reach, (images, labels) = 2 * self.radius, self._read(batch)
        look = attacks.looked_at(functools.partial(self.logits, params), labels)
        start = attacks.random_start(key, images, batch["example"], reach)
        return attacks.ascend(look, images, start, reach, self.steps, reach * (self.step_size or 2.5 / self.steps))

    def suite(self, params, batch, key) -> attacks.Attacked:
        """The attacks of evaluations on the images of a batch."""
        return attacks.strongest(functools.partial(self.logits, params), *self._read(batch), batch["example"], key,
                                 self.reach, self.test_steps, self.test_restarts)

    def pictures(self, params, batch, key):
        """"images" and what the attacks of evaluations make of them, "attacked", uint8 [4, 8, H, W, C]."""
        index = jnp.arange(ROWS * COLUMNS) % len(batch["image"])
        some = {name: batch[name][index] for name in ("image", "label")} | {"example": jnp.arange(ROWS * COLUMNS)}
        found = {"images": some["image"]}
        if self.reach:
            found["attacked"] = nn.signed_to_levels(self.suite(params, some, key).images, self.levels)
        return {name: x.reshape(ROWS, COLUMNS, *x.shape[1:]) for name, x in found.items()}

    # ---- sizes

    @property
    def reach(self) -> float:
        """The most that attacks of evaluations change a value that lies between -1 and 1."""
        return 2 * (self.test_radius or self.radius)

    @property
    def patch_size(self) -> int:
        return self.patch or min(self.image_size, 8 if self.image_size >= 64 else 4)

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self) -> int:
        return self.patch_size**2 * self.channels

    @classmethod
    def ladder(cls, size, **overrides):
        """The classifier with about `size` parameters beside tables and the head, within 25% from 5e3 to 1e8: layers =
        3 (width / 64)^(2/3), rounded, as in the Transformer's ladder; at least one. With `layers` given, all rungs have as
        many."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        count = _weights(cls(**overrides).patch_values)
        width, layers = nearest_shape(size, count, _deep, overrides.get("layers"), least=1, start=NARROWEST)
        return cls(**({"width": width, "layers": layers} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9)) + (1e8,)


class TokenClassifier(nnx.Module):
    """Images float32 [B, H, W, C] from -1 to 1 -> float32 logits [B, classes]."""

    def __init__(self, f, layers, draw):
        width, dtype = f.width, jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        self.enter = nn.Linear(draw, {"pixel": f.patch_values}, {"embed": width}, bias=True, dtype=dtype)
        self.position = nn.Table(draw, "position", f.tokens, width, dtype=dtype)
        self.norm = nn.Norm("rmsnorm", "embed", width)
        self.head = nn.Linear(draw, {"embed": width}, {"vocab": f.classes}, scale=width**-0.5)

    def __call__(self, images):
        x = self.enter(nn.patches(images, self.family.patch_size))
        x = nn.constrain(x + self.position.weight[...].astype(x.dtype)[None], "embed")
        x = through_blocks(lambda x, layer: layer(x), x, self.layers, self.family.layers)
        pooled = nn.constrain(self.norm(x).astype(jnp.float32).mean(1), "embed")
        return nn.constrain(self.head(pooled).astype(jnp.float32), "vocab")


def _network(f, key):
    rest, blocks = jax.random.split(key)
    layers = stack_blocks(f, "model", f.width, jax.random.split(blocks, f.layers))
    return axes.drawn(functools.partial(TokenClassifier, f, layers), rest)


def _deep(width):
    return 3 * (width / 64) ** (2 / 3)


@functools.lru_cache(maxsize=256)
def _weights(pixels):
    """The parameters beside tables and the head, as a function (width, layers); `pixels` are the values of a patch."""
    def count(width, layers):
        return layers * (12 * width**2 + 7 * width) + width * (pixels + 2)

    return count


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _network(family, jax.random.key(0))))
