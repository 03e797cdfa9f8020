"""Metrics of a VAE that are too costly for every evaluation: a tighter bound, active latents, the rate of each block."""

import math

import jax
import jax.numpy as jnp

IMPORTANCE_SAMPLES = 64
ACTIVE = 0.01  # nats; a unit whose mean KL is higher is active (after Burda et al. 1509.00519, section 5)


def examine_vae(family, params, batch, key):
    """What a few images show: "iwae_bits_per_dim", the bound of 64 importance samples (Burda et al. 1509.00519, eq. 8);
    "active_latents", the share of latent units whose mean KL over this batch exceeds 0.01 nats; and "rate_layer_00" and so
    on, the bits per dimension of each stochastic block, from the top."""
    module = family.module(params)
    features = module.encode(batch)

    def add(total, index):
        outputs, latents = module.decode(batch, family.noise(jax.random.fold_in(key, index), batch), features)
        ratio = sum(stage.log_ratio.sum((0, 2, 3, 4)) for stage in latents)
        weight = ratio - family.distortion(outputs, batch, jax.random.fold_in(key, index))
        return jnp.logaddexp(total, weight), None

    start = jnp.full(batch["image"].shape[0], -jnp.inf)
    total, _ = jax.lax.scan(add, start, jnp.arange(IMPORTANCE_SAMPLES))
    _, latents = module.decode(batch, family.noise(key, batch), features)
    units = jnp.concatenate([stage.kl.mean(1).ravel() for stage in latents])
    by_layer = jnp.concatenate([stage.kl.sum((2, 3, 4)) for stage in latents])
    found = {"iwae_bits_per_dim": family.bits(math.log(IMPORTANCE_SAMPLES) - total),
             "active_latents": ((units > ACTIVE).sum(dtype=jnp.float32), jnp.float32(units.size))}
    return found | {f"rate_layer_{i:02d}": family.bits(kl) for i, kl in enumerate(by_layer)}
