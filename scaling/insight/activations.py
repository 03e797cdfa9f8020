"""The activations of a finished run on a batch, read by the taps of `scaling.nn.taps`.

`read_activations(run, batch)` gives the residual stream before the first layer and after each one, and the weights of
attention. `forward_of(family)` is the function that is tapped: logits of a language model or classifier, the encoder of
a VAE or FSQ autoencoder, the critic of a GAN, the denoiser of a diffusion model at one noise level, the model that
reads the codes of images, and the decoder that writes a text of another. What a tokenizer of images computes is not read,
and neither is what an encoder of texts does. Families that count are refused.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families, nn
from scaling.families._pairs import parts_of, written

NOISE_READ = 0.25  # noise level at which a denoiser reads images: an eighth of the range of a pixel
AT_ONCE = 2**14  # positions of text or images' tokens that one call computes


class InsightError(ValueError):
    """A run cannot be looked into as asked; the message says why, and what to ask instead."""


class Activations(NamedTuple):
    """What a network computed.

    output: what `forward_of` gives, [B, ...].
    residual: float32 [B, ..., width], before the first layer and after each one, in the order of computation.
    attention: float32 [B, heads, queries, keys] of each layer; empty where there is no attention.
    """

    output: np.ndarray
    residual: tuple[np.ndarray, ...]
    attention: tuple[np.ndarray, ...]


def read_activations(run, batch: Mapping[str, Any], places=("residual",)) -> Activations:
    """The activations of a restored run on a batch, {"tokens": integer [B, S+1]} of text, {"image": ...} of images or
    {"source": ..., "target": integer [B, T+1]} of pairs.

    `places` are those that are kept, of "residual" and "attention". Raises InsightError for families that read no data.
    """
    call, count = _compiled(run.family, tuple(places)), len(next(iter(batch.values())))
    size = max(1, AT_ONCE // positions(batch))
    parts = []
    for first in range(0, count, size):
        found = call(run.params, {name: x[first:first + size] for name, x in batch.items()})
        parts.append(jax.tree.map(lambda x: np.asarray(x, np.float32), found))
    output, values = jax.tree.map(lambda *each: np.concatenate(each), *parts)
    return Activations(output, tuple(values.get("residual", ())), tuple(values.get("attention", ())))


def positions(batch: Mapping[str, Any]) -> int:
    """The tokens, or pixels, of one example of a batch."""
    return max(int(np.prod(np.shape(x)[1:])) for x in batch.values())


def read_places(batch: Mapping[str, Any], values) -> np.ndarray:
    """Values [B, ..., width] of a batch at the places that are no padding of a text, as rows [places, width]."""
    if "target" in batch:
        return values[np.asarray(written(parts_of(batch)[2]))]
    return values.reshape(-1, values.shape[-1])


def tapped_forward(family, edits=None) -> Callable:
    """(params, batch) -> (output, {place: values}) of a family, with `edits` as in `scaling.nn.taps`; not compiled."""
    family, forward = tappable(family), forward_of(family)

    def call(params, batch):
        with nn.tapped(edits) as taps:
            output = forward(family, params, batch)
        return output, dict(taps.values)

    return call


@functools.lru_cache(maxsize=64)
def _compiled(family, places):
    call = tapped_forward(family)

    def chosen(params, batch):
        output, values = call(params, batch)
        return output, {place: values[place] for place in places if place in values}

    return jax.jit(chosen)


def tappable(family):
    """The family with layers that hide nothing from taps; it computes the same."""
    names = {field.name for field in dataclasses.fields(family)}
    wanted = {"remat": "none", "scan": True}
    inner = {"model": tappable(family.model)} if "model" in names else {}
    return dataclasses.replace(family, **{name: value for name, value in wanted.items() if name in names}, **inner)


def language_network(run):
    """The network of a run that predicts next tokens, whose `logits` read a residual stream out. Raises InsightError."""
    network = run.family.module(run.params) if predicts_next(run.family) else None
    if not hasattr(network, "logits"):
        refuse(run, "has no readout of next tokens")
    return network


def predicts_next(family) -> bool:
    """Whether the family predicts the next token of a text by a network."""
    return families.reads(family)[0] == "text" and hasattr(family, "logits") and hasattr(family, "module")


def refuse(run, why: str):
    """Raise the InsightError of a run that cannot be looked into."""
    raise InsightError(f"run {run.fingerprint} of the family {families.name(run.family)} {why}")


def forward_of(family) -> Callable:
    """The function (family, params, batch) that the taps of a family are read from."""
    found = FORWARDS.get(families.name(family))
    if found is None and predicts_next(family):
        found = _next_token
    if found is None:
        raise InsightError(f"the family {families.name(family)} has no function of its data that taps could read; name a "
                           f"run of {', '.join(sorted(FORWARDS))}, or of a family with logits of text")
    return found


def _next_token(family, params, batch):
    return family.logits(params, batch["tokens"][:, :-1])


def _masked(family, params, batch):
    network = family.module(params)
    return network.logits(network.read(batch["tokens"][:, :-1]))


def _classes(family, params, batch):
    return family.logits(params, nn.levels_to_signed(batch["image"], family.levels))


def _encoded(family, params, batch):
    return family.module(params).encode(batch)[0]


def _coded(family, params, batch):
    return family.module(params).encode(batch["image"])


def _judged(family, params, batch):
    return family.module(params, "disc")(nn.levels_to_signed(batch["image"], family.levels), batch)


def _denoised(family, params, batch):
    """The expected images, float32 [B, H, W, C], of images with noise, which depends on their numbers alone. The model is
    not told their condition, so that what it knows of it is read off the image."""
    x = nn.levels_to_signed(batch["image"], family.levels)
    noise, kept = nn.noise(jax.random.key(0), batch["example"], x.shape[1:]), jnp.zeros(len(x))
    return family.denoise(params, batch, kept)(x + NOISE_READ * noise, jnp.full(len(x), NOISE_READ))


def _prior(family, params, batch):
    with nn.tapped():  # the layers of the tokenizer
        codes = family.tokenizer.encode_images(family.tokens_of(params), batch["image"])
    return family.model.logits({"model": params["model"]}, family.windows(batch, codes)[:, :-1])


def _translated(family, params, batch):
    """Logits float32 [B, T, vocab] of the tokens of targets, given their sources and the tokens before them."""
    network, (source, tokens, _) = family.module(params), parts_of(batch)
    with nn.tapped():  # the layers of the encoder, whose places are those of another text
        encodings, real = network.encode(source)
    return network.logits(network.run(network.embed_at(tokens), jnp.arange(tokens.shape[1])[None], real, encodings)[0])


def _described(family, params, batch):
    """Logits float32 [B, 1 + parts, vocab] of what follows the marker and each part of an image that comes first."""
    if False not in family.orders:
        raise InsightError("this run of multimodal always read captions first, and never an image alone; name one with "
                           "family.share below 1")
    with nn.tapped():
        _, seen, _ = family.read(params, batch)
    module, order = family.module(params), jnp.zeros(len(seen), bool)
    x, places = jnp.concatenate([module.marked(order), module.parts(seen)], 1), jnp.arange(1 + seen.shape[1])[None]
    return module.logits(module.run(module.placed(x, order, jnp.minimum(places, family.length - 1)), places)[0])


FORWARDS = {"transformer": _next_token, "recurrent": _next_token, "masked": _masked, "classifier": _classes,
            "vae": _encoded, "fsq": _coded, "gan": _judged, "diffusion": _denoised,
            "coded": _prior, "multimodal": _described, "seq2seq": _translated}
