"""Convolutions by products of shifted images are those of XLA, with their first and second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.devices import sharding
from scaling.nn import convolution
from scaling.training.program import options_for_one_call

CASES = {
    "3x3": lambda x, w, how: convolution.convolve(x, w, implementation=how),
    "in groups": lambda x, w, how: convolution.convolve(x, w, groups=2, implementation=how),
    "of stride two": lambda x, w, how: convolution.convolve(x, w, stride=2, implementation=how),
    "that doubles the side": lambda x, w, how: convolution.convolve_up(x, w, how),
}
WEIGHTS = {"3x3": (3, 3, 4, 6), "in groups": (3, 3, 2, 6), "of stride two": (4, 4, 4, 6),
           "that doubles the side": (4, 4, 4, 6)}


def derivatives(apply, x, w):
    """The convolution, the gradient of a loss by image and weight, and that of the length of the image's gradient."""
    def loss(x, w):
        return jnp.sin(apply(x, w)).sum()

    def slope(x, w):
        return jnp.square(jax.grad(loss)(x, w)).sum()

    def found(x, w):
        return apply(x, w), jax.grad(loss, (0, 1))(x, w), jax.grad(slope, (0, 1))(x, w)

    return jax.jit(found, compiler_options=options_for_one_call())(x, w)


@pytest.mark.parametrize("size", [(8, 6), (5, 7)])
@pytest.mark.parametrize("case", CASES)
def test_products_equal_xla_in_value_gradient_and_second_derivative(case, size):
    draw = np.random.default_rng(0)
    x, w = (jnp.asarray(draw.normal(size=shape, scale=0.3), jnp.float32) for shape in ((2, *size, 4), WEIGHTS[case]))
    theirs, ours = (derivatives(lambda x, w, how=how: CASES[case](x, w, how), x, w) for how in ("xla", "products"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("case", CASES)
def test_only_a_cpu_takes_products_by_itself(case):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 4), WEIGHTS[case])]

    def convolves(platform, how="auto"):
        with sharding.as_on(platform):
            return "conv_general_dilated" in str(jax.make_jaxpr(lambda x, w: CASES[case](x, w, how))(*arguments))

    assert not convolves("cpu") and convolves("gpu") and convolves("tpu")
    assert convolves("cpu", "xla") and not convolves("gpu", "products")
