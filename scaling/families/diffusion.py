"""The diffusion model: EDM's noise and preconditioning, a body of patch tokens, and a bound on the likelihood."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families import _diffusion_bound as bounds
from scaling.families._diffusion_levels import level_nats
from scaling.families._diffusion_network import denoiser, denoiser_weights
from scaling.families._diffusion_sample import SAMPLERS, follow, guided, step_levels
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, divisors, ladder_arguments
from scaling.families._ladder import nearest_shape
from scaling.families._pictures import great_circles, random_images
from scaling.families._sums import excess_of, mean_of
from scaling.fields import ConfigError, check_fields, convert_fields, static

SMALLEST, LARGEST = 5e3, 2e9  # parameters of the ladder
WEIGHTINGS = ("bound", "edm")
EDM_MEAN, EDM_STD = -1.2, 1.2  # of log sigma in training (Karras et al. 2206.00364, table 1)
LEAST_NOISE = 1 / 8  # the lowest noise level, in levels of the data


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """Sizes and rules of a diffusion model of images (Karras et al. 2206.00364, "EDM", with DiT's body, 2212.09748).

    An image x in [-1, 1] becomes z = x + sigma n with standard normal n, at noise levels sigma from an eighth of a level of
    the data to `highest`. A network of patch tokens, whose norms adapt to the noise level and to the label or caption,
    estimates x; `_diffusion_network.Denoiser` says how it is preconditioned. Training weighs noise levels as EDM does,
    mostly those at which shapes are decided. With `weighting="bound"` it minimises the variational bound itself, in which
    all levels count alike on a log scale (Kingma et al. 2107.00630). Both draw levels uniformly in log sigma, and
    evaluations always report the bound.

    In training the condition is left out for a share `drop` of the images, so that `guidance` can move samples further from
    the unconditional model than the conditional one is (Ho & Salimans 2207.12598); 1 is the conditional model. Samples take
    `steps` noise levels of a `sampler`. With `base_layers`, residual branches are multiplied by
    (base_layers / layers)^depth_exponent (CompleteP, Dey et al. 2505.01618). The readout starts with std 1/width.
    """

    reads: ClassVar[str] = "images"

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    classes: int = static(0, least=0, most=2**24)  # of batch["label"]; 0: no label
    caption: int = static(0, least=0, most=2**16)  # bytes of batch["caption"]; 0: no caption
    width: int = static(64, least=1, most=2**16)  # of the residual stream
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of attention and MLP
    patch: int = static(0, least=0, most=4096)  # pixels of a patch's side; 0: 4, or 8 from 64 pixels on
    data_std: float = static(0.5, above=0, most=2)  # of pixels, as the preconditioning starts with it
    highest: float = static(20.0, least=4, most=1000)  # noise level from which samples start
    weighting: str = static("edm", choices=WEIGHTINGS)  # of noise levels: as EDM has it, or the variational bound
    drop: float = static(0.1, least=0, most=1)  # share of training images without their condition
    guidance: float = static(1.0, least=0, most=100)  # of samples
    sampler: str = static("heun", choices=SAMPLERS)  # of the differential equation of samples
    steps: int = static(16, least=2, most=1024)  # noise levels of a sample
    strata: int = static(4, least=1, most=4096)  # noise levels at which the bound of an image is evaluated
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.image_size % self.patch_size:
            raise ConfigError(f"family.patch={self.patch_size} must divide the {self.image_size} pixels of data.size; "
                              f"write one of {divisors(self.image_size)}")
        if self.guidance != 1 and not self.drop:
            raise ConfigError(f"family.guidance={self.guidance} needs a model that knows images without their condition; "
                              "write family.drop=0.1, or family.guidance=1")

    # ---- the protocol of families

    def init(self, key):
        return {"model": nnx.state(denoiser(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def loss(self, params, batch, key):
        """Mean nats per dimension, at one noise level for each image, as `weighting` weighs the levels.

        The batch is {"image": uint8 [B, H, W, C], "example": int32 [B]}, with "label" int32 [B] or "caption" int32 [B,
        caption] for conditioned families. The metric "bits_per_dim" is the bound without weights.
        """
        level_key, drop_key = jax.random.split(key)
        kept = (nn.noise(drop_key, batch["example"], (), "uniform") >= self.drop).astype(jnp.float32)
        sigma, nats = self.denoising(self.denoise(params, batch, kept), batch, level_key)
        bound = (nats + sum(self.ends(batch, level_key))).mean() / self.dimensions
        loss = bound if self.weighting == "bound" else (edm_weight(sigma, self.data_std) * nats).mean() / self.dimensions
        return loss, {"bits_per_dim": bound / math.log(2)}

    def evaluate(self, params, batch, key):
        """For each image, the bound "bits_per_dim", its parts "rate" (what z tells of the image) and "distortion" (what the
        levels still need, given z at the lowest noise) in bits per dimension, and "loss", the bound in nats per dimension.
        Given {"nats": float [B]}, what the true distribution gives each image, also "excess", as for the VAE.

        Each image is seen at `strata` noise levels, one in each equal part of the range of log sigma.
        """
        denoise = self.denoise(params, batch)

        def at(stratum):
            return self.denoising(denoise, batch, jax.random.fold_in(key, stratum), stratum, self.strata)[1]

        prior, distortion = self.ends(batch, key)
        rate = prior + jax.lax.map(at, jnp.arange(self.strata)).mean(0)
        nats = rate + distortion
        return {"bits_per_dim": self.bits(nats), "rate": self.bits(rate), "distortion": self.bits(distortion),
                "loss": mean_of(nats / self.dimensions), **excess_of(nats, batch, jnp.full_like(nats, self.dimensions))}

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    # ---- the bound

    def denoise(self, params, batch, kept=None):
        """The denoiser (z [B, H, W, C], noise levels [B]) -> x, given the conditions of a batch; see `Denoiser`."""
        module = nnx.merge(_graphdef(self), params["model"])
        return lambda z, sigma: module(z, sigma, batch, kept)

    def denoising(self, denoise, batch, key, stratum=0, strata=1):
        """(noise levels [B] of a part of the range, nats [B] of the whole range as these levels alone tell them)."""
        x, noise = nn.levels_to_signed(batch["image"], self.levels), self._noise(key, batch)
        places, ends = jax.random.fold_in(key, 1), (self.lowest, self.highest)
        sigma = bounds.noise_levels(places, batch["example"], *ends, stratum, strata)
        nats = bounds.denoising_nats(denoise, x, sigma, noise)
        return sigma, math.log(self.highest / self.lowest) * nats

    def ends(self, batch, key):
        """Nats [B] of z at the highest noise, and of the levels given z at the lowest: what no parameter changes."""
        x = nn.levels_to_signed(batch["image"], self.levels)
        return (bounds.prior_nats(x, self.highest, self.data_std),
                level_nats(batch["image"], self.levels, self.lowest, self._noise(key, batch)))

    def bits(self, nats):
        """Nats of each image, [B], in bits per dimension."""
        return mean_of(nats / (self.dimensions * math.log(2)))

    def _noise(self, key, batch):
        return nn.noise(key, batch["example"], (self.image_size, self.image_size, self.channels))

    # ---- images

    def sample(self, params, batch, key, temperature=1.0):
        """Images uint8 [B, H, W, C], one for each of batch["example"], given its label or caption. `temperature` multiplies
        the noise from which samples start."""
        return self.draw(params, batch, temperature * self._noise(key, batch))

    def draw(self, params, batch, noise):
        """Images uint8 [B, H, W, C] from standard normals [B, H, W, C] and the conditions of a batch."""
        with_condition, without = (self.denoise(params, batch, kept) for kept in (None, jnp.zeros(noise.shape[0])))
        denoise = guided(with_condition, without, self.guidance if self.conditional else 1.0)
        x = follow(denoise, self.highest * noise, step_levels(self.steps, self.lowest, self.highest), self.sampler)
        return nn.signed_to_levels(x, self.levels)

    def pictures(self, params, batch, key):
        """"samples" and "interpolations" (along great circles between the noise of two images), uint8 [4, 8, H, W, C]."""
        rows, columns = 4, 8
        count = batch["example"].shape[0]
        shape = (self.image_size, self.image_size, self.channels)

        def grid(noise, index):
            conditions = {name: x[index % count] for name, x in batch.items() if name in ("label", "caption")}
            return self.draw(params, conditions, noise).reshape(rows, columns, *shape)

        numbers, circles = jnp.arange(rows * columns), great_circles(jax.random.fold_in(key, 1), rows, columns, shape)
        return {"samples": grid(nn.noise(key, numbers, shape), numbers),
                "interpolations": grid(circles, numbers // columns)}

    # ---- sizes

    @property
    def patch_size(self):
        return self.patch or min(self.image_size, 8 if self.image_size >= 64 else 4)

    @property
    def tokens(self):
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self):
        return self.patch_size**2 * self.channels

    @property
    def dimensions(self) -> int:
        """Pixels times channels, the dimensions of bits per dimension."""
        return self.image_size**2 * self.channels

    @property
    def step(self) -> float:
        """The distance of two levels, of which the lowest and the highest are at -1 and 1."""
        return 2 / (self.levels - 1)

    @property
    def lowest(self) -> float:
        """The lowest noise level."""
        return LEAST_NOISE * self.step

    @property
    def conditional(self):
        return bool(self.classes or self.caption)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model with about `size` parameters beside tables, within 20% from 1e4 to 2e9: layers = 3 (width / 64)^(2/3),
        rounded, as in the Transformer's ladder; at least one. With `layers` given, all rungs have as many."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        given = cls(**overrides)
        count = denoiser_weights(given.conditional, given.patch_values)
        width, layers = nearest_shape(size, count, _deep, overrides.get("layers"), least=1)
        return cls(**({"width": width, "layers": layers} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(1e4 * 10 ** (i / 2) for i in range(11))


def edm_weight(sigma, data_std):
    """The weight of nats at noise levels sigma, uniform in log sigma, that gives EDM's loss: the density of log sigma times
    (sigma^2 + data_std^2) / data_std^2 (Karras et al. 2206.00364, table 1: lambda(sigma), but for 1 / sigma^2)."""
    density = jnp.exp(-0.5 * jnp.square((jnp.log(sigma) - EDM_MEAN) / EDM_STD)) / (EDM_STD * math.sqrt(2 * math.pi))
    return density * (1 + jnp.square(sigma / data_std))


def _deep(width):
    return 3 * (width / 64) ** (2 / 3)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: denoiser(family, jax.random.key(0))))
