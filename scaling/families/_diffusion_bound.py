"""The variational bound of a diffusion model on the log likelihood of images, for any denoiser.

An image x with noise is z = x + sigma n, n standard normal, for noise levels sigma from `lowest` to `highest` (Karras et
al. 2206.00364, section 2). A denoiser D(z, sigma) estimates x. In nats, -log p(image) is at most the sum of three terms
(Kingma et al. 2107.00630, sections 3.5 and 5.1, over log sigma instead of the ratio of signal to noise, 1 / sigma^2):

* the KL divergence of z at `highest` from its prior,
* the integral over log sigma of the expectation of |x - D(z, sigma)|^2 / sigma^2,
* the nats of the image's levels, given z at `lowest`.

Images x are float32 [B, H, W, C]; what is found is float32 [B].
"""

import math

import jax
import jax.numpy as jnp

from scaling import nn

GOLDEN = 2654435769  # 2^32 over the golden ratio


def noise_levels(key, examples, lowest, highest, stratum=0, strata=1):
    """Noise levels [B], uniform in log sigma within one of `strata` equal parts of the range.

    Examples with neighbouring numbers, int32 [B], get levels that are spread evenly: multiples of the golden ratio, moved
    by one uniform draw. This has as little noise as the low-discrepancy sampler of Kingma et al. 2107.00630, appendix I.1,
    but a level depends on the number of its example alone, so microbatches and devices change nothing.
    """
    turns = (examples.astype(jnp.uint32) * jnp.uint32(GOLDEN) >> 8).astype(jnp.float32) / 2**24
    within = (turns + jax.random.uniform(key)) % 1.0
    return lowest * jnp.exp((stratum + within) / strata * math.log(highest / lowest))


def noised(x, sigma, noise):
    """x with noise of the levels `sigma` [B]."""
    return x + nn.along(sigma, x, 0) * noise


def denoising_nats(denoise, x, sigma, noise):
    """Nats of one unit of log sigma, at the levels `sigma` [B]: the integrand of the second term at one draw of noise."""
    return jnp.square(x - denoise(noised(x, sigma, noise), sigma)).sum((1, 2, 3)) / jnp.square(sigma)


def prior_nats(x, highest, data_std):
    """KL divergence of the image at the highest noise from the prior, a normal with the variance highest^2 + data_std^2."""
    variance = highest**2 + data_std**2
    each = (highest**2 + jnp.square(x)) / variance - 1 + math.log(variance / highest**2)
    return 0.5 * each.sum((1, 2, 3))
