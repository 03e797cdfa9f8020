"""One decoder over captions and images, in either order: it draws images of captions and writes captions of images."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families import _multimodal_sample as sampling
from scaling.families._family import Player, ladder_arguments
from scaling.families._multimodal import BYTES, MARKERS, multimodal_decoder, multimodal_graphdef
from scaling.families._pairs import written
from scaling.families._pictures import random_images
from scaling.families._sums import mean_of, ratio_of
from scaling.families._tokenized import Tokenized
from scaling.families.fsq import FSQ
from scaling.families.transformer import LARGEST, SMALLEST, Transformer
from scaling.fields import ConfigError, check_fields, convert_fields, static

UNUSED = ("experts", "z_loss", "document_masking", "window")  # fields of a `Transformer` that this loss does not read


@dataclasses.dataclass(frozen=True)
class Multimodal(Tokenized):
    """A decoder of a caption and an image, a `model` of sequences of bytes and of parts of images (Aghajanyan et al.
    2301.03728; in both orders as Kim et al. 2111.11133).

    The parts are the codes of a finished tokenizer, a run of the family fsq that runs take as those of `Coded` do, or with
    images="patches" the patches themselves: they enter by a linear map and leave as the likelihood of their pixels, each
    given all patches before its own (early fusion, Shukor et al. 2504.07951). The tokenizer's `patch`, `likelihood` and
    `components` then say how, and nothing else of it exists.

    An example is a caption t of up to `caption` bytes and an image x. Training draws its order, the caption first with
    probability `share`, and minimises -log p(t) - log p(x|t) or -log p(x) - log p(t|x), over the number of places. Both are
    joint likelihoods of one pair. `text_weight` and `image_weight` weigh the two terms. A weight of 0 and a share of 0 or 1
    leave a model of one modality, and so does a caption of 0 bytes.
    """

    reads: ClassVar[str] = "images"
    classes: ClassVar[int] = 0

    image_size: int = static(16, least=1, most=4096)  # pixels of a side; the data say it
    channels: int = static(1, least=1, most=64)  # of a pixel; the data say it
    levels: int = static(256, least=2, most=256)  # values of a pixel; the data say it
    caption: int = static(32, least=0, most=2**16)  # bytes of a caption; the data say it
    images: str = static("codes", choices=("codes", "patches"))  # of the tokenizer, or raw
    share: float = static(0.5, least=0, most=1)  # of training examples whose caption comes first
    text_weight: float = static(1.0, least=0, most=1e6)  # of the nats of captions
    image_weight: float = static(1.0, least=0, most=1e6)  # of the nats of images
    tokenizer: Any = static(FSQ())  # a member of the family fsq
    model: Any = static(Transformer())  # a member of the family transformer, with rotary positions or none

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        object.__setattr__(self, "tokenizer", self._seeing())
        model, plain = self._member("model", Transformer), Transformer()
        for name in UNUSED:
            if getattr(model, name) != getattr(plain, name):
                raise ConfigError(f"family.model.{name}={getattr(model, name)} is not for multimodal; write "
                                  f"family.model.{name}={getattr(plain, name)}")
        if not self.text_weight and not self.image_weight:
            raise ConfigError("family.text_weight=0 and family.image_weight=0 leave nothing to learn; write "
                              "1 for one of them")
        read = {"vocab": BYTES + self.codes + MARKERS, "length": self.caption + self.parts}
        object.__setattr__(self, "model", dataclasses.replace(model, **read))

    # ---- the protocol of families

    def init(self, key):
        own, others = jax.random.split(key)
        params = {"model": nnx.state(multimodal_decoder(self, own))}
        return params | ({"tokenizer": self.fresh_tokenizer(others)} if self.images == "codes" else {})

    def players(self):
        return (Player("model", self.loss),)

    def depth(self, player="model"):
        return self.model.depth(player)

    def loss(self, params, batch, key):
        """The weighted nats of captions and images over the places of all examples, and apart "loss_text" and "loss_image",
        nats over the places of their modality. Bytes after the end of a caption add nothing, as for `Seq2Seq`.

        The batch is {"image": uint8 [B, H, W, C], "caption": int32 [B, caption], "example": int32 [B]}.
        """
        order_key, drop_key = jax.random.split(key)
        captions_first = nn.noise(order_key, batch["example"], (), "uniform") < self.share
        noise = (drop_key, batch["example"]) if self.model.dropout else None
        text, image = self.nats(params, *self.read(params, batch), captions_first, noise)
        text, image = text.sum(-1).mean(), image.sum(-1).mean()
        loss = (self.text_weight * text + self.image_weight * image) / self.length
        apart = {"loss_text": text / self.caption} if self.caption else {}
        return loss, apart | {"loss_image": image / self.parts}

    def evaluate(self, params, batch, key):
        """For each example, of every order that is trained: "loss", nats per token of caption and image together; of what
        comes first "loss_text", "bits_per_byte" or "loss_image", "bits_per_dim"; and the same names with "_given_image" or
        "_given_text" of what comes second. With both orders also "image_information" and "text_information", the bits that
        an image costs less, given its caption, and a caption, given its image. Codes add "distortion", the bits of pixels
        given codes, to the bits of an image, which are then a bound as those of `Coded`. The key is unused."""
        del key
        *read, pixels = self.read(params, batch, with_pixels=True)
        size, found, nats = (read[0] > 0).sum(-1), {}, {}
        tokens = written(read[0]).sum(-1) if self.caption else size
        for first in self.orders:
            of_text, of_image = (x.sum(-1) for x in self.nats(params, *read, jnp.full(len(read[1]), first)))
            nats[first] = {"text": of_text, "image": of_image}
            if self.learns_text:
                said = "" if first else "_given_image"
                found |= {f"loss_text{said}": ratio_of(of_text, tokens),
                          f"bits_per_byte{said}": ratio_of(of_text / math.log(2), size)}
            if self.image_weight:
                said = "_given_text" if first else ""
                found |= {f"loss_image{said}": mean_of(of_image / self.parts),
                          f"bits_per_dim{said}": self.tokenizer.bits(of_image + pixels)}
        if len(nats) == 2 and self.learns_text and self.image_weight:
            found |= {f"{name}_information": mean_of((nats[alone][name] - nats[not alone][name]) / math.log(2))
                      for name, alone in (("text", True), ("image", False))}
        if self.images == "codes" and self.image_weight:
            found["distortion"] = self.tokenizer.bits(pixels)
        parts = jnp.full_like(tokens, self.parts)
        learned = [("text", tokens)] * self.learns_text + [("image", parts)] * bool(self.image_weight)
        whole = sum(each[name] for each in nats.values() for name, _ in learned) / len(nats)
        return {"loss": ratio_of(whole, sum(count for _, count in learned)), **found}

    def examine(self, params, batch, key):
        """Of the likeliest caption of each image, written byte by byte: "named", the share whose name, up to the comma, is
        right, and "captioned", the share that is right to the end. And "wrong_caption", the bits that an image costs more
        after a caption with another name than after its own."""
        found = sampling.right_captions(self, params, batch, key) if self.learns_text and False in self.orders else {}
        reads = self.caption and self.image_weight and True in self.orders
        return found | (sampling.cost_of_wrong_captions(self, params, batch) if reads else {})

    def example_batch(self, batch_size, key):
        return random_images(self, batch_size, key)

    # ---- likelihoods

    def read(self, params, batch, with_pixels=False):
        """(captions int32 [B, n], the parts of images that the network reads, the images) of a batch, and with pixels also
        the nats [B] of the pixels given the codes, 0 for patches."""
        text, images = sampling.captions_of(self, batch), batch["image"]
        if self.images == "patches":
            seen = nn.patches(nn.levels_to_signed(images, self.levels), self.tokenizer.cell)
            return (text, seen, images, jnp.zeros(len(images))) if with_pixels else (text, seen, images)
        tokens = self.tokens_of(params)
        if with_pixels:
            seen, pixels = self.tokenizer.codes_and_nats(tokens, batch)
            return text, seen, images, pixels
        return text, jax.lax.stop_gradient(self.tokenizer.encode_images(tokens, images)), images

    def nats(self, params, text, seen, images, captions_first, noise=None):
        """(nats of the bytes float32 [B, n], nats of the parts of images float32 [B, m]) of what `read` gives, each given
        all that comes before it in the order of its example, bool [B]. The sum of all is -log p of the pair."""
        module = self.module(params)
        of_text, of_image = module.outputs(text, seen, captions_first, noise)
        return module.text_nats(of_text, text), module.image_nats(of_image, seen, images)

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(multimodal_graphdef(self), params["model"])

    # ---- generation

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`), with images="codes".

        `tokens`, integer [B, S], hold prompts of `lengths`, int32 [B], padded on the right: `caption_marker`, `caption`
        bytes of which those after the end are 0, and then 256 + codes; or `image_marker`, 256 + codes, and then bytes. A
        prompt may end anywhere. Tokens that cannot follow have logits of -inf. ValueError for images="patches".
        """
        if self.images == "patches":
            raise ValueError("family.images=patches has no tokens of images: take `sample` and `describe`")
        module, cache = self.module(params), sampling.empty_cache(self, tokens[:, 0] != self.image_marker, capacity)
        x, cache = module.step(module.embed_at(tokens), cache)
        x = jnp.take_along_axis(x, (lengths - 1)[:, None, None], 1)
        last, cache = jnp.take_along_axis(tokens, (lengths - 1)[:, None], 1)[:, 0], cache | {"start": lengths}
        return sampling.next_logits(module, x, last, cache), cache

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        module = self.module(params)
        x, state = module.step(module.embed_at(token[:, None]), state)
        return sampling.next_logits(module, x, token, state), state

    def sample(self, params, batch, key, temperature=1.0):
        """Images uint8 [B, H, W, C] of the captions of a batch, one for each of batch["example"]. `temperature` divides the
        logits of codes; the uniform noise of the pixels of patches is as many times its distance from 1/2."""
        return sampling.draw_images(self, params, batch, key, temperature)

    def describe(self, params, batch, key, temperature=1.0):
        """Captions int32 [B, caption] of the images of a batch, zeros from their ends on. `temperature` divides the logits;
        0 takes the likeliest byte each time. Row i depends on its image, the key and batch["example"][i] alone."""
        return sampling.write_captions(self, params, batch, key, temperature)

    def pictures(self, params, batch, key):
        """"samples" uint8 [4, 8, H, W, C] of the captions of the batch, the "captioned" images that have them, and with
        codes the "reconstructions" of the tokenizer."""
        return sampling.draw_pictures_of_captions(self, params, batch, key)

    # ---- sizes

    @property
    def orders(self) -> tuple[bool, ...]:
        """The orders that are trained: whether the caption comes first."""
        return (True,) * bool(self.caption and self.share) + (False,) * bool(not self.caption or self.share < 1)

    @property
    def learns_text(self) -> bool:
        return bool(self.caption and self.text_weight)

    @property
    def parts(self) -> int:
        """The parts of an image, each of which a place of the sequence predicts."""
        return self.tokenizer.tokens

    @property
    def codes(self) -> int:
        """The values of a part of an image: 0 where they are patches, which have no table."""
        return self.tokenizer.codes if self.images == "codes" else 0

    @property
    def length(self) -> int:
        """The places of a sequence."""
        return self.caption + self.parts

    @property
    def caption_marker(self) -> int:  # the token before a caption that comes first
        return BYTES + self.codes

    @property
    def image_marker(self) -> int:
        return BYTES + self.codes + 1

    @property
    def as_readout(self):
        """The sizes of the readout of patches: those of the tokenizer's, at the width of the model."""
        return dataclasses.replace(self.tokenizer, width=self.model.width, dtype=self.model.dtype)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model whose `model` is the member of its ladder of about `size` parameters, beside tables and the maps of
        patches."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        return cls(**({"model": Transformer.ladder(size)} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9))
