"""The bidirectional encoder that is pretrained on masked tokens and then tells the class of a text."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes, nn
from scaling.families._classes import class_numbers, conclude_classes
from scaling.families._encoder import encoder_layers
from scaling.families._family import DTYPES, MOST_LAYERS, Depth, Player, ladder_arguments
from scaling.families._masked import MaskedNetwork, bert_words, chosen_places
from scaling.families._sums import mean_of, ratio_of
from scaling.families._text import example_windows, mean_loss
from scaling.families.transformer import Transformer
from scaling.fields import check_fields, convert_fields, how, static
from scaling.nn import readout, remat

SMALLEST, LARGEST = 4e3, 1e10  # parameters of the ladder
EVALUATED = 0.15  # the share of tokens that are masked in an evaluation, whatever share is masked in training
EXAMINED = 2  # examples of each batch of which every token is masked alone
DERIVED = ("heads", "head_dim", "mlp")  # sizes that follow from the width, as in `Transformer`
DERIVING = ("width", "positions", "activation", "rope_base")


@dataclasses.dataclass(frozen=True)
class Masked:
    """Sizes of a pre-norm bidirectional Transformer encoder (BERT, Devlin et al. 2018, arXiv:1810.04805).

    On text it learns to tell tokens that are hidden from it. Of each sequence the share `mask` is chosen, always the same
    number. With `replace="bert"` eight in ten of these are hidden, one is replaced by a random token and one stays; with
    "all" all are hidden (Wettig et al. 2022, arXiv:2202.08005, find both about as good, and shares up to 0.4 better for
    larger models). What stands for a hidden token is a learned vector.

    On texts with a label (`classes` above 0, which the data say) it tells the class: a linear map of the first position
    (`pooling="first"`) or of the mean over the text ("mean"), without the padding. Its parameters are those of the encoder
    that was pretrained, but for "model/head" in place of "model/mask" and "model/readout". A run therefore begins with a
    pretrained one by `Start(base, {"model/layers": "model/layers", "model/embed": "model/embed", "model/norm":
    "model/norm"})`, and `optim.trainable=head` makes it a linear probe.

    Fields, derived sizes and initialisation are otherwise those of `Transformer`. The head has std 1/width, as the readout.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "labelled")

    vocab: int = static(256, least=1, most=2**23)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    classes: int = static(0, least=0, most=2**20)  # of labels; 0: tokens are masked
    width: int = static(64, least=1, most=2**20)  # of the residual stream
    layers: int = static(3, least=1, most=MOST_LAYERS)  # blocks of attention and MLP
    heads: int | None = static(None, least=1, most=2**16)  # of attention; None: by the width
    head_dim: int | None = static(None, least=1, most=2**20)  # of queries, keys and values; None: width / heads
    mlp: int | None = static(None, least=1, most=2**22)  # hidden units; None: by the width
    mask: float = static(0.15, above=0, below=1, meaning="the share of tokens that are masked in training")
    replace: str = static("bert", choices=("bert", "all"))  # "bert": 80% hidden, 10% random, 10% kept; "all": all hidden
    pooling: str = static("mean", choices=("mean", "first"))  # of a text: over all positions, or the first one
    dropout: float = static(0.0, least=0, below=1)  # of embeddings and of what every branch writes
    norm: str = static("rmsnorm", choices=("rmsnorm", "layernorm"))  # of the input of every branch, and of the readout
    positions: str = static("rotary", choices=("rotary", "learned"))  # rotated queries and keys, or a table of vectors
    activation: str = static("swiglu", choices=("swiglu", "gelu"))  # of the MLP
    qk_norm: bool = static(True)  # queries and keys are normalised
    tied: bool = static(False)  # the table of embeddings is the readout as well
    biases: bool = static(False)  # of linear maps and norms
    logit_scale: float = static(1.0, above=0)  # what logits are multiplied by
    base_layers: int = static(0, least=0, most=MOST_LAYERS, meaning="the layers at which rates were tuned")
    depth_exponent: float = static(1.0, above=0, most=1)  # with base_layers: 1 is CompleteP, 1/2 depth-muP
    norm_epsilon: float = static(1e-6, later=True, above=0, below=1)  # what norms add to the mean square
    rope_base: float = static(10_000.0, later=True, above=1, most=1e12)  # of the wavelengths of rotary positions
    dtype: str = static("float32", choices=DTYPES)  # of activations and products; parameters, logits and losses are float32
    cross_entropy: str = how("auto", choices=readout.WAYS)  # of whole logits, or of blocks of the vocabulary in turn
    scan: bool = how(True)  # layers in a compiled loop, or unrolled
    remat: str = how("none", also=remat.BOOLS, choices=remat.NAMES)  # what the backward pass recomputes

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        given = {name: getattr(self, name) for name in (*DERIVED, *DERIVING)}
        for name in DERIVED:
            object.__setattr__(self, name, getattr(Transformer(**given), name))

    def init(self, key):
        return {"model": nnx.state(_network(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return Depth(self.layers / (self.base_layers or self.layers), self.depth_exponent)

    def loss(self, params, batch, key):
        """Mean nats of the masked tokens of {"tokens": integer [B, S+1]}, of which the first is left out, or of the labels
        of {"text": integer [B, S], "label": integer [B]}. The batch also has {"example": int32 [B]}."""
        network, examples = self.module(params), batch["example"]
        places_key, words_key, dropout_key = jax.random.split(key, 3)
        noise = (dropout_key, examples)
        if self.classes:
            return mean_loss(nn.cross_entropy(network.class_logits(batch["text"], noise), batch["label"]))
        tokens = _tokens(batch)
        places = chosen_places(places_key, examples, tokens.shape[1], self.mask)
        targets = jnp.take_along_axis(tokens, places, 1)
        seen = bert_words(words_key, examples, targets, self.vocab) if self.replace == "bert" else ()
        return mean_loss(network.nats(network.read_at(tokens, places, *seen, noise=noise), targets))

    def evaluate(self, params, batch, key):
        """On text "loss" (nats per masked token), "accuracy" (of masked tokens) and "bits_per_byte".

        All masked tokens are hidden, whatever `replace` says, and they are the share `EVALUATED`, whatever `mask` says, at
        places that follow from the key and the number of the example. So runs of all kinds of masking are evaluated on the
        same tokens. "bits_per_byte" is the bits of the masked tokens over the bytes of these. It estimates a
        pseudo-likelihood and no likelihood: the sum over tokens of -log p(token | all others) (Salazar et al. 2019,
        arXiv:1910.14659, equation 2), except that the other masked tokens are hidden too, which makes it larger. It must
        not be compared with the bits per byte of models that predict the next token. `examine` has the exact one.

        On texts with a label: "loss" (nats), "accuracy" and, by `conclude`, "macro_f1" and "calibration_error".
        """
        network = self.module(params)
        if self.classes:
            return class_numbers(network.class_logits(batch["text"]), batch["label"].astype(jnp.int32))
        tokens = _tokens(batch)
        places = chosen_places(key, batch["example"], tokens.shape[1], EVALUATED)
        targets = jnp.take_along_axis(tokens, places, 1)
        nats, likeliest = network.scores(network.read_at(tokens, places), targets)
        found = {"loss": mean_of(nats.mean(-1)), "accuracy": mean_of((likeliest == targets).mean(-1))}
        if "bytes" in batch:
            size = jnp.take_along_axis(batch["bytes"], places, 1).sum(-1)
            found["bits_per_byte"] = ratio_of(nats.sum(-1) / math.log(2), size)
        return found

    def class_logits(self, params, batch):
        """float32 logits [B, classes] of texts with a label, {"text": integer [B, S]}."""
        return self.module(params).class_logits(batch["text"])

    def conclude(self, found):
        """The metrics of `scaling.families._classes.conclude_classes`, on texts with a label."""
        return conclude_classes(found) if "_label" in found else {}

    def examine(self, params, batch, key):
        """The exact pseudo-likelihood of the first `EXAMINED` examples of a batch of text, every token hidden alone in turn
        (Salazar et al. 2019, arXiv:1910.14659, equation 2): "pseudo_loss", in nats per token, whose exponential is the
        pseudo-perplexity, and "pseudo_bits_per_byte". It costs a forward pass for each token. The key is unused."""
        del key
        if self.classes:
            return {}
        network, tokens = self.module(params), _tokens(batch)[:EXAMINED]

        def alone(place):
            places = jnp.full((len(tokens), 1), place)
            return network.nats(network.read_at(tokens, places), jnp.take_along_axis(tokens, places, 1))[:, 0]

        nats = lax.map(alone, jnp.arange(tokens.shape[1])).T
        found = {"pseudo_loss": mean_of(nats.mean(-1))}
        if "bytes" in batch:
            found["pseudo_bits_per_byte"] = ratio_of(nats.sum(-1) / math.log(2), batch["bytes"][:EXAMINED].sum(-1))
        return found

    def example_batch(self, batch_size, key):
        if not self.classes:
            return example_windows(batch_size, self.length, self.vocab, key)
        words, lengths, labels = jax.random.split(key, 3)
        text = jax.random.randint(words, (batch_size, self.length), 1, max(2, self.vocab))
        ends = jax.random.randint(lengths, (batch_size, 1), 0, self.length)
        return {"text": jnp.where(jnp.arange(self.length)[None] < ends, text, 0),
                "label": jax.random.randint(labels, (batch_size,), 0, self.classes)}

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    @classmethod
    def ladder(cls, size, **overrides):
        """The encoder with about `size` non-embedding parameters, of the width and number of layers that a `Transformer` of
        this size has."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        shape = Transformer.ladder(size, **{name: overrides[name] for name in ("layers",) if name in overrides})
        return cls(**({name: getattr(shape, name) for name in ("width", "layers", "scan")} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(12))


def _tokens(batch):
    """int32 [B, S] of {"tokens": integer [B, S+1]}: the tokens whose bytes the batch knows."""
    return batch["tokens"][:, 1:].astype(jnp.int32)


def _network(family, key):
    tables, blocks = jax.random.split(key)
    layers = encoder_layers(family, blocks, family.norm_epsilon, nn.Rotary(family.rope_base))
    return axes.drawn(functools.partial(MaskedNetwork, family, layers), tables)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: _network(family, jax.random.key(0))))
