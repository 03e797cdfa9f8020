"""Samplers of diffusion models: the ordinary differential equation dz / dsigma = (z - D(z, sigma)) / sigma in steps
(Karras et al. 2206.00364, equation 1 with sigma(t) = t), for any denoiser D."""

import jax
import jax.numpy as jnp
import numpy as np

SAMPLERS = ("heun", "ddim")
RHO = 7.0


def step_levels(steps: int, lowest: float, highest: float) -> np.ndarray:
    """Falling noise levels, float32 [steps], equally spaced in sigma^(1/7) (Karras et al. 2206.00364, equation 5)."""
    ends = highest ** (1 / RHO), lowest ** (1 / RHO)
    return (np.linspace(*ends, steps) ** RHO).astype(np.float32)


def follow(denoise, z, levels, sampler="heun"):
    """From z [B, H, W, C] at the first of the noise levels [steps] to an image without noise.

    "ddim" moves along the slope at the start of each step (Song et al. 2010.02502, equation 13, which is Euler's method in
    these variables) and calls the denoiser once for each level. "heun" takes the mean of the slopes at both ends (Karras et
    al., algorithm 1) and calls it twice, but for the last step. That one ends at no noise, at what the denoiser says.
    """
    def slope(z, level):
        return (z - denoise(z, jnp.broadcast_to(level, z.shape[:1]))) / level

    def step(z, ends):
        here, there = ends
        first = slope(z, here)
        moved = z + (there - here) * first
        if sampler == "heun":
            moved = z + (there - here) * 0.5 * (first + slope(moved, there))
        return moved, None

    levels = jnp.asarray(levels)
    z, _ = jax.lax.scan(step, z, (levels[:-1], levels[1:]))
    return denoise(z, jnp.broadcast_to(levels[-1], z.shape[:1]))


def guided(conditional, unconditional, guidance: float):
    """The denoiser unconditional + guidance (conditional - unconditional) (Ho & Salimans 2207.12598, equation 6, where our
    guidance is their w + 1): 1 is the conditional model itself, 0 the unconditional one."""
    if guidance == 1:
        return conditional

    def denoise(z, sigma):
        without = unconditional(z, sigma)
        return without + guidance * (conditional(z, sigma) - without)

    return denoise
