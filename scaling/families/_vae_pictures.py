"""Pictures of a VAE for the report. Arrays are uint8 [rows, columns, H, W, C] of levels 0..L-1."""

import jax
import jax.numpy as jnp

COLUMNS = 8
ROWS = 4
REACH = 3.0  # standard deviations of the prior that a traversal covers


def all(family, params, batch, key):
    """{"reconstructions", "samples", "interpolations", "traversals"}, from the first 8 images of the batch.

    Reconstructions and what is made from latents are draws from the likelihood with the same noise in every picture.
    """
    batch = jax.tree.map(lambda x: x[:COLUMNS], dict(batch))
    module = family.module(params)
    noise = family.noise(key, batch)
    outputs, found = module.decode(batch, noise, module.encode(batch))
    means = [stage.u for stage in module.decode(batch, [jnp.zeros_like(n) for n in noise], module.encode(batch))[1]]
    out = {"reconstructions": jnp.stack([batch["image"], family.draw(outputs, batch, key)])}

    def rows(conditions, latents):
        return jnp.stack([family.draw(module.decode(given, u)[0], given, key) for given, u in zip(conditions, latents)])

    def numbered(row):
        return {**batch, "example": batch["example"] + row * COLUMNS}

    out["samples"] = jnp.stack([family.sample(params, numbered(row), key) for row in range(ROWS)])
    pairs = min(ROWS, batch["image"].shape[0] // 2)
    one = [_images(batch, [2 * i] * COLUMNS) for i in range(pairs)]
    steps = jnp.linspace(0.0, 1.0, COLUMNS)
    out["interpolations"] = rows(one, [[_between(u[:, 2 * i], u[:, 2 * i + 1], steps) for u in means] for i in range(pairs)])
    out["traversals"] = rows([one[0]] * ROWS, _traversals(means, found))
    return out


def _images(batch, indices):
    """The batch's rows of these indices, all with the noise of the first."""
    rows = jax.tree.map(lambda x: x[jnp.asarray(indices)], batch)
    return {**rows, "example": jnp.broadcast_to(rows["example"][:1], len(indices))}


def _between(a, b, steps):
    """Latents [layers, g, g, z] -> [layers, steps, g, g, z], from a to b on the great circle of each layer's direction,
    the length interpolated linearly (White 1609.04468): the mean of two normals is shorter than either."""
    shape, (a, b) = a.shape, (x.reshape(x.shape[0], 1, -1) for x in (a, b))
    length_a, length_b = (jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6) for x in (a, b))
    cosine = jnp.clip((a * b).sum(-1, keepdims=True) / (length_a * length_b), -1, 1)
    angle, t = jnp.maximum(jnp.arccos(cosine), 1e-4), steps.reshape(1, -1, 1)
    direction = (jnp.sin((1 - t) * angle) * a / length_a + jnp.sin(t * angle) * b / length_b) / jnp.sin(angle)
    mixed = direction * ((1 - t) * length_a + t * length_b)
    return mixed.reshape(shape[0], steps.shape[0], *shape[1:])


def _traversals(means, found):
    """For each of the `ROWS` latent units with the largest mean KL: the first image's latents, with that unit moved."""
    activity = jnp.concatenate([stage.kl.mean(1).ravel() for stage in found])
    base = jnp.concatenate([u[:, 0].ravel() for u in means])
    units = jnp.argsort(-activity)[jnp.arange(ROWS) % activity.size]
    moved = jax.vmap(lambda unit: jax.vmap(lambda to: base.at[unit].set(to))(jnp.linspace(-REACH, REACH, COLUMNS)))(units)
    rows = []
    for row in moved:
        latents, start = [], 0
        for u in means:
            size = u[:, 0].size
            part = row[:, start:start + size].reshape(COLUMNS, u.shape[0], *u.shape[2:])
            latents.append(part.swapaxes(0, 1))
            start += size
        rows.append(latents)
    return rows
