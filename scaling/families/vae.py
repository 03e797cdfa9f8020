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
from scaling.families import _vae_examine, _vae_pictures, _vae_sizes
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, divisors, ladder_arguments
from scaling.families._pictures import random_images
from scaling.families._sums import excess_of, mean_of
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.families._vae_network import network
from scaling.fields import ConfigError, check_fields, convert_fields, how, static
from scaling.nn import convolution, remat

BODIES = ("tokens", "conv", "linear")
SMALLEST, LARGEST = 8e3, 2e9  # parameters of the ladder


@dataclasses.dataclass(frozen=True)
class VAE:
    """Sizes of a top-down hierarchical VAE (Sonderby et al. 1602.02282) after VDVAE (Child 2011.10650).

    The decoder starts from learned vectors on the coarsest grid and goes through the stages of the schedule. A stage is a
    number of blocks on one grid; at a finer stage each cell is repeated. A stochastic block draws latents, `latents`
    channels per cell, from a prior that depends on the activations above it. Given an image, it draws them from a posterior
    that also depends on the encoder's activations on the same grid. It adds a linear map of the latents, and a residual
    block follows. The encoder has half as many residual blocks per stage, rounded up, and averages cells on its way to
    coarser grids.

    Bodies: "tokens" has grids of patches and residual blocks of attention and MLP (every operation is a matrix product).
    "conv" has grids of pixels and bottlenecks of convolutions. "linear" has one patch and no residual blocks, norms or
    hidden layers. With one layer and the Gaussian likelihood it is probabilistic PCA (Lucas et al. 1911.02469).

    Parameters, latents, likelihoods and KL are float32, whatever the `dtype` of the rest. Matrices start normal with std
    1/sqrt(fan_in); those that write to the residual stream have 1/sqrt(blocks of the decoder) of that. With `base_layers`
    they have 1/sqrt(base_layers), and what they write is multiplied by (base_layers / blocks)^depth_exponent, so that a
    learning rate tuned at `base_layers` blocks serves other depths (CompleteP, Dey et al. 2505.01618). The heads of priors
    and posteriors start at zero, so that the KL starts at zero. The readout has std 1/width. Nothing is normalised over
    the batch. The label and the caption, as one vector, are added to the activations at the start of each stage.
    Sizes at 0 and an empty schedule are derived; see the properties.
    """

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    classes: int = static(0, least=0, most=2**24)  # of batch["label"]; 0: no label
    caption: int = static(0, least=0, most=2**16)  # bytes of batch["caption"]; 0: no caption
    body: str = static("tokens", choices=BODIES)  # grids of patches, grids of pixels, or one patch
    width: int = static(64, least=1, most=2**16)  # of the residual stream
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of the decoder
    plain: bool = static(False)  # latents in the first block only: one latent vector for each image
    schedule: str = static("")  # as in VDVAE: "1x2,4x4" is 2 stochastic blocks on 1x1, 4 on 4x4; "4d2" has no latents
    patch: int = static(0, least=0, most=4096)  # pixels per side of a cell of the finest grid
    latents: int = static(0, least=0, most=2**16)  # channels per cell in each stochastic block
    heads: int = static(0, least=0, most=2**16)  # of attention; 0: by the width
    mlp: int = static(0, least=0, most=2**20)  # hidden units of a token block
    bottleneck: float = static(0.25, above=0, most=64)  # channels of the 3x3 convolutions, as a share of the width
    likelihood: str = static("logistic", choices=tuple(LIKELIHOODS))  # of the pixels, given the latents
    components: int = static(0, least=0, most=4096)  # of the mixture of logistics
    beta: float = static(1.0, least=0)  # weight of the KL in the loss
    free_bits: float = static(0.0, least=0)  # KL of each stochastic block and image below this many bits costs the same
    warmup: int = static(0, least=0, most=2**24)  # steps over which the weight of the KL rises from zero
    base_layers: int = static(0, later=True, least=0, most=MOST_LAYERS, meaning="the blocks at which rates were tuned")
    depth_exponent: float = static(1.0, later=True, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    convolution: str = how("auto", choices=convolution.IMPLEMENTATIONS)  # lax.conv, or products of shifted images
    scan: bool = how(False)  # loop over the blocks of a stage: compiles faster, and on CPU runs slower
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what the backward pass recomputes

    reads: ClassVar[str] = "images"

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.likelihood == "bernoulli" and self.levels != 2:
            raise ConfigError(f"family.likelihood='bernoulli' takes 2 levels, not family.levels={self.levels}; write "
                              "data.levels=2, or family.likelihood=logistic")
        if self.image_size % self.cell:
            raise ConfigError(f"family.patch={self.cell} must divide the {self.image_size} pixels of data.size; write "
                              f"one of {divisors(self.image_size)}")
        if self.width % self.attention_heads:
            raise ConfigError(f"family.heads={self.heads} must divide family.width={self.width}; write one of "
                              f"{divisors(self.width)}, or 0 for an automatic choice")
        _vae_sizes.stages(self)

    @property
    def cell(self) -> int:
        """Pixels per side of a cell of the finest grid: 1 for convolutions, or 2 above 16 pixels; 4 for tokens, or 8 from
        64 pixels; the whole image for the linear body."""
        chosen = {"conv": 1 if self.image_size <= 16 else 2, "tokens": 4 if self.image_size < 64 else 8}
        return self.patch or min(self.image_size, chosen.get(self.body, self.image_size))

    @property
    def channels_latent(self) -> int:
        """Latent channels per cell: 8 at every size, 64 if plain."""
        return self.latents or (64 if self.plain else 8)

    @property
    def attention_heads(self) -> int:
        """The largest number of heads of at least 32 dimensions (64 from width 512) that divides the width."""
        least = 32 if self.width < 512 else 64
        return self.heads or max([n for n in range(1, self.width // least + 1) if self.width % n == 0], default=1)

    @property
    def hidden(self) -> int:
        """Hidden units of a residual block: 2 widths for tokens, a share of the width for convolutions."""
        return max(1, round(self.bottleneck * self.width)) if self.body == "conv" else self.mlp or 2 * self.width

    @property
    def mixture(self) -> int:
        """Components of the mixture of logistics: as many as levels, at most 5."""
        return self.components or min(self.levels, 5)

    @property
    def residual_scale(self) -> float:
        """The factor on the initial weights of matrices that write to the residual stream."""
        return (self.base_layers or self._blocks) ** -0.5

    @property
    def _blocks(self) -> int:
        return sum(stage.blocks for stage in self.stages)

    def depth(self, player="model"):
        return Depth(self._blocks / (self.base_layers or self._blocks), self.depth_exponent)

    @property
    def stages(self) -> tuple[_vae_sizes.Stage, ...]:
        """The stages of the schedule, coarse to fine. Without a schedule, tokens have a third of the blocks on the 1x1
        grid, and convolutions have a quarter on each of the grids 1, size/4, size/2 and size, at least one. The other
        blocks are on the finest grid."""
        return _vae_sizes.stages(self)

    def init(self, key):
        return {"model": nnx.state(network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    def loss(self, params, batch, key):
        """Mean nats per dimension of distortion + beta KL.

        The batch is {"image": uint8 [B, H, W, C], "example": int32 [B]}, with "label" int32 [B] or "caption" int32
        [B, caption] for conditioned families, and "step" int32 [B] for the warm-up. Free bits (Kingma et al. 1606.04934,
        appendix C.8) apply to each image and not to the mean of a batch, so that microbatches change nothing.
        """
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
        """For each image, the negative ELBO "bits_per_dim", its parts "rate" (KL) and "distortion" in bits per dimension,
        and "loss", the negative ELBO in nats per dimension. Given {"nats": float [B]}, what the true distribution of the
        data gives each image, also "excess": the bits per dimension of the negative ELBO beyond it.

        This is always the bound itself, at one draw of the latents, without beta, free bits and warm-up.
        """
        distortion, by_layer = self.terms(params, batch, key)
        rate, nats = by_layer.sum(0), distortion + by_layer.sum(0)
        return {"bits_per_dim": self.bits(nats), "rate": self.bits(rate), "distortion": self.bits(distortion),
                "loss": mean_of(nats / self.dimensions), **excess_of(nats, batch, jnp.full_like(nats, self.dimensions))}

    def examine(self, params, batch, key):
        """Metrics that are too costly for every evaluation; see `_vae_examine`."""
        return _vae_examine.examine_vae(self, params, batch, key)

    def sample(self, params, batch, key, temperature=1.0):
        """Images uint8 [B, H, W, C] drawn from the model, given the labels or captions of the batch. Families of all sizes
        share the noise of the latents of stage i and block j. `temperature` multiplies the standard deviations of the prior
        in every block, and leaves the likelihood of pixels alone."""
        noise = [temperature * stage for stage in self.noise(key, batch)]
        outputs, _ = self.module(params).decode(batch, noise)
        return self.draw(outputs, batch, key)

    def pictures(self, params, batch, key):
        """{name: uint8 [rows, columns, H, W, C]}: images with their "reconstructions" below, "samples", "interpolations"
        between the latents of images, "traversals" of the most active latents; see `_vae_pictures`."""
        return _vae_pictures.draw_pictures(self, params, batch, key)

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    @property
    def dimensions(self) -> int:
        """Pixels times channels, the dimensions of bits per dimension."""
        return self.image_size**2 * self.channels

    def noise(self, key, batch):
        """Standard normals for all latents, [blocks, B, g, g, latents] for each stochastic stage.

        Block j of a stage gets the same noise whatever the number of blocks, so that sizes can be compared.
        """
        stages = [s for s in self.stages if s.stochastic]
        ends = list(itertools.accumulate(s.grid**2 * self.channels_latent for s in stages))
        drawn = nn.noise(key, batch["example"], (max(s.blocks for s in stages), ends[-1]))
        each = jnp.split(drawn.swapaxes(0, 1), ends[:-1], axis=-1)  # one draw, because each draw takes long to compile
        return [x[:s.blocks].reshape(s.blocks, -1, s.grid, s.grid, self.channels_latent) for x, s in zip(each, stages)]

    def terms(self, params, batch, key):
        """Nats of the distortion [B], -log p(x | z) at one draw of the latents, and of the KL [stochastic blocks, B]."""
        module = self.module(params)
        outputs, latents = module.decode(batch, self.noise(key, batch), module.encode(batch))
        by_layer = jnp.concatenate([stage.kl.sum((2, 3, 4)) for stage in latents])
        return self.distortion(outputs, batch, key), by_layer

    def draw(self, outputs, batch, key):
        """Images uint8 [B, H, W, C] drawn from the likelihood with these outputs of the decoder."""
        return LIKELIHOODS[self.likelihood].sample(outputs, self.levels, self._uniform(key, batch))

    def distortion(self, outputs, batch, key):
        """Nats [B] of -log p(x | z), given the outputs of the decoder."""
        noise = self._uniform(key, batch) if self.likelihood == "gaussian" else None
        nats = LIKELIHOODS[self.likelihood].log_prob(outputs, batch["image"], self.levels, noise)
        return -nats.sum((1, 2))

    def _uniform(self, key, batch):
        shape = (self.image_size, self.image_size, self.channels + 1)
        return nn.noise(jax.random.fold_in(key, 99), batch["example"], shape, "uniform")

    def bits(self, nats):
        """Nats of each image, [B], in bits per dimension."""
        return mean_of(nats / (self.dimensions * math.log(2)))

    @classmethod
    def ladder(cls, size, **overrides):
        """The VAE with about `size` non-embedding parameters, from 8e3 to 2e9.

        The rule: the decoder has 2 sqrt(width/32) blocks for tokens (at least 2) and 4 sqrt(width/32) for convolutions (at
        least 4, one per grid). Latents per cell, the grids and the ratio of the bottleneck stay the same. Widths are
        rounded to eighths of a power of two, the number of blocks to the nearest, and the nearest size is taken.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        rungs = _vae_sizes.rungs(cls, tuple(sorted(overrides.items())))
        return min(rungs, key=lambda f: abs(math.log(_vae_sizes.weights(f) / size)))

    @classmethod
    def sizes(cls):
        return tuple(1e4 * 10 ** (i / 2) for i in range(11))


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: network(family, jax.random.key(0))))
