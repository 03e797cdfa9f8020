"""Mixtures of experts: MLPs of which each token uses the few that a router chooses for it (Shazeer et al. 1701.06538).

Every token goes through all of the experts chosen for it: none has a capacity, so none drops tokens. There are three ways
to compute the same, of which the first one alone lets experts lie on different devices:

* where a layout divides the model, every token goes through every expert, and the compiler divides the experts;
* on CPU, tokens are sorted by their expert and padded to blocks of one expert each. A step (forward and backward) of 8
  experts of width 128 over 2,048 tokens takes a fifth of the time of the other two there, and with 32 experts a fourteenth;
* elsewhere, and where FLOPs are counted, sorted tokens go through `jax.lax.ragged_dot`, whose FLOPs are those of the chosen
  experts alone. XLA's CPU backend computes it with all experts.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes
from scaling.devices import sharding
from scaling.nn.layers import Linear, constrain, hidden_units

BLOCK = 128  # tokens of a block at most; each block reads the weights of its expert


class Experts(nnx.Module):
    """A router and MLPs [experts] like `nn.Mlp`; the axis of their parameters is "experts", and fan-ins are those of one.

    The router is linear and float32. A token's output is the sum of those of the `top_k` experts of the highest
    probabilities, times these over their sum (GShard, Lepikhin et al. 2006.16668; Mixtral, Jiang et al. 2401.04088). A
    single one is multiplied by its probability itself, for else the router would have no gradient (Switch Transformer,
    Fedus et al. 2101.03961, equation 2).
    """

    def __init__(self, draw, width, hidden, experts, top_k, *, activation, bias=False, scale_out=1.0, dtype=jnp.float32):
        self.dtype, self.top_k, self.exact = dtype, top_k, activation == "exact_gelu"
        outer, inner = {"embed": width}, {"mlp": hidden}
        self.router = Linear(draw, outer, {"choices": experts}, scale=width**-0.5)  # so that all experts begin likely
        self.up = ExpertMaps(draw, experts, outer, inner, bias=bias)
        self.gate = ExpertMaps(draw, experts, outer, inner, bias=bias) if activation == "swiglu" else None
        self.down = ExpertMaps(draw, experts, inner, outer, bias=bias, scale=scale_out)

    def __call__(self, x):
        """x [B, S, width] -> (outputs [B, S, width], {"balance", "router_z", "busiest"}: float32 [B]); see `routing`."""
        logits = self.router(x.astype(jnp.float32))
        probability = jax.nn.softmax(logits, axis=-1)
        shares, chosen = lax.top_k(probability, self.top_k)
        if self.top_k > 1:
            shares = shares / shares.sum(-1, keepdims=True)
        x, shares = x.astype(self.dtype), shares.astype(self.dtype)
        return constrain(self._mixed(x, shares, chosen), "embed"), routing(logits, probability, chosen)

    def _mixed(self, x, shares, chosen):
        """The sum of outputs of the experts `chosen`, int32 [B, S, top_k], times their `shares`."""
        if sharding.divided():
            return self._everywhere(x, shares, chosen)
        way = _in_blocks if sharding.platform() == "cpu" and not sharding.plain() else _ragged
        parts = math.gcd(sharding.shards("batch"), len(x))  # each device sorts its own tokens
        flat = [y.reshape(parts, -1, y.shape[-1]) for y in (x, shares, chosen)]
        own = functools.partial(way, self._mlp, self.router.weight.shape[-1])
        found = jax.vmap(own)(*flat) if parts > 1 else own(*(y[0] for y in flat))
        return found.reshape(x.shape)

    def _everywhere(self, x, shares, chosen):
        """All tokens through all experts, whose outputs not chosen have a share of 0."""
        of_each = (jax.nn.one_hot(chosen, self.router.weight.shape[-1], dtype=x.dtype) * shares[..., None]).sum(-2)

        def multiply(maps, x):
            names = ("experts", "routed", "length", maps.names[-1])
            weight = maps.weight[...].astype(x.dtype)
            y = jnp.einsum("bsi,eio->ebso" if x.ndim == 3 else "ebsi,eio->ebso", x, weight)
            return sharding.activation(maps.shifted(y, lambda bias: bias[:, None, None]), *names)

        x = sharding.activation(x, "routed", "length", "embed")
        return jnp.einsum("ebsw,bse->bsw", self._mlp(multiply, x), of_each)

    def _mlp(self, multiply, x):
        """The MLP of each row's expert, where `multiply(maps, x)` is a product of each row with its expert's map."""
        up = multiply(self.up, x)
        return multiply(self.down, hidden_units(up, self.gate and multiply(self.gate, x), self.exact))


class ExpertMaps(nnx.Module):
    """The weights [experts, *inputs, *outputs] of a linear map for each expert, of std `scale / sqrt(inputs)`."""

    def __init__(self, draw, experts, inputs, outputs, *, bias, scale=1.0):
        sizes = {"experts": experts} | inputs | outputs
        (fan_in,), self.names = inputs.values(), tuple(sizes)
        self.weight = axes.param(scale * fan_in**-0.5 * draw(tuple(sizes.values())), self.names)
        self.bias = axes.param(jnp.zeros((experts, *outputs.values())), ("experts", *outputs)) if bias else None

    def shifted(self, y, rows):
        """y with `rows` of the bias added: an array of as many dimensions as y."""
        return y if self.bias is None else y + jnp.broadcast_to(rows(self.bias[...].astype(y.dtype)), y.shape)


def routing(logits, probability, chosen):
    """How a router spreads the tokens of each example, float32 [B] each. `logits` and `probability` are [B, S, experts].

    * "balance": experts * sum_i f_i P_i, where f_i is the share of choices that are expert i and P_i its mean probability:
      1 where all are equal (Switch Transformer, Fedus et al. 2101.03961, equations 4 to 6). The sums are over the tokens of
      an example, as in DeepSeek-V3 (2412.19437, equations 17 to 20), so that no microbatch or device changes a run;
    * "router_z": the mean square of the logarithm of the sum of exponentials (ST-MoE, Zoph et al. 2202.08906, equation 5);
    * "busiest": the largest f_i times the number of experts: 1 where all have equally many tokens.
    """
    experts = logits.shape[-1]
    load = jax.nn.one_hot(chosen, experts).mean((1, 2))
    return {"balance": experts * (load * probability.mean(1)).sum(-1),
            "router_z": jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean(-1), "busiest": experts * load.max(-1)}


def _ragged(mlp, experts, x, shares, chosen):
    """Rows [T, width] through their experts by ragged products of the rows that are sorted by expert."""
    order, own, sizes = _sorted(experts, chosen)

    def multiply(maps, rows):
        return maps.shifted(lax.ragged_dot(rows, maps.weight[...].astype(rows.dtype), sizes), lambda bias: bias[own])

    return _summed(mlp(multiply, x[order // chosen.shape[1]]), jnp.argsort(order), shares)


def _in_blocks(mlp, experts, x, shares, chosen):
    """As `_ragged`, in blocks of rows of one expert each. The last block of an expert is filled up with zeros."""
    count = chosen.size
    block = min(BLOCK, max(8, count // (2 * experts) // 8 * 8))
    order, own, sizes = _sorted(experts, chosen)
    blocks = -(-count // block) + experts  # enough, wherever the tokens go
    ends = jnp.cumsum(-(-sizes // block))
    of_block = jnp.minimum(jnp.searchsorted(ends, jnp.arange(blocks), side="right"), experts - 1)
    first = block * jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]]) - jnp.cumsum(sizes) + sizes
    places = jnp.arange(count) + first[own]
    rows = jnp.zeros((blocks * block, x.shape[1]), x.dtype).at[places].set(x[order // chosen.shape[1]], unique_indices=True)

    def multiply(maps, rows):
        y = _block_products(rows, maps.weight[...].astype(rows.dtype), of_block)
        return maps.shifted(y, lambda bias: bias[of_block][:, None])

    outputs = mlp(multiply, rows.reshape(blocks, block, -1)).reshape(blocks * block, -1)
    return _summed(outputs, places[jnp.argsort(order)], shares)


@functools.partial(jax.checkpoint, prevent_cse=False)  # so that the copies of weights are made again, and not kept
def _block_products(rows, weight, of_block):
    return jnp.einsum("nbi,nio->nbo", rows, weight[of_block])


def _sorted(experts, chosen):
    """(the choices [T * top_k] sorted by expert, the expert of each, how many each expert has)."""
    flat = chosen.reshape(-1)
    order = jnp.argsort(flat)
    return order, flat[order], jnp.bincount(flat, length=experts)


def _summed(outputs, places, shares):
    """The sum of each token's outputs, which lie at `places`, times their shares [T, top_k]."""
    return (outputs[places].reshape(*shares.shape, -1) * shares[..., None]).sum(1)
