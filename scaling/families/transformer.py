"""The decoder-only Transformer language model."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes
from scaling.families._decoder import Decoder, DecoderBlock, init_cache
from scaling.families._family import DTYPES, MOST_LAYERS, UNROLLED, Depth, Player, divisors, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._ladder import nearest_shape
from scaling.families._text import example_windows, likelihood_metrics, mean_loss, shifted
from scaling.fields import ConfigError, check_fields, convert_fields, fields, how, static
from scaling.nn import attention, readout, remat

SMALLEST, LARGEST = 4e3, 2e11  # parameters of the ladder


@dataclasses.dataclass(frozen=True)
class Transformer:
    """Sizes of a pre-norm decoder-only Transformer (Vaswani et al. 2017; Radford et al. 2019).

    Sizes left at None are derived from the width when the object is made. `dataclasses.replace(f, width=...)` keeps the
    derived sizes unless these fields are set to None again. Parameters, the softmax and the logits are float32, whatever
    the `dtype` of the rest.

    Initialisation: matrices are normal with std 1/sqrt(fan_in). The two that write to the residual stream have
    1/sqrt(2 layers) of that (GPT-2, Radford et al. 2019, section 2.3). With `base_layers` it is 1/sqrt(2 base_layers),
    and the branches that they end are multiplied by (base_layers / layers)^depth_exponent, so that a learning rate tuned
    at `base_layers` serves other depths (CompleteP, Dey et al. 2505.01618). The readout has std 1/width, as in muP (Yang
    et al. 2021, arXiv:2203.03466, table 3), which makes the first loss log(vocab). Embeddings have std 1 when untied.
    Tied ones have std 1/sqrt(width) and are multiplied by sqrt(width) on the way in (Vaswani et al., section 3.4) and by
    1/sqrt(width) on the way out (T5, Raffel et al. 2020). Otherwise each token would predict itself.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)
    length: int = static(256, least=1, most=2**20)
    width: int = static(64, least=1, most=2**20)
    layers: int = static(3, least=1, most=MOST_LAYERS)
    heads: int | None = static(None, least=1, most=2**16)
    kv_heads: int | None = static(None, least=1, most=2**16)  # None: as many as heads, which is multi-head attention
    head_dim: int | None = static(None, least=1, most=2**20)
    mlp: int | None = static(None, least=1, most=2**22)
    norm: str = static("rmsnorm", choices=("rmsnorm", "layernorm"))
    positions: str = static("rotary", choices=("rotary", "learned"))
    activation: str = static("swiglu", choices=("swiglu", "gelu"))
    qk_norm: bool = static(True)  # one learning rate serves more sizes, Wortsman et al. 2023
    tied: bool = static(False)
    biases: bool = static(False)
    logit_scale: float = static(1.0, above=0)
    base_layers: int = static(0, later=True, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, later=True, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)
    attention: str = how("auto", choices=attention.IMPLEMENTATIONS)  # which kernel
    cross_entropy: str = how("auto", choices=readout.WAYS)  # of whole logits, or of blocks of the vocabulary in turn
    scan: bool = how(True)  # layers in a compiled loop, or unrolled
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what the backward pass recomputes

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        derive, given = functools.partial(object.__setattr__, self), fields(self)
        if self.heads is None:
            derive("heads", max(1, self.width // self.head_dim) if self.head_dim else _heads(self.width))
        if self.kv_heads is None:
            derive("kv_heads", self.heads)
        if self.head_dim is None:
            derive("head_dim", self.width // self.heads)
        if self.mlp is None:
            derive("mlp", _mlp(self.width, self.activation))
        if self.head_dim < 1:
            raise ConfigError(f"family.heads={self.heads} are more than family.width={self.width}; write at most "
                              f"{self.width}, or family.head_dim= as well")
        if self.heads % self.kv_heads:
            raise ConfigError(f"family.kv_heads={self.kv_heads} must divide family.heads={self.heads}; write one of "
                              f"{divisors(self.heads)}")
        if self.positions == "rotary" and self.head_dim % 2:
            named = "head_dim" if given["head_dim"] or not given["heads"] else "heads"
            raise ConfigError(f"family.{named}={getattr(self, named)} with family.width={self.width} gives heads of "
                              f"{self.head_dim} dimensions, which must be even for rotary positions; write another number, "
                              "or family.positions=learned")

    def init(self, key):
        return {"model": nnx.state(_decoder(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def logits(self, params, tokens):
        """Tokens, integer [B, S] -> float32 logits [B, S, vocab] of the token that follows each one."""
        return self.module(params)(tokens)[0]

    def loss(self, params, batch, key):
        """Mean nats per token. The batch is {"tokens": integer [B, S+1]}; the key is unused."""
        del key
        network, (tokens, targets) = self.module(params), shifted(batch)
        return mean_loss(network.nats(network.hidden(tokens), targets))

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._text.likelihood_metrics`. The key is unused."""
        del key
        network, (tokens, targets) = self.module(params), shifted(batch)
        return likelihood_metrics(*network.scores(network.hidden(tokens), targets), batch)

    def example_batch(self, batch_size, key):
        return example_windows(batch_size, self.length, self.vocab, key)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    @property
    def longest(self):
        """The tokens of the longest text that the model can write; None for any length."""
        return self.length if self.positions == "learned" else None

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`).

        `tokens`, integer [B, S], holds prompts of `lengths`, int32 [B], padded on the right. The state has room for
        `capacity` tokens, prompts included. Cache entries of the padding come after every token that reads the cache,
        until real tokens overwrite them.
        """
        logits, cache = self.module(params)(tokens, init_cache(self, len(tokens), capacity))
        last = jnp.take_along_axis(logits, (lengths - 1)[:, None, None], axis=1)[:, 0]
        return last, cache | {"start": lengths}

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        logits, state = self.module(params)(token[:, None], state)
        return logits[:, 0], state

    def sample(self, params, batch, key, **options):
        """Windows of text, int32 [B, 1 + length]; see `scaling.families._generate.sample_windows`."""
        return sample_windows(self, params, batch, key, **options)

    @classmethod
    def ladder(cls, size, **overrides):
        """The Transformer with about `size` non-embedding parameters, from 5e3 to 1e11.

        The rule: layers = 3 (width/64)^(2/3), at least 2, and 12 layers width^2 parameters. It is close to shapes in
        common use (512x12, 1024x19, 4096x48, 8192x76) and agrees with two findings: loss hardly depends on width/layers
        over a wide range (Kaplan et al. 2020, arXiv:2001.08361, figure 5), and the best depth grows more slowly than
        width (Levine et al. 2020, arXiv:2006.12467). Heads have 32 to 128 dimensions and grow with width. Rungs are
        rounded widths, with the number of layers nearest to the rule, or within 10% of it: rungs that leave the rule bend
        a law. The result is the nearest rung: within 35% of `size` from 5e3, within 15% from 1e6. With `layers` given, all
        rungs have as many. Up to eight layers are unrolled, which is faster on CPU.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        width, layers = nearest_shape(size, _weights, _deep, overrides.get("layers"))
        return cls(**({"width": width, "layers": layers, "scan": layers > UNROLLED} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(15)) + (1e11,)


def _decoder(family, key):
    tables, blocks = jax.random.split(key)
    layers = axes.stack(functools.partial(DecoderBlock, family), jax.random.split(blocks, family.layers))
    return axes.drawn(functools.partial(Decoder, family, layers), tables)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _decoder(family, jax.random.key(0))))


def _heads(width):
    """The number of heads whose equal, even size is nearest to 32 dimensions (64 from width 256, 128 from 1024)."""
    wanted = 32 if width < 256 else 64 if width < 1024 else 128
    possible = [n for n in range(1, width + 1) if width % (2 * n) == 0]
    return min(possible, key=lambda n: abs(math.log(width / n / wanted)), default=1)


def _mlp(width, activation):
    """4 widths, or 8/3 for SwiGLU (Shazeer 2020: equal parameters), rounded down to a multiple of 8, or of 128 from width
    512."""
    hidden, unit = (4 * width if activation == "gelu" else 8 * width // 3), 8 if width < 512 else 128
    return max(unit, hidden // unit * unit)


def _deep(width):
    """The number of layers that goes with a width, before rounding."""
    return 3 * (width / 64) ** (2 / 3)


def _weights(width, layers):
    """The number of matrix entries of a default Transformer: 12 layers width^2 up to rounding."""
    return layers * width * (4 * width + 3 * _mlp(width, "swiglu"))
