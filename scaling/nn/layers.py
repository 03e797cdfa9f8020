"""Building blocks: linear maps, norms, embeddings, MLPs, patches, noise, cross-entropy.

Modules are `nnx.Module`s used as immutable trees: they hold parameters with named axes and no other state. Their
constructors take `draw(shape)`, a source of standard normals (see `scaling.axes.drawn`). Parameters are float32; `dtype`
is the type of the computation.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes
from scaling.devices import sharding


def along(vector, x, axis=-1):
    """`vector` [n] reshaped to broadcast along one axis of `x`. Tests make implicit rank promotion an error."""
    shape = [1] * x.ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def constrain(x, *features):
    """Activations of vectors [B, *features], sequences [B, S, *features] or images [B, H, W, *features], constrained to lie
    where the layout in force puts axes of these names; see `scaling.devices.sharding.activation`."""
    places = {1: ("batch",), 2: ("batch", "length"), 3: ("batch", "height", "width")}[x.ndim - len(features)]
    return sharding.activation(x, *places, *features)


def product(x, weight, contracted=1, out=None):
    """x [..., *inputs] times weight [*inputs, *outputs], summed over `contracted` axes: [..., *outputs] of type `out`."""
    out = x.dtype if out is None else out
    if sharding.platform() != "cpu" or sharding.divided() or sharding.plain():
        return jnp.tensordot(x, weight, contracted, preferred_element_type=out)
    rows, columns = x.shape[:x.ndim - contracted], weight.shape[contracted:]
    fan_in = math.prod(weight.shape[:contracted])
    y = _matmul(x.reshape(-1, fan_in), weight.reshape(fan_in, -1), jnp.dtype(out))
    return y.reshape(*rows, *columns)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _matmul(x, weight, out):
    """x @ weight with a backward pass that writes its transposes to memory. On CPU that is up to twice as fast as XLA's own
    backward pass, which folds the transposes into the products and then finds no fast kernel for them."""
    return jnp.matmul(x, weight, preferred_element_type=out)


def _matmul_backward(out, saved, d_y):
    x, weight = saved
    d_y = d_y.astype(x.dtype)
    return d_y @ lax.optimization_barrier(weight.T), lax.optimization_barrier(x.T) @ d_y


def _matmul_forward(x, weight, out):
    return jnp.matmul(x, weight, preferred_element_type=out), (x, weight)  # plainly, so that policies of remat see it


_matmul.defvjp(_matmul_forward, _matmul_backward)


class Linear(nnx.Module):
    """A linear map from the trailing axes `inputs` to the axes `outputs`, both {axis name: size}.

    The weight has std `scale / sqrt(fan_in)` (LeCun 1998), so `scale=1` keeps the variance of a unit input.
    """

    def __init__(self, draw, inputs, outputs, *, bias=False, scale=1.0, dtype=jnp.float32):
        self.dtype, self.contracted, self.outputs = dtype, len(inputs), tuple(outputs)
        sizes = inputs | outputs
        std = scale / math.sqrt(math.prod(inputs.values()))
        self.weight = axes.param(std * draw(tuple(sizes.values())), tuple(sizes))
        self.bias = axes.param(jnp.zeros(tuple(outputs.values())), tuple(outputs)) if bias else None

    def __call__(self, x):
        y = product(x.astype(self.dtype), self.weight[...].astype(self.dtype), self.contracted)
        y = constrain(y, *self.outputs)
        if self.bias is None:
            return y
        return y + jnp.expand_dims(self.bias[...].astype(self.dtype), range(y.ndim - self.bias[...].ndim))


class Norm(nnx.Module):
    """RMSNorm (Zhang & Sennrich 2019, eq. 4) or LayerNorm (Ba et al. 2016) of the last axis, in float32."""

    def __init__(self, kind, axis, size, *, bias=False, epsilon=1e-6):
        self.kind, self.epsilon = kind, epsilon
        self.scale = axes.param(jnp.ones(size), (axis,))
        self.bias = axes.param(jnp.zeros(size), (axis,)) if bias else None

    def __call__(self, x):
        bias = None if self.bias is None else self.bias[...]
        return _normalise(x, self.scale[...], bias, self.kind, self.epsilon)


# Elementwise work is recomputed in the backward pass. Saving its results for every layer takes most of the memory and
# more time: with recomputation a step of a small Transformer on a CPU takes 0.8 of the time.
_recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(_recomputed, static_argnums=(3, 4))
def _normalise(x, scale, bias, kind, epsilon):
    y = x.astype(jnp.float32)
    if kind == "layernorm":
        y = y - y.mean(-1, keepdims=True)
    y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon) * along(scale, y)
    return (y if bias is None else y + along(bias, y)).astype(x.dtype)


@_recomputed
def _swiglu(gate, up):
    return jax.nn.silu(gate) * up


ACTIVATIONS = ("swiglu", "gelu", "exact_gelu")  # of MLPs; the second approximates the third by tanh, as in GPT-2
_gelu = _recomputed(jax.nn.gelu)
_exact_gelu = _recomputed(functools.partial(jax.nn.gelu, approximate=False))


def hidden_units(up, gate=None, exact=False):
    """GELU of `up`, approximate or exact, or SwiGLU of `up` with a gate."""
    if gate is not None:
        return _swiglu(gate, up)
    return _exact_gelu(up) if exact else _gelu(up)


class Mlp(nnx.Module):
    """Two layers with GELU (Hendrycks & Gimpel 2016) or SwiGLU (Shazeer 2020, eq. 6), which has one matrix more."""

    def __init__(self, draw, width, hidden, *, activation, bias=False, scale_out=1.0, dtype=jnp.float32):
        self.exact = activation == "exact_gelu"
        outer, inner, kw = {"embed": width}, {"mlp": hidden}, dict(bias=bias, dtype=dtype)
        self.up = Linear(draw, outer, inner, **kw)
        self.gate = Linear(draw, outer, inner, **kw) if activation == "swiglu" else None
        self.down = Linear(draw, inner, outer, scale=scale_out, **kw)

    def __call__(self, x):
        up = self.up(x)
        return self.down(hidden_units(up, self.gate and self.gate(x), self.exact))


class Table(nnx.Module):
    """A lookup table: integers [...] -> rows [..., width]. `axis` names the rows, "vocab" or "position"."""

    def __init__(self, draw, axis, rows, width, *, std=1.0, dtype=jnp.float32):
        self.axis, self.dtype = axis, dtype
        self.weight = axes.param(std * draw((rows, width)), (axis, "embed"))

    def __call__(self, index):
        # Without this constraint XLA would gather the looked-up rows.
        rows = sharding.activation(self.weight[...].astype(self.dtype), self.axis, "embed")
        return rows[index]


def noise(key, examples, shape, kind="normal"):
    """float32 [B, *shape]: a draw ("normal" or "uniform") for each example, from the key and the number of the example.

    `examples`, int32 [B], holds the numbers. A draw does not depend on the other examples of the batch, microbatch or
    device.
    """
    draw = {"normal": jax.random.normal, "uniform": jax.random.uniform}[kind]
    return jax.vmap(lambda example: draw(jax.random.fold_in(key, example), shape))(examples)


def patches(x, size):
    """Images [B, H, W, C] -> square patches, row by row, [B, H/size * W/size, size * size * C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


def unpatch(x, size, channels):
    """The inverse of `patches` for square images: [B, tokens, size * size * C] -> [B, H, H, C]."""
    batch, side = x.shape[0], math.isqrt(x.shape[1])
    x = x.reshape(batch, side, side, size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, side * size, side * size, channels)


def upsample(x, factor=2):
    """[B, H, W, C] -> [B, factor * H, factor * W, C], each pixel repeated."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, factor, width, factor, channels))
    return x.reshape(batch, factor * height, factor * width, channels)


def downsample(x, factor=2):
    """[B, H, W, C] -> [B, H / factor, W / factor, C], each pixel the mean of a square of `factor` by `factor`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // factor, factor, width // factor, factor, channels).mean((2, 4))


def cross_entropy(logits, targets):
    """Nats of each target: logits float [..., vocab], targets integer [...] -> float32 [...]."""
    return nats_and_log_sums(logits, targets)[0]


def nats_and_log_sums(logits, targets):
    """(`cross_entropy`, the logarithms of the sums of the exponentials of the logits, float32 [...]).

    A mask picks the target's logit, because its gradient is elementwise. The gradient of a gather is a slow scatter.
    """
    logits = logits.astype(jnp.float32)
    classes = along(jnp.arange(logits.shape[-1]), logits)
    picked = jnp.where(classes == targets[..., None], logits, 0.0).sum(-1)
    log_sums = jax.nn.logsumexp(logits, axis=-1)
    return log_sums - picked, log_sums


def capped(logits, cap: float):
    """cap tanh(logits / cap), between -cap and cap (Gemma 2, 2408.00118, section 2). A cap of 0 leaves logits alone."""
    return cap * jnp.tanh(logits / cap) if cap else logits


def dropout(x, rate, key, examples):
    """x [B, ...] with a share `rate` of its entries zero and the rest divided by 1 - rate (Srivastava et al. 2014).

    `examples`, int32 [B], holds the numbers of the examples; see `noise`.
    """
    kept = noise(key, examples, x.shape[1:], "uniform") >= rate
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
