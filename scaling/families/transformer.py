"""The decoder-only Transformer language model."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes
from scaling.families._decoder import Decoder, DecoderBlock, check_experts, check_rotary, document_starts, init_cache
from scaling.families._family import DTYPES, MOST_LAYERS, UNROLLED, Depth, Player, divisors, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._ladder import nearest_shape
from scaling.families._text import example_windows, likelihood_metrics, mean_loss, shifted, with_penalties
from scaling.fields import ConfigError, check_fields, convert_fields, fields, how, static
from scaling.nn import ACTIVATIONS, attention, readout, remat

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

    `dropout` drops embeddings and what each branch writes to the residual stream, in training alone (Vaswani et al.,
    section 5.4). `z_loss` times the mean square of log Z, the logarithm of the sum of exponentials of the logits, is added
    to what training minimises, but not to the metric "loss" (PaLM, Chowdhery et al. 2204.02311, section 5). With
    `logit_cap`, logits are cap tanh(logits / cap) (Gemma 2, 2408.00118, section 2).

    With `window`, each layer sees the last `window` tokens, the token itself included (Longformer, Beltagy et al.
    2004.05150, section 3.1). With `document_masking`, tokens see their own document alone, and positions begin anew in each
    (Llama 3, 2407.21783, section 3.2). Token 0 ends a document.

    With `parallel`, attention and MLP of a layer read the same activations (Wang & Komatsuzaki 2021, GPT-J; PaLM, section
    2). `rope_share` and `rope_scaling` are those of `scaling.nn.rotary`.

    With `experts`, the MLP of every layer is as many MLPs, of which each token uses `top_k`; see `scaling.nn.experts`. To
    what training minimises, every layer adds `expert_balance` times its loss of balance and `router_z_loss` times its
    router z-loss. Training shows their means over layers as the metrics "balance", 1 at best, and "router_z", and the share
    of the busiest expert times the number of experts as "busiest".
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    width: int = static(64, least=1, most=2**20)  # of the residual stream
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of attention and MLP
    heads: int | None = static(None, least=1, most=2**16)  # of attention; None: by the width
    kv_heads: int | None = static(None, least=1, most=2**16)  # None: as many as heads, which is multi-head attention
    head_dim: int | None = static(None, least=1, most=2**20)  # of queries, keys and values; None: width / heads
    mlp: int | None = static(None, least=1, most=2**22)  # hidden units, of one expert where there are experts
    norm: str = static("rmsnorm", choices=("rmsnorm", "layernorm"))  # of the input of every branch, and of the readout
    positions: str = static("rotary", choices=("rotary", "learned"))  # rotated queries and keys, or a table of vectors
    activation: str = static("swiglu", choices=ACTIVATIONS)  # of the MLP
    qk_norm: bool = static(True)  # one learning rate serves more sizes, Wortsman et al. 2023
    tied: bool = static(False)  # the table of embeddings is the readout as well
    biases: bool = static(False)  # of linear maps and norms
    logit_scale: float = static(1.0, above=0)  # what logits are multiplied by
    base_layers: int = static(0, later=True, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, later=True, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dropout: float = static(0.0, later=True, least=0, below=1)  # of embeddings and of what every branch writes
    z_loss: float = static(0.0, later=True, least=0, most=1e6, meaning="the coefficient of the mean square of log Z")
    logit_cap: float = static(0.0, later=True, least=0, most=1e6, meaning="what logits stay below, or 0")
    window: int = static(0, later=True, least=0, most=2**20, meaning="the tokens that a token sees, or 0 for all")
    document_masking: bool = static(False, later=True)  # tokens see their own document alone
    experts: int = static(0, later=True, least=0, most=2**14, meaning="the MLPs that share a layer's tokens, or 0")
    top_k: int = static(2, later=True, least=1, most=2**10, meaning="the experts of a token")
    expert_balance: float = static(0.01, later=True, least=0, most=1e6, meaning="the coefficient of the loss of balance")
    router_z_loss: float = static(0.0, later=True, least=0, most=1e6)  # 1e-3 in ST-MoE
    norm_epsilon: float = static(1e-6, later=True, above=0, below=1)  # what norms add to the mean square
    rope_base: float = static(10_000.0, later=True, above=1, most=1e12)  # of the wavelengths of rotary positions
    rope_share: float = static(1.0, later=True, above=0, most=1)  # of each head, its first part, that is rotated
    rope_scaling: str = static("", later=True, meaning="of wavelengths, such as linear:4 or llama3:8,1,4,8192")
    parallel: bool = static(False, later=True)  # attention and MLP of a layer read the same
    attention_biases: str = static("none", later=True, choices=("none", "qkv", "all"))  # where there are no other biases
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
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
        if not attention.narrows(self.attention, self.window, self.document_masking):
            narrow = "document_masking=True" if self.document_masking else f"window={self.window}"
            raise ConfigError(f"family.attention={self.attention!r} does not serve family.{narrow}; write "
                              "family.attention=auto")

        if self.biases and self.attention_biases != "none":
            raise ConfigError(f"family.attention_biases={self.attention_biases} changes nothing with family.biases=True; "
                              "leave one of them out")
        check_experts(self)
        check_rotary(self)

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
        """Mean nats per token. The batch is {"tokens": integer [B, S+1]}; dropout also reads {"example": int32 [B]}, the
        numbers of the examples, and the key."""
        network, (tokens, targets) = self.module(params), shifted(batch)
        noise = (key, batch["example"]) if self.dropout else None
        x, routing = network.hidden_and_routing(tokens, noise)
        nats, log_sums = network.nats_and_log_sums(x, targets)
        penalties = {"z_loss": (self.z_loss, jnp.square(log_sums).mean())} if self.z_loss else {}
        of_layer = {"balance": self.expert_balance, "router_z": self.router_z_loss}
        penalties |= {name: (self.layers * of_layer.get(name, 0), x.mean()) for name, x in (routing or {}).items()}
        return with_penalties(*mean_loss(nats), penalties)

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._text.likelihood_metrics`, without dropout. The key is unused."""
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
        logits, cache = self.module(params)(tokens, init_cache(self, len(tokens), capacity, self.document_masking))
        last = jnp.take_along_axis(logits, (lengths - 1)[:, None, None], axis=1)[:, 0]
        cache |= {"start": lengths}
        if self.document_masking:
            begins = document_starts(tokens, jnp.arange(tokens.shape[1])[None])
            cache |= {"document": jnp.take_along_axis(begins, lengths[:, None], axis=1)[:, 0]}
        return last, cache

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
        rungs have as many. Up to eight layers are unrolled, which is faster on CPU. With `experts`, `size` is the number of
        parameters of the model with one of them.
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
    hidden, unit = (8 * width // 3 if activation == "swiglu" else 4 * width), 8 if width < 512 else 128
    return max(unit, hidden // unit * unit)


def _deep(width):
    """The number of layers that goes with a width, before rounding."""
    return 3 * (width / 64) ** (2 / 3)


def _weights(width, layers):
    """The number of matrix entries of a default Transformer: 12 layers width^2 up to rounding."""
    return layers * width * (4 * width + 3 * _mlp(width, "swiglu"))
