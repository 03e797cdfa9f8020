"""The tokenizer of images: an autoencoder whose code is a few numbers of a small set, by finite scalar quantisation."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families import _fsq_codes
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, divisors, ladder_arguments
from scaling.families._fsq_network import autoencoder, autoencoder_weights
from scaling.families._ladder import nearest_shape
from scaling.families._pictures import random_images
from scaling.families._sums import excess_of, mean_of
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.fields import ConfigError, check_fields, convert_fields, static

SMALLEST, LARGEST = 4e3, 2e9  # parameters of the ladder
NARROWEST = 8  # width of the ladder
QUANTISERS = ("fsq", "vq")
COLUMNS = 8  # of the picture of reconstructions


@dataclasses.dataclass(frozen=True)
class FSQ:
    """Sizes of an autoencoder with discrete codes, after Mentzer et al. 2309.15505 (finite scalar quantisation).

    The encoder reads an image as patches, through blocks of attention and MLP, and writes a vector of a few channels for
    each. A quantiser makes a code of the vector, a whole number, and the decoder mirrors the encoder: it reads the values
    of the codes, and predicts the pixels. It knows no label or caption, so that one tokenizer serves all models of its
    images.

    Quantisers: "fsq" rounds tanh of each channel to one of its `code_levels`, and nothing of it is learned. "vq" takes the
    nearest vector of a codebook (van den Oord et al. 1711.00937) of as many codes, or `codebook`. The codebook begins as
    k-means on the first batches, follows the means of what it quantises, and codes that are hardly used are restarted
    (`_fsq_codes.moved_codebook`). Gradients go straight through both quantisers.

    Training minimises the distortion, the nats of the pixels given the codes, and for "vq" `commitment` times the squared
    distance of vectors to their codes. The codes cost log2(codes) bits a token whatever they are. Both add up to a bound on
    the bits of an image, which compares with that of a VAE.

    Matrices start normal with std 1/sqrt(fan_in); those that write to the residual stream have 1/sqrt(2 layers) of that, or
    1/sqrt(2 base_layers). With `base_layers`, branches are multiplied by (base_layers / layers)^depth_exponent (CompleteP,
    Dey et al. 2505.01618). The readout has std 1/width, and the map to the vectors starts at zero.
    """

    reads: ClassVar[str] = "images"
    body: ClassVar[str] = "tokens"  # as the VAE calls it, whose readout this is

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    width: int = static(64, least=1, most=2**16)  # of the residual stream
    layers: int = static(2, least=1, most=MOST_LAYERS)  # blocks of the encoder, and as many of the decoder
    patch: int = static(0, least=0, most=4096)  # pixels of a side of what a token stands for; 0: 4, or 8 from 64 pixels on
    quantiser: str = static("fsq", choices=QUANTISERS)  # numbers that are rounded, or the nearest vector of a codebook
    code_levels: str = static("8,5,5,5")  # levels of each channel of a code; their product is the number of codes
    codebook: int = static(0, least=0, most=_fsq_codes.MOST_CODES)  # of "vq": its vectors; 0: as many as fsq has codes
    code_width: int = static(8, least=1, most=2**16)  # of "vq": channels of a vector
    commitment: float = static(0.25, least=0, most=1e6)  # of "vq": weight of the distance of vectors to their codes
    likelihood: str = static("logistic", choices=("logistic", "bernoulli"))  # of the pixels, given the codes
    components: int = static(3, least=1, most=4096)  # of the mixture of logistics, at most as many as levels
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, codes and losses are float32

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        _fsq_codes.parse_levels(self.code_levels)
        if self.quantiser == "fsq" and self.codebook:
            raise ConfigError(f"family.codebook={self.codebook} changes nothing with family.quantiser=fsq, whose codes are "
                              "those of family.code_levels; write family.quantiser=vq, or leave it out")
        if self.likelihood == "bernoulli" and self.levels != 2:
            raise ConfigError(f"family.likelihood='bernoulli' takes 2 levels, not family.levels={self.levels}; write "
                              "data.levels=2, or family.likelihood=logistic")
        if self.image_size % self.cell:
            raise ConfigError(f"family.patch={self.cell} must divide the {self.image_size} pixels of data.size; write one "
                              f"of {divisors(self.image_size)}")

    # ---- the protocol of families

    def init(self, key):
        params = {"model": nnx.state(autoencoder(self, key))}
        return params if self.quantiser == "fsq" else params | {
            "codebook": _fsq_codes.new_codebook(self.codes, self.code_channels)}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def loss(self, params, batch, key):
        """Mean nats per dimension of the pixels given the codes, and the commitment of "vq". The batch is {"image": uint8
        [B, H, W, C]}. The key is unused."""
        del key
        module = self.module(params)
        vectors = module.encode(batch["image"])
        _, values = self.quantised(params, vectors)
        nats = self.distortion(module.decode(values), batch).mean() / self.dimensions
        metrics = {"bits_per_dim": nats / math.log(2) + self.rate, "distortion": nats / math.log(2)}
        if self.quantiser == "fsq":
            return nats, metrics
        apart = jnp.square(vectors - jax.lax.stop_gradient(values)).sum(-1).mean()
        return nats + self.commitment * apart, metrics | {"commitment": apart}

    def settle(self, params, batch, key):
        """{"codebook": the codebook of "vq" after a step on the batch}; {} for "fsq"."""
        if self.quantiser == "fsq":
            return {}
        vectors = self.module(params).encode(batch["image"]).reshape(-1, self.code_channels)
        return {"codebook": _fsq_codes.moved_codebook(params["codebook"], vectors, batch["step"][0], key)}

    def evaluate(self, params, batch, key):
        """For each image, "bits_per_dim", its parts "rate" (of codes that are all as likely) and "distortion" in bits per
        dimension, "loss" (the distortion in nats per dimension), and "mse", the mean squared error of the expected pixels,
        between 0 and 1. Of all images together, "codes_used", "code_entropy" and "code_perplexity" (`_fsq_codes`). Given
        {"nats": float [B]}, what the true distribution gives each image, also "excess", as for the VAE."""
        del key
        module = self.module(params)
        codes, values = self.quantised(params, module.encode(batch["image"]))
        outputs = module.decode(values)
        nats = self.distortion(outputs, batch)
        rate = jnp.full_like(nats, self.rate * self.dimensions * math.log(2))
        apart = nn.levels_to_signed(batch["image"], self.levels) - self.mean(outputs)
        return {"bits_per_dim": self.bits(nats + rate), "rate": self.bits(rate), "distortion": self.bits(nats),
                "loss": mean_of(nats / self.dimensions), "mse": mean_of(jnp.square(apart / 2).mean((1, 2, 3))),
                "_codes": codes, **excess_of(nats + rate, batch, jnp.full_like(nats, self.dimensions))}

    def conclude(self, found):
        return _fsq_codes.conclude_usage(found["_codes"], self.codes)

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    def pictures(self, params, batch, key):
        """{"reconstructions": uint8 [4, 8, H, W, C]}: eight images, what their codes show, and eight more with theirs."""
        del key
        rows = [batch["image"][:COLUMNS], batch["image"][COLUMNS:2 * COLUMNS]]
        rows = [row for row in rows if len(row) == len(rows[0])]
        shown = [each for row in rows for each in (row, self.decode_codes(params, self.encode_images(params, row)))]
        return {"reconstructions": jnp.stack(shown)}

    # ---- images and codes

    def encode_images(self, params, images):
        """Images uint8 [B, H, W, C] -> codes int32 [B, tokens], row by row, each below `codes`."""
        return self.quantised(params, self.module(params).encode(images))[0]

    def codes_and_nats(self, params, batch):
        """(codes int32 [B, tokens], nats float32 [B] of the pixels given the codes) of the images of a batch."""
        module = self.module(params)
        codes, values = self.quantised(params, module.encode(batch["image"]))
        return codes, self.distortion(module.decode(values), batch)

    def decode_codes(self, params, codes):
        """Codes, integer [B, tokens] -> images uint8 [B, H, W, C], the means of the pixels."""
        if self.quantiser == "fsq":
            values = _fsq_codes.scalar_values(codes, _fsq_codes.parse_levels(self.code_levels))
        else:
            values = params["codebook"]["vectors"][...][codes]
        return nn.signed_to_levels(self.mean(self.module(params).decode(values)), self.levels)

    def quantised(self, params, vectors):
        """(codes int32 [B, tokens], values float32 [B, tokens, channels]) of vectors of the encoder, of the shape of the
        values. The gradient by values goes straight through to the vectors."""
        if self.quantiser == "fsq":
            return _fsq_codes.scalar_quantised(vectors, _fsq_codes.parse_levels(self.code_levels))
        return _fsq_codes.vector_quantised(vectors, params["codebook"])

    def distortion(self, outputs, batch):
        """Nats [B] of the pixels, given the outputs of the decoder."""
        return -LIKELIHOODS[self.likelihood].log_prob(outputs, batch["image"], self.levels, None).sum((1, 2))

    def mean(self, outputs):
        """The expected pixels, float32 [B, H, W, C] from -1 to 1."""
        return LIKELIHOODS[self.likelihood].mean(outputs, self.channels)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    def bits(self, nats):
        """Nats of each image, [B], in bits per dimension."""
        return mean_of(nats / (self.dimensions * math.log(2)))

    # ---- sizes

    @property
    def cell(self) -> int:
        """Pixels per side of what a token stands for."""
        return self.patch or min(self.image_size, 8 if self.image_size >= 64 else 4)

    @property
    def tokens(self) -> int:
        return (self.image_size // self.cell) ** 2

    @property
    def codes(self) -> int:
        """The number of codes that a token can have."""
        return self.codebook or math.prod(_fsq_codes.parse_levels(self.code_levels))

    @property
    def code_channels(self) -> int:
        return len(_fsq_codes.parse_levels(self.code_levels)) if self.quantiser == "fsq" else self.code_width

    @property
    def rate(self) -> float:
        """Bits per dimension of codes that are all as likely."""
        return self.tokens * math.log2(self.codes) / self.dimensions

    @property
    def dimensions(self) -> int:
        """Pixels times channels, the dimensions of bits per dimension."""
        return self.image_size**2 * self.channels

    @property
    def mixture(self) -> int:
        """Components of the mixture of logistics."""
        return min(self.levels, self.components)

    @classmethod
    def ladder(cls, size, **overrides):
        """The tokenizer with about `size` parameters beside tables, within 25% from 5e3 to 1e8: encoder and decoder have
        1.5 (width / 64)^(2/3) layers each, rounded; at least two. With `layers` given, all rungs have as many."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        given = cls(**overrides)
        outputs = LIKELIHOODS[given.likelihood].outputs(given) * given.cell**2
        count = autoencoder_weights(given.channels * given.cell**2, outputs, given.code_channels)
        width, layers = nearest_shape(size, count, _deep, overrides.get("layers"), start=NARROWEST)
        return cls(**({"width": width, "layers": layers} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9)) + (1e8,)


def _deep(width):
    return 1.5 * (width / 64) ** (2 / 3)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: autoencoder(family, jax.random.key(0))))
