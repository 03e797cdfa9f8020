"""The variational autoencoder: hierarchical, top-down, over patch tokens or convolutions."""

import dataclasses
import functools
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families import Player, _vae_sizes
from scaling.families import _vae_pictures as pictures
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.families._vae_network import network
from scaling.fields import how

CHOICES = {
    "body": ("tokens", "conv", "linear"),
    "likelihood": tuple(LIKELIHOODS),
    "dtype": ("float32", "bfloat16"),
}
IMPORTANCE_SAMPLES = 64
ACTIVE = 0.01  # nats; a unit whose mean KL is higher is active (Burda et al. 1509.00519, section 5, in spirit)


@dataclasses.dataclass(frozen=True)
class VAE:
    """Sizes of a top-down hierarchical VAE (Sonderby et al. 1602.02282) after VDVAE (Child 2011.10650).

    The decoder starts from learned vectors on the coarsest grid and goes through the stages of the schedule, each a number
    of blocks on one grid; a finer stage repeats each cell. A stochastic block draws latents, `latents` channels a cell,
    from a prior given the activations above it, or, given an image, from a posterior given those and the encoder's
    activations on the same grid, and adds a linear map of them; then comes a residual block. The encoder has half as
    many residual blocks a stage, rounded up, and averages cells on its way to coarser grids.

    Bodies: "tokens", grids of patches, residual blocks of attention and MLP (every operation a matrix product);
    "conv", grids of pixels, bottlenecks of convolutions; "linear", no residual blocks, norms or hidden layers, on
    one patch: with one layer and the Gaussian likelihood, probabilistic PCA (Lucas et al. 1911.02469).

    Parameters are float32, as are latents, likelihoods and KL, whatever `dtype` the rest is computed in. Matrices start
    normal with std 1/sqrt(fan_in); those that write to the residual stream with 1/sqrt(blocks of the decoder) of that;
    heads of priors and posteriors at zero, so that KL starts at zero; the readout at std 1/width. Nothing is normalised
    over the batch. The label and the caption, as one vector, are added to the activations at each stage's start.
    Sizes at 0 and an empty schedule are derived, see the properties.
    """

    image_size: int = 16
    channels: int = 1
    levels: int = 256
    classes: int = 0
    caption: int = 0
    body: str = "tokens"
    width: int = 64
    layers: int = 3  # blocks of the decoder
    plain: bool = False  # latents in the first block alone: one latent vector for an image
    schedule: str = ""  # as VDVAE writes it: "1x2,4x4" is 2 stochastic blocks on 1x1, 4 on 4x4; "4d2" has no latents
    patch: int = 0  # pixels of a side of a cell of the finest grid
    latents: int = 0  # channels of a cell in each stochastic block
    heads: int = 0
    mlp: int = 0  # hidden units of a token block
    bottleneck: float = 0.25  # channels of the 3x3 convolutions over the width
    likelihood: str = "logistic"
    components: int = 0  # of the mixture of logistics
    beta: float = 1.0  # weight of the KL in the loss
    free_bits: float = 0.0  # bits of KL of each stochastic block and image that cost nothing more than zero would
    warmup: int = 0  # steps over which the weight of the KL rises from zero
    dtype: str = "float32"
    scan: bool = how(False)  # loop over the blocks of a stage: compiles faster, and on CPU runs slower
    remat: bool = how(False)  # recompute activations in the backward pass

    reads: ClassVar[str] = "images"

    def __post_init__(self):
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"VAE.{field} is {getattr(self, field)!r}; choose one of {choices}")
        for field in ("image_size", "channels", "width", "layers"):
            if getattr(self, field) < 1:
                raise ValueError(f"VAE.{field} is {getattr(self, field)}; it must be at least 1")
        if self.levels < 2 or (self.likelihood == "bernoulli" and self.levels != 2):
            raise ValueError(f"VAE.levels={self.levels} does not go with likelihood={self.likelihood!r}; Bernoulli "
                             "takes 2, the others 2 or more")
        if self.image_size % self.cell:
            raise ValueError(f"VAE.patch={self.cell} must divide image_size={self.image_size}")
        if self.width % self.attention_heads:
            raise ValueError(f"VAE.heads={self.heads} must divide width={self.width}")
        _vae_sizes.stages(self)

    @property
    def cell(self) -> int:
        """Pixels of a side of a cell of the finest grid: for convolutions 1, and 2 above 16 pixels; for tokens 4, and 8
        from 64 pixels; the image for the linear body."""
        chosen = {"conv": 1 if self.image_size <= 16 else 2, "tokens": 4 if self.image_size < 64 else 8}
        return self.patch or min(self.image_size, chosen.get(self.body, self.image_size))

    @property
    def channels_latent(self) -> int:
        """Latent channels: 8 a cell, whatever the size; 64 when plain."""
        return self.latents or (64 if self.plain else 8)

    @property
    def attention_heads(self) -> int:
        """As many heads of at least 32 dimensions (from width 512 on: 64) as divide the width."""
        least = 32 if self.width < 512 else 64
        return self.heads or max([n for n in range(1, self.width // least + 1) if self.width % n == 0], default=1)

    @property
    def hidden(self) -> int:
        """Hidden units of a residual block: 2 widths for tokens; for convolutions a share of the width."""
        return max(1, round(self.bottleneck * self.width)) if self.body == "conv" else self.mlp or 2 * self.width

    @property
    def mixture(self) -> int:
        """Components of the mixture of logistics: as many as levels, up to 5."""
        return self.components or min(self.levels, 5)

    @property
    def residual_scale(self) -> float:
        return sum(stage.blocks for stage in self.stages) ** -0.5

    @property
    def stages(self) -> tuple[_vae_sizes.Stage, ...]:
        """The schedule, coarse to fine. When not given: a third of the tokens' blocks, or a quarter of the
        convolutions' for each of 1, size/4, size/2 and size, at least one; what is left over goes to the finest."""
        return _vae_sizes.stages(self)

    def init(self, key):
        return {"model": nnx.state(network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    def loss(self, params, batch, key):
        """Mean nats per dimension of distortion + beta KL. The batch is {"image": uint8 [B, H, W, C], "example": int32
        [B]}, with "label" int32 [B] or "caption" int32 [B, caption] for conditioned families, and "step" int32 [B] for
        the warm-up. Free bits (Kingma et al. 1606.04934, appendix C.8) are per image, not over a batch's mean,
        so that microbatches change nothing."""
        distortion, by_layer = self.terms(params, batch, key)
        paid = jnp.maximum(by_layer, self.free_bits * math.log(2)).sum(0)
        weight = jnp.full(paid.shape, self.beta)
        if self.warmup and "step" in batch:
            weight = weight * jnp.minimum(1.0, (batch["step"] + 1) / self.warmup)
        bits = self.dimensions * math.log(2)
        rate = by_layer.sum(0).mean()
        loss = (distortion + weight * paid).mean() / self.dimensions
        return loss, {"bits_per_dim": (distortion.mean() + rate) / bits, "rate": rate / bits,
                      "distortion": distortion.mean() / bits}

    def evaluate(self, params, batch, key):
        """Sums over images of the negative ELBO, "bits_per_dim", with its count and sum of squares; of its parts,
        "rate" (KL) and "distortion", in bits per dimension; and of it in nats per dimension, "loss".

        With neither beta, free bits nor warm-up: always the bound itself, at one draw of the latents.
        """
        distortion, by_layer = self.terms(params, batch, key)
        rate, nats = by_layer.sum(0), distortion + by_layer.sum(0)
        return {"bits_per_dim": self._bits(nats), "rate": self._bits(rate)[:2],
                "distortion": self._bits(distortion)[:2], "loss": _sums(nats / self.dimensions)[:2]}

    def examine(self, params, batch, key):
        """What is too costly for every evaluation: "iwae_bits_per_dim", the bound of 64 importance samples (Burda et al.
        1509.00519, eq. 8); "active_latents", the share of latent units whose KL, meaned over this batch, exceeds 0.01 nats;
        and "rate_layer_00" and so on, bits per dimension of each stochastic block, from the top."""
        module = self.module(params)
        features = module.encode(batch)

        def add(total, index):
            outputs, latents = module.decode(batch, self.noise(jax.random.fold_in(key, index), batch), features)
            ratio = sum(stage.log_ratio.sum((0, 2, 3, 4)) for stage in latents)
            weight = ratio - self._distortion(outputs, batch, jax.random.fold_in(key, index))
            return jnp.logaddexp(total, weight), None

        start = jnp.full(batch["image"].shape[0], -jnp.inf)
        total, _ = jax.lax.scan(add, start, jnp.arange(IMPORTANCE_SAMPLES))
        _, latents = module.decode(batch, self.noise(key, batch), features)
        units = jnp.concatenate([stage.kl.mean(1).ravel() for stage in latents])
        by_layer = jnp.concatenate([stage.kl.sum((2, 3, 4)) for stage in latents])
        found = {"iwae_bits_per_dim": self._bits(math.log(IMPORTANCE_SAMPLES) - total),
                 "active_latents": ((units > ACTIVE).sum(dtype=jnp.float32), jnp.float32(units.size))}
        return found | {f"rate_layer_{i:02d}": self._bits(kl)[:2] for i, kl in enumerate(by_layer)}

    def sample(self, params, batch, key):
        """Images uint8 [B, H, W, C] drawn from the model, given the labels or captions of the batch. The latents of stage
        i and block j are the same noise in families of every size that have them."""
        outputs, _ = self.module(params).decode(batch, self.noise(key, batch))
        return self.draw(outputs, batch, key)

    def pictures(self, params, batch, key):
        """{name: uint8 [rows, columns, H, W, C]}: "reconstructions" below the images, "samples", "interpolations" between
        images through their latents, "traversals" of the most active latents; see `_vae_pictures`."""
        return pictures.all(self, params, batch, key)

    def example_batch(self, batch_size, key):
        shape = (batch_size, self.image_size, self.image_size, self.channels)
        batch = {"image": jax.random.randint(key, shape, 0, self.levels).astype(jnp.uint8),
                 "example": jnp.arange(batch_size, dtype=jnp.int32)}
        if self.classes:
            batch["label"] = jax.random.randint(key, (batch_size,), 0, self.classes)
        if self.caption:
            batch["caption"] = jax.random.randint(key, (batch_size, self.caption), 0, 256)
        return batch

    @property
    def dimensions(self) -> int:
        """Pixels times channels, what bits per dimension are counted over."""
        return self.image_size**2 * self.channels

    def noise(self, key, batch):
        """Standard normals for all latents: for each stochastic stage [blocks, B, g, g, latents].

        Block j of a stage reads the same noise whatever the number of blocks, so that sizes can be compared.
        """
        stages = [s for s in self.stages if s.stochastic]
        ends = list(itertools.accumulate(s.grid**2 * self.channels_latent for s in stages))
        drawn = nn.noise(key, batch["example"], (max(s.blocks for s in stages), ends[-1]))
        each = jnp.split(drawn.swapaxes(0, 1), ends[:-1], axis=-1)  # one draw: each takes long to compile
        return [x[:s.blocks].reshape(s.blocks, -1, s.grid, s.grid, self.channels_latent) for x, s in zip(each, stages)]

    def terms(self, params, batch, key):
        """Nats: distortion [B], -log p(x | z) at one draw of the latents, and KL [stochastic blocks, B]."""
        module = self.module(params)
        outputs, latents = module.decode(batch, self.noise(key, batch), module.encode(batch))
        by_layer = jnp.concatenate([stage.kl.sum((2, 3, 4)) for stage in latents])
        return self._distortion(outputs, batch, key), by_layer

    def draw(self, outputs, batch, key):
        """Images uint8 [B, H, W, C] from the likelihood with these outputs."""
        return LIKELIHOODS[self.likelihood].sample(outputs, self.levels, self._uniform(key, batch))

    def _distortion(self, outputs, batch, key):
        noise = self._uniform(key, batch) if self.likelihood == "gaussian" else None
        nats = LIKELIHOODS[self.likelihood].log_prob(outputs, batch["image"], self.levels, noise)
        return -nats.sum((1, 2))

    def _uniform(self, key, batch):
        shape = (self.image_size, self.image_size, self.channels + 1)
        return nn.noise(jax.random.fold_in(key, 99), batch["example"], shape, "uniform")

    def _bits(self, nats):
        return _sums(nats / (self.dimensions * math.log(2)))

    @classmethod
    def ladder(cls, size, **overrides):
        """The VAE with about `size` non-embedding parameters, from 8e3 to 2e9.

        The rule: blocks of the decoder = 2 sqrt(width/32) for tokens, at least 2, 4 sqrt(width/32) for convolutions, at
        least 4 (one a grid). Latents a cell, the grids and the bottleneck's ratio stay. Widths are rounded to eighths
        of a power of two, one block more or fewer is allowed, and the nearest is taken.
        """
        if not 8e3 <= size <= 2e9:
            raise ValueError(f"VAE.ladder takes sizes from 8e3 to 2e9 parameters, not {size:g}")
        rungs = _vae_sizes.rungs(cls, tuple(sorted(overrides.items())))
        return min(rungs, key=lambda f: abs(math.log(_vae_sizes.weights(f) / size)))

    @classmethod
    def sizes(cls):
        return tuple(1e4 * 10 ** (i / 2) for i in range(11))


def _sums(x):
    """Sum, count and sum of squares of one number for each image."""
    return x.sum(), jnp.float32(x.size), jnp.square(x).sum()


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: network(family, jax.random.key(0))))
