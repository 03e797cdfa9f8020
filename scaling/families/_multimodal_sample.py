"""Generation by `scaling.families.multimodal`: an image of a caption, a caption of an image, and what may come next."""

import functools
import math

import jax
import jax.numpy as jnp

from scaling import nn
from scaling.families._decoder import init_cache
from scaling.families._generate import choose_warm
from scaling.families._multimodal import BYTES
from scaling.families._pairs import written
from scaling.families._sums import mean_of, ratio_of
from scaling.families._vae_likelihoods import LIKELIHOODS

ROWS, COLUMNS = 4, 8  # of pictures
COMMA = ord(",")  # ends the name in a caption, of which the rest is a description


def captions_of(f, batch):
    """The captions of a batch, int32 [B, caption], of no bytes for a family without captions."""
    if f.caption:
        return batch["caption"].astype(jnp.int32)
    return jnp.zeros((len(batch["image"] if "image" in batch else batch["example"]), 0), jnp.int32)


def empty_cache(f, captions_first, capacity):
    """A cache with room for `capacity` elements of sequences whose order is `captions_first`, bool [B]."""
    return init_cache(f.model, len(captions_first), capacity) | {"captions_first": captions_first}


def next_logits(module, x, token, cache):
    """Logits [B, vocab] of the token after `token`, integer [B], given the outputs x [B, 1, width] at its place. Those that
    cannot follow are -inf: the other modality, markers, and anything but 0 after the end of a caption."""
    f, place, ids = module.task, cache["start"] - 1, jnp.arange(module.task.model.vocab)[None]
    is_byte = jnp.where(cache["captions_first"], place < f.caption, place >= f.parts)
    first = jnp.where(is_byte, 0, BYTES)
    end = jnp.where(is_byte & (token == 0), 1, jnp.where(is_byte, BYTES, BYTES + f.codes))
    return jnp.where((ids >= first[:, None]) & (ids < end[:, None]), module.logits(x)[:, 0], -jnp.inf)


def draw_images(f, params, batch, key, temperature):
    """Images uint8 [B, H, W, C] of the captions of a batch, or of no caption where the model knows none; see
    `Multimodal.sample`."""
    module, numbers = f.module(params), batch["example"]
    text = captions_of(f, batch) if True in f.orders else jnp.zeros((len(numbers), 0), jnp.int32)
    cache = empty_cache(f, jnp.full(len(numbers), True in f.orders), f.length)
    x = jnp.concatenate([module.marked(cache["captions_first"]), module.embed_at(text)], 1)
    if f.images == "codes":
        codes = module.follow(x, cache, f.parts, _picker(module, module.codes, key, numbers, temperature),
                              lambda code: module.parts(code[:, None]))
        return f.tokenizer.decode_codes(f.tokens_of(params), codes)
    cell, likelihood = f.tokenizer.cell, LIKELIHOODS[f.tokenizer.likelihood]

    def pick(output, number):
        noise = nn.noise(jax.random.fold_in(key, number), numbers, (cell, cell, f.channels + 1), "uniform")
        drawn = likelihood.sample(module.leave(output), f.levels, 0.5 + temperature * (noise - 0.5))
        return nn.patches(drawn, cell)[:, 0]

    def embed(patch):
        return module.parts(nn.levels_to_signed(patch, f.levels)[:, None])

    found = module.follow(x, cache, f.parts, pick, embed)
    return nn.unpatch(found, cell, f.channels)


def write_captions(f, params, batch, key, temperature):
    """Captions int32 [B, caption] of the images of a batch; see `Multimodal.describe`."""
    module, seen = f.module(params), f.read(params, batch)[1]
    cache = empty_cache(f, jnp.zeros(len(seen), bool), f.length)
    x = jnp.concatenate([module.marked(cache["captions_first"]), module.parts(seen)], 1)
    pick = _picker(module, slice(0, BYTES), key, batch["example"], temperature)
    found = module.follow(x, cache, f.caption, pick, lambda byte: module.embed_at(byte[:, None]))
    return jnp.where(written(found), found, 0)


def right_captions(f, params, batch, key):
    """"named" and "captioned" of the likeliest captions; see `Multimodal.examine`."""
    told, true = write_captions(f, params, batch, key, 0.0), captions_of(f, batch)
    return {"named": mean_of(((told == true) | ~_of_name(true)).all(-1)),
            "captioned": mean_of(((told == true) | ~written(true)).all(-1))}


def cost_of_wrong_captions(f, params, batch):
    """"wrong_caption", in bits: what images cost more after the caption of another image of the batch than after their own,
    over those whose names differ; see `Multimodal.examine`."""
    text, *rest = f.read(params, batch)
    other, first = jnp.roll(text, 1, 0), jnp.full(len(text), True)
    wrong, right = (f.nats(params, said, *rest, first)[1].sum(-1) for said in (other, text))
    name = jnp.where(_of_name(text) & (text != COMMA), text, 0)
    differs = (name != jnp.roll(name, 1, 0)).any(-1)
    return {"wrong_caption": ratio_of(jnp.where(differs, wrong - right, 0) / math.log(2), differs)}


def _of_name(text):
    """Which bytes of captions [B, n] belong to a name, which ends with a comma or with the caption."""
    return written(jnp.where(text == COMMA, 0, text))


def draw_pictures_of_captions(f, params, batch, key):
    """The pictures of `Multimodal.pictures`."""
    numbers = jnp.arange(ROWS * COLUMNS, dtype=jnp.int32)
    given = {name: batch[name][numbers % len(batch["image"])] for name in batch if name in ("image", "caption")}
    found = {"samples": f.sample(params, given | {"example": numbers}, key)}
    if True in f.orders:
        found["captioned"] = given["image"]
    found = {name: x.reshape(ROWS, COLUMNS, *x.shape[1:]) for name, x in found.items()}
    return found | (f.tokenizer.pictures(f.tokens_of(params), batch, key) if f.images == "codes" else {})


def _picker(module, part, key, examples, temperature):
    """The function that draws element `number`, int32 [B], counted from the first of a `part` of the vocabulary."""
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(examples)

    def pick(output, number):
        logits = module.logits(output, part)[:, 0]
        return jax.vmap(lambda logits, key: choose_warm(logits, jax.random.fold_in(key, number), temperature))(logits, keys)

    return pick
