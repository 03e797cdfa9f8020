"""Models of sequences over the codes of images, which a finished tokenizer makes: a second stage, as that of VQ-VAE."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from scaling.families._discovery import find
from scaling.families._family import Depth, Player, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._pictures import random_images
from scaling.families._sums import excess_of, mean_of
from scaling.families._tokenized import Tokenized
from scaling.families.fsq import FSQ
from scaling.families.transformer import LARGEST, SMALLEST, Transformer
from scaling.fields import check_fields, convert_fields, static

PRIORS = ("transformer", "recurrent", "hmm")
ROWS, COLUMNS = 4, 8  # of pictures


@dataclasses.dataclass(frozen=True)
class Coded(Tokenized):
    """A tokenizer of images and a `model` of its codes (van den Oord et al. 1711.00937, section 3.3; Mentzer et al.
    2309.15505, section 4).

    The tokenizer is part of the state, but no player moves it and N leaves it out. Runs take it from a run that is trained
    first, once for all that stand on it:

        base = experiment.from_config(experiment.config("fsq"))
        family = families.find("coded").ladder(1e5, tokenizer=base.family, prior="recurrent")
        run = experiment.Experiment(family=family, data=base.data, start=Start(base, family.takes))

    Without `start` the tokenizer keeps its first parameters, whose codes say nothing. The images of a batch become codes in
    the step itself, and its FLOPs, C, have the encoder's forward pass. The model reads one token before the codes, which is
    the label where there is one, and predicts the codes in raster order. Bits of the codes and of the pixels given the
    codes add up to a bound on the bits of an image. Samples are images that the tokenizer draws from codes that the model
    writes, so that a judge compares them with those of any other family of images.

    `model` is a member of the family `prior`, whose vocabulary and length follow from the tokenizer, as the tokenizer's
    size of images follows from the data.
    """

    reads: ClassVar[str] = "images"
    caption: ClassVar[int] = 0

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    classes: int = static(0, least=0, most=2**20)  # of batch["label"]; 0: no label
    prior: str = static("transformer", choices=PRIORS)  # the family of the model
    tokenizer: Any = static(FSQ())  # a member of the family fsq
    model: Any = static(Transformer())  # a member of the family `prior`

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        object.__setattr__(self, "tokenizer", self._seeing())
        model = self._member("model", find(self.prior))
        read = {"vocab": self.tokenizer.codes + max(1, self.classes), "length": self.tokenizer.tokens}
        object.__setattr__(self, "model", dataclasses.replace(model, **read))

    # ---- the protocol of families

    def init(self, key):
        own, others = jax.random.split(key)
        return {**self.model.init(own), "tokenizer": self.fresh_tokenizer(others)}

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return self.model.depth(player) if hasattr(self.model, "depth") else Depth()

    def loss(self, params, batch, key):
        """Mean nats per token of the codes, and what else the model shows. The batch is {"image": uint8 [B, H, W, C]}, with
        "label" int32 [B] where there are classes."""
        rest = {name: x for name, x in batch.items() if name in ("example", "step")}
        codes = jax.lax.stop_gradient(self.tokenizer.encode_images(self.tokens_of(params), batch["image"]))
        return self.model.loss(params, rest | {"tokens": self.windows(batch, codes)}, key)

    def evaluate(self, params, batch, key):
        """For each image, "code_bits" (bits of its codes), "bits_per_dim" (the bound) and its parts "rate" (of the codes)
        and "distortion" (of the pixels given the codes), in bits per dimension, and "loss" and "accuracy" of its codes.
        Given {"nats": float [B]}, what the true distribution gives each image, also "excess", as for the VAE."""
        codes, nats = self.tokenizer.codes_and_nats(self.tokens_of(params), batch)
        read = {"tokens": self.windows(batch, codes), "bytes": jnp.ones(codes.shape, jnp.int32)}
        found = dict(self.model.evaluate(params, read, key))
        bits = found.pop("bits_per_byte").over
        whole, size = nats + bits * jnp.log(2.0), self.tokenizer.dimensions
        return {**found, "code_bits": mean_of(bits), "rate": mean_of(bits / size), "distortion": self.tokenizer.bits(nats),
                "bits_per_dim": self.tokenizer.bits(whole), **excess_of(whole, batch, jnp.full_like(whole, size))}

    def sample(self, params, batch, key, temperature=1.0):
        """Images uint8 [B, H, W, C] of codes that the model writes, given the labels of the batch; one for each of
        batch["example"]. `temperature` divides the logits."""
        first = self.windows(batch, jnp.zeros((len(batch["example"]), 0), jnp.int32))
        read = {"tokens": first, "example": batch["example"]}
        written = sample_windows(self.model, params, read, key, temperature, self.tokenizer.tokens)[:, 1:]
        codes = jnp.minimum(written, self.tokenizer.codes - 1)  # a first token may be written too, but never was trained
        return self.tokenizer.decode_codes(self.tokens_of(params), codes)

    def pictures(self, params, batch, key):
        """"samples" uint8 [4, 8, H, W, C], and the "reconstructions" of the tokenizer."""
        numbers = jnp.arange(ROWS * COLUMNS, dtype=jnp.int32)
        given = {"example": numbers} | ({"label": batch["label"][numbers % len(batch["label"])]} if self.classes else {})
        samples = self.sample(params, given, key)
        return {"samples": samples.reshape(ROWS, COLUMNS, *samples.shape[1:]),
                **self.tokenizer.pictures(self.tokens_of(params), batch, key)}

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    # ---- codes as tokens

    def windows(self, batch, codes):
        """Codes [B, tokens] after the token of each example's label: int32 [B, 1 + tokens]."""
        first = batch["label"].astype(jnp.int32) if self.classes else jnp.zeros(len(codes), jnp.int32)
        return jnp.concatenate([self.tokenizer.codes + first[:, None], codes], 1)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model whose `model` is the member of its ladder of about `size` parameters, beside the tokenizer."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        if "model" in overrides:
            return cls(**overrides)
        prior = find(overrides.get("prior", cls.prior))
        start = cls(**overrides, model=prior())
        return dataclasses.replace(start, model=prior.ladder(size, vocab=start.model.vocab, length=start.model.length))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9))
