"""Likelihoods of images whose pixels are levels 0..L-1, given the outputs of a decoder.

Each is a class with `outputs(family)`, the number of decoder outputs for one pixel; `initial(family)`, their values before
training; `log_prob(outputs, image, levels, noise)`, nats [B, H, W] of each pixel with all its channels; and
`sample(outputs, levels, noise)`, an image. Those of levels also have `mean(outputs, channels)`, the expected pixels between
-1 and 1, float32 [B, H, W, C]. Outputs are float32 [B, H, W, n], images uint8 [B, H, W, C], `noise` is uniform
[B, H, W, C + 1]. Level v is centred on -1 + 2 v / (L - 1), as in PixelCNN++.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from scaling import nn
from scaling.devices import sharding

LOWEST = -7.0  # log scale; a logistic far narrower than one of 256 levels gains nothing and loses gradients


def log_sigmoid(x):
    """log(1 / (1 + exp(-x))). Its derivative is written as sigmoid(-x); that of `jax.nn.log_sigmoid` evaluates log1p once
    more for every use, which made the likelihood half of the step of a small VAE on a CPU."""
    return jax.nn.log_sigmoid(x) if sharding.plain() else _log_sigmoid(x)


@jax.custom_jvp
def _log_sigmoid(x):
    return jnp.minimum(x, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


_log_sigmoid.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(-x))


class Logistic:
    """A mixture of discretised logistics (Salimans et al. 2017, PixelCNN++, eq. 2). The channels of a pixel share the
    component, and earlier channels shift the mean of a later one linearly (their eq. 3).

    The lowest and the highest level take the tails, so the probabilities of all levels add up to one. A pixel has
    k (1 + 2 C + C (C - 1) / 2) outputs: k logits, then means, log scales and coefficients.
    """

    @staticmethod
    def outputs(family):
        channels = family.channels
        return family.mixture * (1 + 2 * channels + channels * (channels - 1) // 2)

    @staticmethod
    def initial(family):
        """Equal weights, means spread over the range, and each component as wide as its share of the range. Components with
        equal means would stay equal."""
        k, channels = family.mixture, family.channels
        means = (2 * np.arange(k) + 1) / k - 1
        scales = np.full(k * channels, -math.log(2 * k))
        coefficients = np.zeros(k * (channels * (channels - 1) // 2))
        return np.concatenate([np.zeros(k), np.tile(means, channels), scales, coefficients])

    @staticmethod
    def log_prob(outputs, image, levels, noise=None):
        logits, means, log_scales, coefficients = _mixture(outputs, image.shape[-1])
        x, half = nn.levels_to_signed(image, levels)[..., None], 1 / (levels - 1)
        values = [x[..., c, :] for c in range(image.shape[-1])]
        means = jnp.stack([means[..., c, :] + _shift(coefficients, values[:c]) for c in range(len(values))], -2)
        inverse = jnp.exp(-log_scales)
        above, below = (x - means + half) * inverse, (x - means - half) * inverse
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), without a factor in each tail. This is exact
        # even if the difference itself would be rounded to zero.
        level, width = image[..., None], 2 * half * inverse
        inside = (level > 0) & (level < levels - 1)
        nats = (jnp.where(level < levels - 1, log_sigmoid(above), 0.0)
                + jnp.where(level > 0, log_sigmoid(-below), 0.0)
                + jnp.where(inside, jnp.log(-jnp.expm1(-width)), 0.0))
        return jax.nn.logsumexp(nats.sum(-2) + jax.nn.log_softmax(logits), axis=-1)

    @staticmethod
    def sample(outputs, levels, noise):
        channels = noise.shape[-1] - 1
        logits, means, log_scales, coefficients = _mixture(outputs, channels)
        below = jnp.cumsum(jax.nn.softmax(logits), -1)[..., :-1] < noise[..., :1]
        chosen = jax.nn.one_hot(below.sum(-1), logits.shape[-1])

        def choose(x):
            return (x * chosen[..., None, :]).sum(-1, keepdims=True)

        means, log_scales, coefficients = choose(means), choose(log_scales), choose(coefficients)
        u = jnp.clip(noise[..., 1:], 1e-5, 1 - 1e-5)
        spread = jnp.exp(log_scales)[..., 0] * (jnp.log(u) - jnp.log1p(-u))
        values, images = [], []
        for c in range(channels):
            mean = (means[..., c, :] + _shift(coefficients, values))[..., 0]
            images.append(nn.signed_to_levels(mean + spread[..., c], levels))
            values.append(nn.levels_to_signed(images[-1], levels)[..., None])
        return jnp.stack(images, -1)

    @staticmethod
    def mean(outputs, channels):
        """That of each component is cut at the ends of the range, where the tails belong to the last level."""
        logits, means, _, coefficients = _mixture(outputs, channels)
        weights, values = jax.nn.softmax(logits), []
        for c in range(channels):
            values.append(jnp.clip(means[..., c, :] + _shift(coefficients, values), -1, 1))
        return jnp.stack([(weights * each).sum(-1) for each in values], -1)


def _mixture(outputs, channels):
    """Outputs [..., n] -> logits [..., k]; means, log scales [..., C, k]; coefficients [..., C (C - 1) / 2, k]."""
    pairs = channels * (channels - 1) // 2
    k = outputs.shape[-1] // (1 + 2 * channels + pairs)
    rest = outputs[..., k:].reshape(*outputs.shape[:-1], -1, k)
    means, log_scales, coefficients = jnp.split(rest, [channels, 2 * channels], axis=-2)
    return outputs[..., :k], means, jnp.maximum(log_scales, LOWEST), jnp.tanh(coefficients)


def _shift(coefficients, earlier):
    """The shift [..., k] of the means of a channel, given the values [..., 1] of the channels before it."""
    first = len(earlier) * (len(earlier) - 1) // 2
    return sum(coefficients[..., first + i, :] * value for i, value in enumerate(earlier))


class Bernoulli:
    """Independent pixels of two levels. A channel has one output, its logit."""

    @staticmethod
    def outputs(family):
        return family.channels

    @staticmethod
    def initial(family):
        return np.zeros(family.channels)

    @staticmethod
    def log_prob(outputs, image, levels, noise=None):
        return log_sigmoid(jnp.where(image > 0, outputs, -outputs)).sum(-1)

    @staticmethod
    def mean(outputs, channels):
        return 2 * jax.nn.sigmoid(outputs) - 1

    @staticmethod
    def sample(outputs, levels, noise):
        return (noise[..., 1:] < jax.nn.sigmoid(outputs)).astype(jnp.uint8)


class Gaussian:
    """Independent Gaussians with one learned variance for each channel (sigma-VAE, Rybkin et al. 2006.13202).

    `log_prob` is the density, in units of levels, of the uniformly dequantised image: level v lies at v + u with u uniform
    on [-1/2, 1/2). Its expectation is a lower bound of the log probability of the level (Theis et al. 1511.01844, section
    3.1), so bits per dimension can be compared with those of the discrete likelihoods. A channel has a mean and a log
    scale.
    """

    @staticmethod
    def outputs(family):
        return family.channels  # means; the log scales are parameters of the decoder's head

    @staticmethod
    def initial(family):
        return np.zeros(family.channels)

    @staticmethod
    def log_prob(outputs, image, levels, noise):
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        x = nn.levels_to_signed(image.astype(jnp.float32) + noise[..., 1:] - 0.5, levels)
        z = (x - mean) * jnp.exp(-log_scale)
        per_level = math.log(2 / (levels - 1))
        return (-0.5 * jnp.square(z) - log_scale - 0.5 * math.log(2 * math.pi) + per_level).sum(-1)

    @staticmethod
    def sample(outputs, levels, noise):
        mean, log_scale = jnp.split(outputs, 2, axis=-1)
        u = jnp.clip(noise[..., 1:], 1e-6, 1 - 1e-6)
        return nn.signed_to_levels(mean + jnp.exp(log_scale) * jax.scipy.special.ndtri(u), levels)


LIKELIHOODS = {"logistic": Logistic, "bernoulli": Bernoulli, "gaussian": Gaussian}
