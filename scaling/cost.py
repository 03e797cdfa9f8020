"""Parameters, bytes and FLOPs, counted from the traced program.

FLOPs are those of matrix products and convolutions, a multiply and an add each, read off the jaxpr. Elementwise work is
left out (Kaplan et al. 2020, section 2.1). Two counts are kept apart:

* the FLOPs of the model, which are C: forward and backward pass, with causal attention at half of its square, or at what
  a window leaves of it. They do not depend on the platform, the attention kernel, rematerialisation, the optimiser, or
  where documents end;
* the FLOPs that are executed: `flops` of a function as it runs here, in which recomputation counts again.
"""

import fractions
import functools
import itertools
import math
import re

import jax
from jax.extend import core

from scaling import axes
from scaling.devices import sharding
from scaling.devices.remembered import remembered
from scaling.fields import at_defaults

CAUSAL_SCOPE = "causal_attention"  # the name scope of the products of causal attention, see `causal_scope`
WINDOW = re.compile(CAUSAL_SCOPE + r"_(\d+)_of_(\d+)")
CANONICAL = "tpu"  # the platform whose form of a model is counted: dense convolutions, attention over the whole square
# Primitives that do matrix work inside, which this module cannot see.
_OPAQUE = {"pallas_call", "ffi_call", "pure_callback", "io_callback",
           "triangular_solve", "cholesky", "lu", "qr", "eigh", "eig", "svd", "schur"}


def flops(fn, *args, trips=None) -> int:
    """FLOPs of `fn(*args)` as it is executed, over all devices; the arguments may be abstract (`jax.ShapeDtypeStruct`).

    Loops count as often as they run, recomputation counts again, and causal attention counts the part of the square
    that its implementation computes. A `while_loop` does not say how often it runs: `trips` does, for every such loop
    inside. Of the branches of a `cond` the most expensive one is counted.
    """
    return _count(jax.make_jaxpr(fn)(*args).jaxpr, trips)


@functools.lru_cache(maxsize=1024)
@remembered()
def player_flops(family, batch_size: int, trainable: str = "all") -> dict[str, int]:
    """{player: FLOPs of the model in one step on one batch}: losses and gradients, as often as the player is named.

    Gradients are those of the part of the parameters that trains, and of what lies between it and the loss; see
    `axes.trainable_part`. A solved family counts as one player.
    """
    family, out = at_defaults(family), {}
    if not family.players():
        return {"model": family.solve_flops(batch_size)}
    with sharding.as_on(CANONICAL, plain=True):
        arguments = _abstract(family, batch_size)
        for name, loss in family.players():
            jaxpr = jax.make_jaxpr(functools.partial(_gradient, name, loss, rule=trainable))(*arguments).jaxpr
            out[name] = out.get(name, 0) + _count(jaxpr, None, whole=False)
    return out


def train_flops(family, batch_size: int, trainable: str = "all") -> int:
    """FLOPs of the model in one training step on one batch, all players together: C of one step."""
    return sum(player_flops(family, batch_size, trainable).values())


def _gradient(name, loss, params, batch, key, rule="all"):
    def of_part(part):
        with axes.training(rule):
            return loss({**params, name: axes.with_trainable_part(params[name], part, rule)}, batch, key)[0]
    return jax.grad(of_part)(axes.trainable_part(params[name], rule))


@functools.lru_cache(maxsize=1024)
@remembered(sharding.platform)
def forward_flops(family, batch_size: int) -> int:
    """FLOPs that evaluating the family on one batch executes."""
    return flops(family.evaluate, *_abstract(family, batch_size))


def convolves(family) -> bool:
    """Whether a loss of the family, in the form that is traced now, has convolutions, which some backends want outside of
    compiled loops."""
    return _convolves(family, sharding.platform(), "plain" if sharding.plain() else "fast")


@functools.lru_cache(maxsize=1024)
@remembered()
def _convolves(family, platform, form):
    with sharding.as_on(platform, form == "plain"):
        arguments = _abstract(family, 1)
        return any(_contains(jax.make_jaxpr(loss)(*arguments).jaxpr, "conv_general_dilated")
                   for _, loss in family.players())


def _contains(jaxpr, primitive) -> bool:
    return any(equation.primitive.name == primitive
               or any(_contains(inner, primitive) for inner in _jaxprs(equation.params.values()))
               for equation in jaxpr.eqns)


def six_nd(params: float, units: float) -> float:
    """The usual estimate of training FLOPs, 6 for each parameter and token (Kaplan et al. 2020, 2.1)."""
    return 6 * params * units


@functools.lru_cache(maxsize=1024)  # a network is traced in half a second, and a study asks a hundred times
@remembered()
def param_count(family) -> dict:
    """`axes.count_parameters` of the family's parameters, without making them; to be read only."""
    return axes.count_parameters(jax.eval_shape(family.init, jax.random.key(0)))


def active_count(family) -> int:
    """The number of non-embedding parameters that one token uses: of experts, the `top_k` of the family's `experts`."""
    count = param_count(family)
    routed = sum(n for names, n in count["by_axes"].items() if axes.EXPERTS in names.split())
    return count["non_embedding"] - (routed - routed * family.top_k // family.experts if routed else 0)


def trainable_count(family, trainable: str) -> int:
    """The number of parameters that train under a rule of `axes.trainable_part`."""
    return axes.count_parameters(jax.eval_shape(lambda: {
        name: axes.trainable_part(own, trainable) for name, own in family.init(jax.random.key(0)).items()}))["total"]


def nbytes(tree) -> int:
    """Bytes of all arrays of a tree, which may be abstract."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _abstract(family, batch_size):
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = dict(jax.eval_shape(lambda key: family.example_batch(batch_size, key), key))
    batch |= {name: jax.ShapeDtypeStruct((batch_size,), "int32") for name in ("example", "step")}
    return jax.eval_shape(family.init, key), batch, key


def causal_scope(window: int, length: int) -> str:
    """The name scope of causal attention over sequences of this length, whose queries see `window` positions (0: all)."""
    return f"{CAUSAL_SCOPE}_{window}_of_{length}" if window else CAUSAL_SCOPE


def _visible(equation) -> fractions.Fraction:
    """The share of the square of queries and keys that counts for products inside causal attention: its half, less the
    triangle that lies before a window, (1 - window / length)^2 / 2."""
    found = WINDOW.search(str(equation.source_info.name_stack))
    window, length = map(int, found.groups()) if found else (1, 1)
    return fractions.Fraction(length**2 - (length - window)**2, 2 * length**2)


def _count(jaxpr, trips, whole=True):
    """FLOPs of a jaxpr; products inside causal attention count for the `whole` square, or for what is visible of it."""
    return sum(_equation(equation, trips, whole) for equation in jaxpr.eqns)


def _equation(equation, trips, whole):
    name, params = equation.primitive.name, equation.params
    share = 1 if whole or CAUSAL_SCOPE not in str(equation.source_info.name_stack) else _visible(equation)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        return int(share * 2 * math.prod(out) * math.prod(lhs[i] for i in contracted))
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "ragged_dot_general":
        return _ragged_product(equation)
    if name.startswith("dot_product_attention"):
        return int(share * _fused_attention(equation))
    if name == "pallas_call" and "splash_mha" in _kernel_name(params):
        return _splash_attention(equation)
    if name in _OPAQUE:
        raise ValueError(f"cannot count the FLOPs inside the primitive {name!r}; express it with matrix "
                         "products, or count that part by hand")
    inner = [_count(j, trips, whole) for j in _jaxprs(params.values())]
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "while":
        if trips is None and sum(inner):
            raise ValueError("a while_loop with matrix products inside does not say how often it runs; pass "
                             "flops(..., trips=number of iterations), or write a loop of static length")
        return (trips or 0) * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "shard_map":
        return params["mesh"].size * sum(inner)
    return sum(inner)


def _jaxprs(values):
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _jaxprs(value)


def _ragged_product(equation):
    """A multiply and an add for each element of the rows and each column of their own group's matrix."""
    rows, matrices = (v.aval.shape for v in equation.invars[:2])
    dimensions = equation.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batch) = dimensions.dot_dimension_numbers
    shared = {*contracted, *batch, *dimensions.rhs_group_dimensions}
    return 2 * math.prod(rows) * math.prod(n for i, n in enumerate(matrices) if i not in shared)


def _convolution(equation):
    """A multiply and an add for each pair of tap and output whose input is neither padding nor a hole."""
    lhs, rhs = (v.aval.shape for v in equation.invars)
    out, p = equation.outvars[0].aval.shape, equation.params
    n = p["dimension_numbers"]
    pairs = 1
    for i, (low, _) in enumerate(p["padding"]):
        size, taps = lhs[n.lhs_spec[2 + i]], rhs[n.rhs_spec[2 + i]]
        places = ((o * p["window_strides"][i] + t * p["rhs_dilation"][i] - low)
                  for o, t in itertools.product(range(out[n.out_spec[2 + i]]), range(taps)))
        dilation = p["lhs_dilation"][i]
        pairs *= sum(at >= 0 and at % dilation == 0 and at // dilation < size for at in places)
    batch, features = out[n.out_spec[0]], out[n.out_spec[1]]
    return 2 * pairs * batch * features * rhs[n.rhs_spec[1]]


def _fused_attention(equation):
    """cuDNN's attention, over the whole square: two products forward, five backward (scores recomputed)."""
    q, k = (v.aval.shape for v in equation.invars[:2])  # [B, S, H, d], [B, T, K, d]
    products = 5 if "bwd" in equation.primitive.name else 2
    return products * 2 * math.prod(q) * k[1]


def splash_flops(name: str, sequences: int, length: int, keys: int, size: int, block: int) -> int:
    """FLOPs that a kernel of splash attention executes for `sequences` heads of `length` queries and as many keys or more:
    two products forward, and five backward in its one kernel for all gradients (scores recomputed), in the blocks that the
    causal mask does not empty. Where devices divide the queries it is the work of the one with the last of them."""
    products, rows, columns = (5 if "dkv" in name else 2), length // block, keys // block
    return products * 2 * sequences * size * block**2 * (rows * columns - rows * (rows - 1) // 2)


def _kernel_name(params) -> str:
    return str(params.get("name") or params.get("name_and_src_info") or "")


def _splash_attention(equation):
    """The queries [..., S, d] come after the arrays that steer the grid; their block is that of the first array."""
    grid = equation.params["grid_mapping"]
    first = grid.num_index_operands + grid.num_dynamic_grid_bounds
    q, k = (x.aval.shape for x in equation.invars[first:first + 2])
    block = grid.block_mappings[0].block_aval.shape[-2]
    return splash_flops(_kernel_name(equation.params), math.prod(q[:-2]), q[-2], k[-2], q[-1], block)
