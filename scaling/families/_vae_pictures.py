"""Pictures of a VAE for the report. Arrays are uint8 [rows, columns, H, W, C] of levels 0..L-1."""

import jax
import jax.numpy as jnp

COLUMNS = 8
ROWS = 4
REACH = 3.0  # standard deviations of the prior that a traversal covers


def all(family, params, batch, key):
    """{"reconstructions", "samples", "interpolations", "traversals"}, from the first 8 images of the batch.

    Rows that start from an image have its label and caption, and one noise of the likelihood for all columns.
    """
    batch = jax.tree.map(lambda x: x[:COLUMNS], dict(batch))
    columns, module, noise = batch["image"].shape[0], family.module(params), family.noise(key, batch)
    features = module.encode(batch)
    outputs, found = module.decode(batch, noise, features)
    means = [stage.u for stage in module.decode(batch, [jnp.zeros_like(n) for n in noise], features)[1]]
    reconstructions = jnp.stack([batch["image"], family.draw(outputs, batch, key)])

    pairs, steps = max(1, min(ROWS, columns // 2)), jnp.linspace(0.0, 1.0, COLUMNS)
    sampled = _rows(batch, [range(columns)] * ROWS)
    sampled["example"] = sampled["example"] + jnp.repeat(jnp.arange(ROWS) * COLUMNS, columns)
    conditions = [sampled, _alike(batch, [2 * i for i in range(pairs)]), _alike(batch, [0] * ROWS)]
    latents = [family.noise(key, sampled),
               _joined([[_between(u[:, 2 * i], u[:, (2 * i + 1) % columns], steps) for u in means] for i in range(pairs)]),
               _joined(_traversals(means, found))]
    given = jax.tree.map(lambda *x: jnp.concatenate(x), *conditions)
    drawn = family.draw(module.decode(given, _joined(latents))[0], given, key)  # all at once: it compiles once
    cuts = [ROWS * columns, ROWS * columns + pairs * COLUMNS]
    grids = [x.reshape(rows, -1, *x.shape[1:]) for x, rows in zip(jnp.split(drawn, cuts), (ROWS, pairs, ROWS))]
    return {"reconstructions": reconstructions, **dict(zip(("samples", "interpolations", "traversals"), grids))}


def _rows(batch, indices):
    return jax.tree.map(lambda x: x[jnp.asarray([i for row in indices for i in row])], batch)


def _alike(batch, first):
    """Rows of the batch's image of each number, repeated."""
    return _rows(batch, [[i] * COLUMNS for i in first])


def _joined(parts):
    """Latents by stage, joined along their examples."""
    return [jnp.concatenate(stage, axis=1) for stage in zip(*parts)]


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
