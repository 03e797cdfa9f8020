"""Codes of `scaling.families.fsq`: finite scalar quantisation, and a codebook that follows what it quantises.

A token is a vector z [..., channels] of the encoder. Its code is a number below `codes`, and its value is the vector that
the decoder reads in place of z.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from scaling import axes
from scaling.families._sums import Whole
from scaling.fields import ConfigError, shown

MOST_CODES = 2**20  # a vocabulary that models of sequences can have
DECAY = 0.97  # of the means and the usage of codes; lower at first, as for averaged weights
DEAD = 0.05  # share of the usage of a code of average usage, below which a code is restarted


def parse_levels(text: str) -> tuple[int, ...]:
    """The levels of each channel of "8,5,5,5". Raises ConfigError for another text, and for more codes than can be."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,3}", part) and 2 <= int(part) <= 256 for part in parts):
        raise ConfigError(f"family.code_levels={shown(text)} is no list of levels; write the number of levels of each "
                          "channel, from 2 to 256, such as 8,5,5,5")
    found = tuple(int(part) for part in parts)
    if math.prod(found) > MOST_CODES:
        raise ConfigError(f"family.code_levels={shown(text)} gives {math.prod(found)} codes, and there may be {MOST_CODES};"
                          " write fewer channels or levels")
    return found


# ---- finite scalar quantisation


def scalar_quantised(z, levels):
    """(codes int32 [...], values float32 [..., channels]) of z (Mentzer et al. 2309.15505, section 3.1).

    tanh(z) is rounded to the nearest of `levels[i]` values that divide [-1, 1] evenly in channel i. For odd numbers that is
    the paper's rule; even ones are centred too, so that no shift is needed. The gradient of a value is that of tanh(z), as
    if rounding were the identity (straight-through, Bengio et al. 1308.3432).
    """
    soft = jnp.tanh(z.astype(jnp.float32))
    steps = _steps(levels, soft)
    digits = jnp.round((soft + 1) * (steps / 2))
    return codes_of_digits(digits.astype(jnp.int32), levels), soft + jax.lax.stop_gradient(digits * (2 / steps) - 1 - soft)


def scalar_values(codes, levels):
    """Codes, integer [...] -> values float32 [..., channels] in [-1, 1]."""
    digits = digits_of_codes(codes, levels).astype(jnp.float32)
    return digits * (2 / _steps(levels, digits)) - 1


def codes_of_digits(digits, levels):
    """Levels of each channel, integer [..., channels] -> codes [...]; the first channel counts ones."""
    places = np.cumprod([1, *levels[:-1]]).astype(np.int32)
    return (digits * places.reshape(*(1,) * (digits.ndim - 1), -1)).sum(-1)


def digits_of_codes(codes, levels):
    """The inverse of `codes_of_digits`."""
    found = []
    for count in levels:
        found.append(codes % count)
        codes = codes // count
    return jnp.stack(found, -1)


def _steps(levels, x):
    return jnp.asarray(levels, jnp.float32).reshape(*(1,) * (x.ndim - 1), -1) - 1


# ---- vector quantisation


def new_codebook(codes: int, channels: int) -> dict:
    """A codebook without vectors yet: no code was used, so that the first step restarts all."""
    return {"vectors": axes.param(jnp.zeros((codes, channels)), ("vocab", "latents")),
            "usage": axes.buffer(jnp.zeros(codes), ("vocab",))}


def nearest_codes(z, codebook):
    """The code of the nearest vector to each z [..., channels], int32 [...]."""
    vectors = codebook["vectors"][...]
    return (jnp.square(vectors).sum(-1).reshape(*(1,) * (z.ndim - 1), -1) - 2 * z @ vectors.T).argmin(-1).astype(jnp.int32)


def vector_quantised(z, codebook):
    """(codes int32 [...], values [..., channels]): the nearest vectors, whose gradient is that of z (van den Oord et al.
    1711.00937, section 3.2)."""
    z = z.astype(jnp.float32)
    codes = nearest_codes(z, codebook)
    return codes, z + jax.lax.stop_gradient(codebook["vectors"][...][codes] - z)


def moved_codebook(codebook, z, step, key):
    """The codebook after a step on the vectors z [n, channels] of its batch; `step` counts from 0.

    A vector becomes the running mean of what is assigned to it (van den Oord et al., appendix A.1). The running means
    forget fast at first, and so begin as k-means. A code that is hardly used is restarted at a random z of the batch
    (Dhariwal et al. 2005.00341, section 3.1). No code was used before the first step, so it starts all of them there, as
    k-means does.
    """
    vectors, usage = codebook["vectors"][...], codebook["usage"][...]
    chosen = jax.nn.one_hot(nearest_codes(z, codebook), len(usage), dtype=jnp.float32)
    share = len(usage) / len(z)  # so that a code of average usage has 1
    decay = jnp.minimum(DECAY, (1 + step) / (10 + step))
    used = decay * usage + (1 - decay) * share * chosen.sum(0)
    total = (decay * usage)[:, None] * vectors + (1 - decay) * share * chosen.T @ z
    mean = total / jnp.maximum(used, 1e-30)[:, None]
    dead = (usage == 0) | (used < DEAD)
    fresh = z[jax.random.randint(key, usage.shape, 0, len(z))]
    return {"vectors": codebook["vectors"].replace(jnp.where(dead[:, None], fresh, mean)),
            "usage": codebook["usage"].replace(jnp.where(dead, 1.0, used))}


# ---- metrics of the codes of all examples


def conclude_usage(codes, count: int) -> dict[str, Whole]:
    """Metrics of the codes of all examples, integer [..., examples, tokens], of which there are `count`:

    * "codes_used", the share of codes that some token has;
    * "code_entropy", bits per image that its tokens cost one by one, by how frequent each code is in all;
    * "code_perplexity", the number of equally frequent codes that have the same entropy.
    """
    rows = [_usage(each, count) for each in np.reshape(codes, (-1, *codes.shape[-2:]))]
    used, entropy, influence = (np.stack(x).reshape((*codes.shape[:-2], *np.shape(x[0]))) for x in zip(*rows))
    perplexity, tokens = 2**entropy, codes.shape[-1]
    return {"codes_used": Whole(used), "code_entropy": Whole(tokens * entropy, tokens * influence),
            "code_perplexity": Whole(perplexity, math.log(2) * perplexity[..., None] * influence)}


def _usage(codes, count):
    """(share of codes used, bits per token, what each example adds to the error of the bits) of codes [examples, tokens].

    The entropy changes with the share p of a code by -log p - 1, so that its error is that of the mean of -log p.
    """
    shares = np.bincount(codes.ravel(), minlength=count) / codes.size
    bits = -np.log2(np.where(shares > 0, shares, 1.0))
    entropy = (shares * bits).sum()
    return (shares > 0).mean(), entropy, (bits[codes].mean(-1) - entropy) / len(codes)
