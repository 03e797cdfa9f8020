"""The network of `scaling.families.multimodal`: a decoder over a caption and an image, in either order.

An example has n bytes of a caption and m parts of an image, codes or patches. A sequence is a marker, which says what comes
first, then one of the two and then the other, without the last element: n + m places, each of which predicts the element
that follows. Tokens are 256 bytes, the codes, and the two markers.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes, nn
from scaling.families._decoder import Decoder, DecoderBlock
from scaling.families._language import LanguageNetwork
from scaling.families._pairs import written
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.families._vae_network import Readout

BYTES = 256
MARKERS = 2  # the last two tokens: before a caption, and before an image
PLACE_STD = 0.1  # of the rows for places, where a token's row has 1


class MultimodalDecoder(Decoder):
    """The whole network. `f` is a `Multimodal`, whose `model` has the sizes of the layers.

    An element's vector is the row of its token, or a linear map of its patch, and the row of its place in its own modality:
    a byte has one for its place in the caption, a part of an image one for its row and one for its column. So a place means
    the same in both orders. Attention sees the distance in the sequence as well, by rotary positions.
    """

    def __init__(self, f, layers, draw):
        model, side = f.model, math.isqrt(f.parts)
        LanguageNetwork.__init__(self, model, layers, draw, bias=model.biases, cap=model.logit_cap,
                                 epsilon=model.norm_epsilon)
        kw = dict(std=PLACE_STD, dtype=jnp.dtype(model.dtype))
        self.task = f
        self.caption_place = nn.Table(draw, "position", f.caption, model.width, **kw) if f.caption else None
        self.row = nn.Table(draw, "position", side, model.width, **kw)
        self.column = nn.Table(draw, "position", side, model.width, **kw)
        pixels, raw = {"pixels": f.channels * f.tokenizer.cell**2}, f.images == "patches"
        self.enter = nn.Linear(draw, pixels, {"embed": model.width}, bias=True, dtype=kw["dtype"]) if raw else None
        self.leave = Readout(f.as_readout, draw) if raw else None

    # ---- what it reads

    def marked(self, captions_first):
        """The vectors [B, 1, width] that begin sequences: bool [B], whether the caption comes first."""
        return self.embed_at(jnp.where(captions_first, self.task.caption_marker, self.task.image_marker)[:, None])

    def parts(self, seen):
        """Parts of images, codes int32 [B, k] or patches float32 [B, k, values] -> vectors [B, k, width]."""
        return self.embed_at(BYTES + seen) if self.enter is None else nn.constrain(self.enter(seen), "embed")

    def placed(self, x, captions_first, positions):
        """Vectors [B, k, width] at positions [B or 1, k] of sequences, with the rows of their places."""
        image = (self.row.weight[...][:, None] + self.column.weight[...][None]).reshape(-1, x.shape[-1])
        caption = image[:0] if self.caption_place is None else self.caption_place.weight[...]
        marker, orders = jnp.zeros_like(image[:1]), ((image, caption), (caption, image))
        rows = jnp.stack([jnp.concatenate([marker, *both]) for both in orders])
        order = jnp.broadcast_to(captions_first[:, None].astype(jnp.int32), x.shape[:2])
        return nn.constrain(x + rows.astype(x.dtype)[order, jnp.broadcast_to(positions, x.shape[:2])], "embed")

    # ---- whole sequences

    def outputs(self, text, seen, captions_first, noise=None):
        """(outputs [B, n, width] that predict the bytes, outputs [B, m, width] that predict the parts of the image), of
        captions int32 [B, n], the parts that `parts` reads, and orders bool [B]. `noise` is that of `Decoder.hidden`."""
        n, m, first = self.task.caption, self.task.parts, captions_first[:, None, None]
        text, image = self.embed_at(text), self.parts(seen)
        x = jnp.where(first, jnp.concatenate([text, image], 1), jnp.concatenate([image, text], 1))
        x = jnp.concatenate([self.marked(captions_first), x[:, :-1]], 1)
        positions = jnp.arange(n + m)[None]
        x, _ = self.run(self.placed(x, captions_first, positions), positions, noise=noise)
        return jnp.where(first, x[:, :n], x[:, m:]), jnp.where(first, x[:, n:], x[:, :m])

    def text_logits(self, x):
        """Outputs [B, k, width] -> float32 logits [B, k, 256] of bytes."""
        return self.logits(x, slice(0, BYTES))

    def text_nats(self, x, text):
        """Nats of the bytes, float32 [B, n], 0 after the end of a caption. One that fills its n bytes has no end."""
        if not text.shape[1]:
            return jnp.zeros(text.shape)
        return jnp.where(written(text), nn.cross_entropy(self.text_logits(x), text), 0.0)

    def image_nats(self, x, seen, images):
        """Nats of the parts of images, float32 [B, m]: of codes, or of the pixels of patches of `images` uint8."""
        if self.leave is None:
            return nn.cross_entropy(self.logits(x, self.codes), seen)
        t = self.task.tokenizer
        log_prob = LIKELIHOODS[t.likelihood].log_prob(self.leave(x), images, t.levels, None)
        return -nn.patches(log_prob[..., None], t.cell).sum(-1)

    @property
    def codes(self):
        return slice(BYTES, BYTES + self.task.codes)

    # ---- one element after another

    def step(self, x, cache):
        """(outputs [B, k, width], cache) of k more vectors of each sequence, as `marked`, `embed_at` and `parts` make them.

        The cache is that of `Decoder`, with "captions_first", bool [B].
        """
        positions = jnp.arange(x.shape[1])[None] + cache["start"][:, None]
        x = self.placed(x, cache["captions_first"], jnp.minimum(positions, self.task.length - 1))
        x, (kv, _) = self.run(x, positions, (cache["k"], cache["v"]))
        return x, cache | {"k": kv[0], "v": kv[1], "start": cache["start"] + positions.shape[1]}

    def follow(self, x, cache, count, pick, embed):
        """`count` elements [B, count, ...] of each sequence after the vectors x, each drawn by `pick(output [B, 1, width],
        number)` and read by `embed(element)` as a vector [B, 1, width]."""
        def one_more(carry, number):
            output, cache = carry
            element = pick(output, number)
            output, cache = self.step(embed(element), cache)
            return (output, cache), element

        output, cache = self.step(x, cache)
        (output, _), found = lax.scan(one_more, (output[:, -1:], cache), jnp.arange(count - 1))
        last = pick(output, jnp.int32(count - 1))
        return jnp.concatenate([jnp.moveaxis(found, 0, 1), last[:, None]], 1)


def multimodal_decoder(f, key):
    """The network of a family, with fresh parameters."""
    tables, blocks = jax.random.split(key)
    layers = axes.stack(functools.partial(DecoderBlock, f.model), jax.random.split(blocks, f.model.layers))
    return axes.drawn(functools.partial(MultimodalDecoder, f, layers), tables)


@functools.lru_cache(maxsize=256)
def multimodal_graphdef(f):
    return nnx.graphdef(nnx.eval_shape(lambda: multimodal_decoder(f, jax.random.key(0))))
