"""Pictures of a VAE for the report. Arrays are uint8 [rows, columns, H, W, C] of levels 0..L-1."""

import jax
import jax.numpy as jnp

COLUMNS = 8
ROWS = 4
REACH = 3.0  # standard deviations of the prior that a traversal covers


def draw_pictures(family, params, batch, key):
    """{"reconstructions", "samples", "interpolations", "traversals"}, from the first 8 images of the batch.

    A row that starts from an image uses its label and caption, and the same noise of the likelihood in all columns.
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
    conditions = [sampled, _repeated(batch, [2 * i for i in range(pairs)]), _repeated(batch, [0] * ROWS)]
    latents = [family.noise(key, sampled),
               _joined([[_between(u[:, 2 * i], u[:, (2 * i + 1) % columns], steps) for u in means] for i in range(pairs)]),
               _joined(_traversals(means, found))]
    given = jax.tree.map(lambda *x: jnp.concatenate(x), *conditions)
    # One call for all grids, so that the decoder is compiled once.
    drawn = family.draw(module.decode(given, _joined(latents))[0], given, key)
    cuts = [ROWS * columns, ROWS * columns + pairs * COLUMNS]
    grids = [x.reshape(rows, -1, *x.shape[1:]) for x, rows in zip(jnp.split(drawn, cuts), (ROWS, pairs, ROWS))]
    return {"reconstructions": reconstructions, **dict(zip(("samples", "interpolations", "traversals"), grids))}


def _rows(batch, indices):
    """The examples of a batch at these indices, given row by row."""
    return jax.tree.map(lambda x: x[jnp.asarray([i for row in indices for i in row])], batch)


def _repeated(batch, indices):
    """A row of copies of one example of the batch for each index."""
    return _rows(batch, [[i] * COLUMNS for i in indices])


def _joined(parts):
    """Latents by stage, concatenated along their examples."""
    return [jnp.concatenate(stage, axis=1) for stage in zip(*parts)]


def _between(a, b, steps):
    """Latents [layers, g, g, z] -> [layers, steps, g, g, z], from a to b along a great circle in each layer, with linear
    interpolation of the length (White 1609.04468). A straight line would pass through vectors shorter than both."""
    shape = a.shape
    a, b = a.reshape(shape[0], 1, -1), b.reshape(shape[0], 1, -1)
    length_a = jnp.maximum(jnp.linalg.norm(a, axis=-1, keepdims=True), 1e-6)
    length_b = jnp.maximum(jnp.linalg.norm(b, axis=-1, keepdims=True), 1e-6)
    cosine = jnp.clip((a * b).sum(-1, keepdims=True) / (length_a * length_b), -1, 1)
    angle, t = jnp.maximum(jnp.arccos(cosine), 1e-4), steps.reshape(1, -1, 1)
    direction = (jnp.sin((1 - t) * angle) * a / length_a + jnp.sin(t * angle) * b / length_b) / jnp.sin(angle)
    mixed = direction * ((1 - t) * length_a + t * length_b)
    return mixed.reshape(shape[0], steps.shape[0], *shape[1:])


def _traversals(means, found):
    """A row for each of the `ROWS` latent units with the largest mean KL: the latents of the first image with that unit
    moved."""
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
