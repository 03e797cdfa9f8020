"""Recurrent language models: LSTM, GRU, and the minimal ones that run as a parallel scan."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes
from scaling.families._family import DTYPES, MOST_LAYERS, UNROLLED, Depth, Player, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._ladder import nearest_shape
from scaling.families._recurrent import SCANS, STEPS, RecurrentBlock, RecurrentNetwork
from scaling.families._text import example_windows, likelihood_metrics, mean_loss, shifted
from scaling.fields import check_fields, convert_fields, how, static
from scaling.nn import readout, remat

SMALLEST, LARGEST = 2e3, 1e10  # parameters of the ladder


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """Sizes of a stack of pre-norm recurrent blocks, each of which writes to a residual stream through a linear map.

    The field `cell` is one of

    * "lstm": Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, whose bias begins at 1;
    * "gru": Cho et al. 2014, with the reset gate after the product, as in cuDNN and torch;
    * "mingru" and "minlstm": gates that do not read the state, so that all steps are one parallel scan (Feng et al. 2024,
      arXiv:2410.01201).

    States are as wide as the model, float32, and zero before the first token. `dropout` drops embeddings and what blocks
    write to the residual stream, but nothing that is recurrent (Zaremba et al. 2014, arXiv:1409.2329).

    Embedding, readout, initialisation and `base_layers` are those of `Transformer`. A block has one branch.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    width: int = static(64, least=1, most=2**20)  # of the residual stream and of the states
    layers: int = static(2, least=1, most=MOST_LAYERS)  # recurrent blocks
    cell: str = static("lstm", choices=(*STEPS, *SCANS))  # of the two last, all steps are one parallel scan
    norm: str = static("rmsnorm", choices=("rmsnorm", "layernorm"))  # of the input of every branch, and of the readout
    tied: bool = static(False)  # the table of embeddings is the readout as well
    dropout: float = static(0.0, least=0, below=1)  # share of embeddings and of what branches write that training drops
    logit_scale: float = static(1.0, above=0)  # what logits are multiplied by
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    cross_entropy: str = how("auto", choices=readout.WAYS)  # of whole logits, or of blocks of the vocabulary in turn
    scan: bool = how(True)  # layers in a compiled loop, or unrolled
    unroll: int = how(1, least=1, most=2**20)  # steps of an LSTM or GRU in one iteration of the compiled loop
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what the backward pass recomputes

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")

    def init(self, key):
        return {"model": nnx.state(_network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def logits(self, params, tokens):
        """Tokens, integer [B, S] -> float32 logits [B, S, vocab] of the token that follows each one."""
        network = self.module(params)
        return network.logits(network.hidden(tokens))

    def loss(self, params, batch, key):
        """Mean nats per token. The batch is {"tokens": integer [B, S+1]}; dropout also reads {"example": int32 [B]}, the
        numbers of the examples, and the key."""
        network, (tokens, targets) = self.module(params), shifted(batch)
        noise = (key, batch["example"]) if self.dropout else None
        return mean_loss(network.nats(network.hidden(tokens, noise), targets))

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

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`).

        `tokens`, integer [B, S], holds prompts of `lengths`, int32 [B], padded on the right. The state is as large for any
        `capacity`.
        """
        del capacity
        return self.module(params).after(tokens, lengths - 1)

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        return self.module(params).after(token[:, None], jnp.zeros_like(token), state)

    def sample(self, params, batch, key, **options):
        """Windows of text, int32 [B, 1 + length]; see `scaling.families._generate.sample_windows`."""
        return sample_windows(self, params, batch, key, **options)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model with about `size` non-embedding parameters, from 5e3 to 1e8 and beyond.

        The rule: layers = 2 (width/64)^(1/2), at least 2. A block of width w has 9 w^2 weights (LSTM), 7 w^2 (GRU), 3 w^2
        (minGRU) or 4 w^2 (minLSTM). Rungs are rounded widths, with the number of layers nearest to the rule, or within 10%
        of it. The result is the nearest rung: within 35% of `size` from 5e3, within 15% from 1e6. With `layers` given, all
        rungs have as many. Up to eight layers are unrolled, which is faster on CPU.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        weights = _weights(overrides.get("cell", "lstm"))
        width, layers = nearest_shape(size, weights, _deep, overrides.get("layers"))
        return cls(**({"width": width, "layers": layers, "scan": layers > UNROLLED} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9)) + (1e8,)


def _network(family, key):
    tables, blocks = jax.random.split(key)
    layers = axes.stack(functools.partial(RecurrentBlock, family), jax.random.split(blocks, family.layers))
    return axes.drawn(functools.partial(RecurrentNetwork, family, layers), tables)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _network(family, jax.random.key(0))))


def _deep(width):
    """The number of layers that goes with a width, before rounding."""
    return 2 * (width / 64) ** 0.5


@functools.cache
def _weights(cell):
    """The function from (width, layers) to the number of matrix entries of models with this cell."""
    each = 1 + (2 * STEPS[cell][1] if cell in STEPS else SCANS[cell][1])
    return lambda width, layers: each * layers * width**2
