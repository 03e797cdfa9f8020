"""The encoder-decoder Transformer, which writes a text given another one."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes
from scaling.families import _generate
from scaling.families._encoder import encoder_layers
from scaling.families._family import DTYPES, MOST_LAYERS, UNROLLED, Depth, Player, ladder_arguments
from scaling.families._ladder import nearest_shape
from scaling.families._pairs import example_pairs, pair_metrics, parts_of, smoothed_cross_entropy, written
from scaling.families._seq2seq import EncoderDecoder, TargetBlock
from scaling.families._text import mean_loss
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError, check_fields, convert_fields, how, static
from scaling.nn import attention, readout, remat

SMALLEST, LARGEST = 5e3, 2e11  # parameters of the ladder
DERIVED = ("heads", "kv_heads", "head_dim", "mlp")  # sizes that follow from the width as in a `Transformer`


@dataclasses.dataclass(frozen=True)
class Seq2Seq:
    """Sizes of an encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762), with norms before its branches.

    The encoder sees the whole source, and the decoder the target so far and, in every block, the encodings. Positions are
    rotary within each text (Su et al. 2021), and attention from the target to the source has none. Batches of pairs are
    as in `scaling.families._pairs`.

    Fields, initialisation and `base_layers` are those of `Transformer`, but a block of the decoder has three branches, and
    its matrices that write to the residual stream have 1/sqrt(3 layers) of the usual std. `layers` are those of the decoder
    and, unless `encoder_layers` says otherwise, of the encoder, in which every head has keys of its own. With `shared`, one
    table embeds sources and targets; with `tied`, the table of targets is the readout as well. `dropout`, of embeddings and
    of what branches write, and `label_smoothing` are those of training alone.
    """

    reads: ClassVar[str] = "pairs"
    positions: ClassVar[str] = "rotary"  # of attention within a text
    longest: ClassVar[None] = None  # targets of any length, given sources of any length

    vocab: int = static(256, least=2, most=2**24)  # tokens that there are; the data say it
    source_length: int = static(64, least=2, most=2**20)  # tokens of a source; the data say it
    length: int = static(64, least=2, most=2**20)  # tokens of a sequence; the data say it
    width: int = static(64, least=1, most=2**20)  # of the residual stream
    layers: int = static(2, least=1, most=MOST_LAYERS)  # blocks of the decoder
    encoder_layers: int | None = static(None, least=1, most=MOST_LAYERS)  # None: as many as `layers`
    heads: int | None = static(None, least=1, most=2**16)  # of attention; None: by the width
    kv_heads: int | None = static(None, least=1, most=2**16)  # None: as many as heads, which is multi-head attention
    head_dim: int | None = static(None, least=1, most=2**20)  # of queries, keys and values; None: width / heads
    mlp: int | None = static(None, least=1, most=2**22)  # hidden units; None: by the width
    norm: str = static("rmsnorm", choices=("rmsnorm", "layernorm"))  # of the input of every branch, and of the readout
    activation: str = static("swiglu", choices=("swiglu", "gelu"))  # of the MLP
    qk_norm: bool = static(True)  # queries and keys are normalised
    shared: bool = static(True)  # one table embeds sources and targets
    tied: bool = static(False)  # the table of targets is the readout as well
    biases: bool = static(False)  # of linear maps and norms
    dropout: float = static(0.0, least=0, below=1)  # share of embeddings and of what branches write that training drops
    label_smoothing: float = static(0.0, least=0, below=1)  # Vaswani et al., section 5.4, have 0.1
    logit_scale: float = static(1.0, above=0)  # what logits are multiplied by
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    attention: str = how("auto", choices=attention.IMPLEMENTATIONS)  # which kernel of causal attention
    cross_entropy: str = how("auto", choices=readout.WAYS)  # of whole logits, as smoothed labels need, or of blocks
    scan: bool = how(True)  # layers in a compiled loop, or unrolled
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what the backward pass recomputes

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        derive = functools.partial(object.__setattr__, self)
        given = {name: getattr(self, name) for name in ("width", "activation", *DERIVED)}
        sized = Transformer(**given, positions="learned")  # whose heads may have any number of dimensions
        for name in DERIVED:
            derive(name, getattr(sized, name))
        if self.head_dim % 2:
            named = "head_dim" if given["head_dim"] or not given["heads"] else "heads"
            raise ConfigError(f"family.{named}={getattr(self, named)} with family.width={self.width} gives heads of "
                              f"{self.head_dim} dimensions, which must be even for rotary positions; write another number")
        if self.encoder_layers is None:
            derive("encoder_layers", self.layers)
        if self.base_layers and self.encoder_layers != self.layers:
            raise ConfigError(f"family.base_layers={self.base_layers} scales encoders and decoders of one depth; write "
                              f"family.encoder_layers={self.layers} as family.layers has, or family.base_layers=0")

    def init(self, key):
        return {"model": nnx.state(_network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def logits(self, params, source, tokens):
        """Sources, integer [B, S], and targets so far, integer [B, T] that begin with 0 -> float32 logits [B, T, vocab] of
        the token that follows each one."""
        network = self.module(params)
        return network.logits(network.hidden(source, tokens))

    def loss(self, params, batch, key):
        """The nats of all tokens of targets, their ends included, over B * T, the number of places.

        Padding adds nothing. The number of places, unlike that of tokens, is known without the other microbatches and
        devices, so the loss of a batch is the mean of those of its parts, and every token counts alike. `evaluate` gives
        nats per token. Dropout also reads {"example": int32 [B]}, the numbers of the examples, and the key.
        """
        network, (source, tokens, targets) = self.module(params), parts_of(batch)
        x = network.hidden(source, tokens, (key, batch["example"]) if self.dropout else None)
        nats = (smoothed_cross_entropy(network.logits(x), targets, self.label_smoothing) if self.label_smoothing else
                network.nats(x, targets))
        return mean_loss(jnp.where(written(targets), nats, 0.0))

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._pairs.pair_metrics`, without dropout and smoothing. The key is unused."""
        del key
        network, (source, tokens, targets) = self.module(params), parts_of(batch)
        return pair_metrics(*network.scores(network.hidden(source, tokens), targets), batch)

    def example_batch(self, batch_size, key):
        return example_pairs(batch_size, self.source_length, self.length, self.vocab, key)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    @property
    def of_encoder(self):
        """A family whose `layers` are those of the encoder."""
        return self if self.encoder_layers == self.layers else dataclasses.replace(self, layers=self.encoder_layers)

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the first token of each target, the state for `decode`).

        The prompts are sources: `tokens`, integer [B, S], of `lengths`, int32 [B], with their ends or without, padded on
        the right. The state has room for `capacity` - S tokens after the 0 that begins a target.
        """
        size = tokens.shape[1]
        source = jnp.where(jnp.arange(size)[None] < lengths[:, None], tokens, 0)
        state = self.module(params).begin(jnp.pad(source, ((0, 0), (0, 1))), capacity - size + 1)
        return self.decode(params, state, jnp.zeros(len(tokens), jnp.int32))

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        logits, state = self.module(params).decode(token[:, None], state)
        return logits[:, 0], state

    def sample(self, params, batch, key):
        """The target of each source of the batch by the likeliest token each time: int32 [B, T], zeros from its end on.
        The key changes nothing."""
        source = batch["source"].astype(jnp.int32)
        lengths = jnp.full(len(source), source.shape[1])
        found = _generate.continued(self, params, source, lengths, key, jnp.float32(0), jnp.float32(1),
                                    max_tokens=self.length, stop=(0,), greedy=True)
        return jnp.where(written(found), found, 0)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model with about `size` non-embedding parameters, from 7e3 to 1e11.

        The rule: layers = 1.5 (width/64)^(2/3) in the encoder and as many in the decoder, at least 1, and 28 layers width^2
        parameters. That is half of the depth of a `Transformer` of the same width, and the base model of Vaswani et al.
        (512 x 6). Rungs are rounded widths, with the number of layers nearest to the rule, or within 10% of it. The result
        is the nearest rung: within 35% of `size` from 7e3, within 15% from 1e6. With `layers` given, all rungs have as
        many. Up to eight layers are unrolled, which is faster on CPU.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        weights = _weights(overrides.get("encoder_layers"))
        width, layers = nearest_shape(size, weights, _deep, overrides.get("layers"), least=1)
        return cls(**({"width": width, "layers": layers, "scan": layers > UNROLLED} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(7e3 * 10 ** (i / 2) for i in range(15)) + (1e11,)


def _network(family, key):
    tables, encoder, decoder = jax.random.split(key, 3)
    layers = axes.stack(functools.partial(TargetBlock, family), jax.random.split(decoder, family.layers))
    return axes.drawn(functools.partial(EncoderDecoder, family, encoder_layers(family.of_encoder, encoder), layers), tables)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _network(family, jax.random.key(0))))


def _deep(width):
    """The number of layers of each stack that goes with a width, before rounding."""
    return 1.5 * (width / 64) ** (2 / 3)


@functools.cache
def _weights(encoder_layers):
    """The function from (width, layers) to the number of matrix entries, with so many layers of the encoder, or as many."""
    def weights(width, layers):
        mlp = 3 * _hidden(width)
        return width * ((encoder_layers or layers) * (4 * width + mlp) + layers * (8 * width + mlp))
    return weights


@functools.cache
def _hidden(width):
    """The hidden units of the MLPs of a default Transformer."""
    return Transformer(width=width).mlp
