"""Muon's products: however they are stacked, divided among devices and multiplied, updates and states are optax's."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sources import tiny

from scaling import axes, cost
from scaling.devices import sharding
from scaling.devices.layouts import make_mesh
from scaling.experiment import Optim
from scaling.pods import collectives, hlo
from scaling.pods.work import compiled_flops
from scaling.training import muon
from scaling.training.counts import step_flops_executed

PLAIN = {"optim.orthogonalise": "plain"}
# Five iterations, each of slope 3.44 at singular values of zero, make the rounding of float32 480 times as large: 3e-5.
ROUNDING = 1e-4


def parameters(scale=1.0):
    """Square, wide and tall matrices, stacked and alone, and what Muon leaves to Adam."""
    shapes = {"q": (3, 8, 2, 4), "out": (3, 2, 4, 8), "up": (3, 8, 32), "down": (3, 32, 8), "one": (8, 32),
              "table": (5, 8), "norm": (3, 8)}
    names = {"q": ("layers", "embed", "heads", "head_dim"), "out": ("layers", "heads", "head_dim", "embed"),
             "up": ("layers", "embed", "mlp"), "down": ("layers", "mlp", "embed"), "one": ("embed", "mlp"),
             "table": ("vocab", "embed"), "norm": ("layers", "embed")}
    rng = np.random.default_rng(0)
    return nnx.State({k: axes.param(jnp.asarray(scale * rng.normal(size=shape), jnp.float32), names[k])
                      for k, shape in shapes.items()})


def updates(orthogonalise, scale=1.0, steps=3):
    tx = muon.make_muon(Optim(name="muon", orthogonalise=orthogonalise))
    params, found = parameters(), []
    state, advance = jax.jit(tx.init)(params), jax.jit(tx.update)
    for step in range(steps):
        update, state = advance(parameters(scale * (1 + step)), state, params)
        found.append(update)
    return found, state


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_updates_and_states_are_those_of_optax(scale):
    (ours, ours_state), (plain, plain_state) = updates("auto", scale), updates("plain", scale)
    assert jax.tree.structure(ours_state) == jax.tree.structure(plain_state)  # checkpoints serve both
    for a, b in zip(jax.tree.leaves((ours, ours_state)), jax.tree.leaves((plain, plain_state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING * np.abs(b).max())


def test_gradients_of_zero_give_updates_of_zero():
    found, _ = updates("auto", scale=0.0)
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("kind", ["full", "low rank", "ill-conditioned"])
def test_iterating_on_small_matrices_is_as_exact_as_on_the_matrices(kind):
    rng, (rows, columns) = np.random.default_rng(0), (48, 160)
    x = rng.normal(size=(2, rows, columns))
    if kind == "low rank":
        x = rng.normal(size=(2, rows, 3)) @ rng.normal(size=(2, 3, columns))
    if kind == "ill-conditioned":
        u, _, v = np.linalg.svd(x, full_matrices=False)
        x = (u * 10.0 ** -np.linspace(0, 7, rows)) @ v
    x /= np.linalg.norm(x, axis=(1, 2), keepdims=True)
    exact = muon._on_matrices(x)  # NumPy, in float64
    small = jnp.asarray(x, jnp.float32)
    errors = [float(np.sqrt(np.mean((np.asarray(f(small)) - exact) ** 2) / np.mean(exact**2)))
              for f in (muon._by_grams, muon._on_matrices)]
    assert errors[0] < 4 * errors[1] + 1e-6 and errors[0] < 1e-4


def test_oblong_matrices_take_the_cheaper_products_and_square_ones_the_same():
    def flops(rows, columns, platform="cpu"):
        with sharding.as_on(platform):
            return cost.flops(lambda x: muon.newton_schulz(x), jax.ShapeDtypeStruct((1, rows, columns), "float32"))

    n = 16
    assert flops(n, n) == 30 * n**3
    assert flops(n, 4 * n) == 60 * n**3 and flops(n, 4 * n, "tpu") == flops(n, 4 * n, "cuda") == 90 * n**3
    e = tiny("transformer", **{"optim.name": "muon"})
    assert step_flops_executed(e) < step_flops_executed(e.replace(PLAIN))


def divided(layout, mesh, orthogonalise="auto", runs=1):
    """An update of packed runs under a layout on four devices, compiled: (program, gradients)."""
    mesh = make_mesh(runs, mesh, layout, jax.devices()[:4])
    tx = muon.make_muon(Optim(name="muon", orthogonalise=orthogonalise))
    pack = jax.tree.map(lambda x: jnp.stack([x * (1 + run) for run in range(runs)]), parameters())
    places = sharding.shardings(pack, mesh, layout)

    def update(gradients):
        with sharding.within(mesh, layout):
            return jax.vmap(lambda g: tx.update(g, tx.init(g), g)[0], spmd_axis_name="run")(gradients)

    return jax.jit(update, in_shardings=(places,), out_shardings=places).lower(pack).compile(), jax.device_put(pack, places)


@pytest.mark.parametrize(("layout", "mesh", "runs"), [
    ("data", "data=4", 1), ("data", "run=2,data=2", 2), ("fsdp", "data=2,fsdp=2", 1), ("tensor", "data=2,tensor=2", 1)])
def test_division_among_devices_changes_nothing(layout, mesh, runs):
    program, gradients = divided(layout, mesh, runs=runs)
    found = program(gradients)
    tx = muon.make_muon(Optim(name="muon", orthogonalise="plain"))
    plain = jax.jit(lambda own: tx.update(own, tx.init(own), own)[0])
    for run in range(runs):
        expected = plain(jax.tree.map(lambda x, run=run: jnp.asarray(np.asarray(x)[run]), gradients))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(np.asarray(a)[run], b, rtol=0, atol=ROUNDING * np.abs(b).max())


def test_each_device_computes_its_share_of_the_products():
    def flops(layout, orthogonalise="auto"):
        program, _ = divided(layout, "data=4", orthogonalise)
        return compiled_flops(hlo.HloModule(program.as_text()))

    whole, share, plain = flops("replicated"), flops("data"), flops("data", "plain")
    assert whole < plain  # both on every device, and the first in the cheaper form
    assert share == pytest.approx(whole * (2 * 30 + 2 * 60) / (6 * 30 + 7 * 60), rel=0.02)  # 2 of 6 squares, 2 of 7 others


@pytest.mark.parametrize(("layout", "mesh"), [("fsdp", "fsdp=4"), ("fsdp", "data=2,fsdp=2"), ("tensor", "tensor=2,data=2")])
def test_devices_exchange_parts_of_matrices_and_send_less(layout, mesh):
    def sent(orthogonalise):
        program, _ = divided(layout, mesh, orthogonalise)
        sizes = dict(make_mesh(1, mesh, layout, jax.devices()[:4]).shape)
        return sum(row.sent for row in collectives.read_collectives(hlo.HloModule(program.as_text()), sizes))

    assert sent("auto") < 0.75 * sent("plain")
