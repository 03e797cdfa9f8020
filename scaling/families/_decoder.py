"""The network of `scaling.families.transformer`: embedding, a stack of pre-norm blocks, readout."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import nn
from scaling.families._family import scaled
from scaling.families._language import LanguageNetwork
from scaling.nn import attention, remat


class Decoder(LanguageNetwork):
    """The whole network; `layers` holds its blocks, stacked."""

    def __init__(self, f, layers, draw):
        super().__init__(f, layers, draw, positions=f.positions == "learned", bias=f.biases, cap=f.logit_cap)

    def __call__(self, tokens, cache=None):
        """Tokens, integer [B, S], and a cache or None -> float32 logits [B, S, vocab] and the cache with these tokens.

        A cache is {"k", "v": [layers, B, T, kv_heads, head_dim], "start": int32 [B]}. Row b of `tokens` holds the positions
        from start[b] on. `init_cache` makes an empty one.
        """
        positions = jnp.arange(tokens.shape[1])[None]
        if cache is not None:
            positions = positions + cache["start"][:, None]
        x, kv = self.run(self.embed_at(tokens, positions), positions, cache and (cache["k"], cache["v"]))
        return self.logits(x), cache and {"k": kv[0], "v": kv[1], "start": cache["start"] + tokens.shape[1]}

    def hidden(self, tokens, noise=None):
        """Tokens, integer [B, S] -> outputs of the last layer [B, S, width]. With `noise`, (key, numbers of the examples),
        there is dropout."""
        positions = jnp.arange(tokens.shape[1])[None]
        return self.run(self.embed_at(tokens, positions), positions, noise=noise)[0]

    def run(self, x, positions, kv=None, noise=None):
        """Embedded tokens [B, S, width] through all layers. `kv` is (keys, values) of the cache, or None, and `noise` is that
        of `hidden`."""
        f, (graphdef, states) = self.family, nnx.split(self.layers)
        keys = None if noise is None else jax.random.split(noise[0], (f.layers + 1, 2))  # two branches in each layer

        def dropped(keys, place, x):
            return x if noise is None else nn.dropout(x, f.dropout, keys[place], noise[1])

        def layer(x, own):
            state, (kv, keys) = own
            return nnx.merge(graphdef, state)(x, positions, kv, functools.partial(dropped, keys))

        layer = remat.recomputed(layer, f.remat)
        first, keys = (None, None) if keys is None else (keys[0], keys[1:])
        return nn.through_layers(layer, dropped(first, 0, x), states, (kv, keys), unroll=1 if f.scan else f.layers)


def init_cache(family, batch, capacity):
    """An empty cache for `batch` rows of up to `capacity` tokens; see `Decoder.__call__`."""
    shape = (family.layers, batch, capacity, family.kv_heads, family.head_dim)
    zeros = jnp.zeros(shape, family.dtype)
    return {"k": zeros, "v": zeros, "start": jnp.zeros(batch, jnp.int32)}


class DecoderBlock(nnx.Module):
    """A pre-norm block: x + s attention(norm(x)), then x + s mlp(norm(x)), where s is the factor of `Transformer.depth`."""

    def __init__(self, f, draw):
        scale, self.branch = (2 * (f.base_layers or f.layers)) ** -0.5, f.depth().branch
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.attention = Attention(f, draw, scale)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.mlp = nn.Mlp(draw, f.width, f.mlp, activation=f.activation, bias=f.biases, scale_out=scale,
                          dtype=jnp.dtype(f.dtype))

    def __call__(self, x, positions, kv, dropped):
        """`dropped(branch, y)` is dropout of what a branch, 0 or 1, writes."""
        attended, kv = self.attention(self.attention_norm(x), positions, kv)
        x = x + scaled(dropped(0, attended), self.branch)
        return nn.constrain(x + scaled(dropped(1, self.mlp(self.mlp_norm(x))), self.branch), "embed"), kv


class Attention(nnx.Module):
    """Causal self-attention, with a key-value cache when it generates."""

    def __init__(self, f, draw, scale_out):
        self.family = f
        embed, head_dim = {"embed": f.width}, {"head_dim": f.head_dim}
        heads, kv_heads = {"heads": f.heads} | head_dim, {"kv_heads": f.kv_heads} | head_dim
        kw = dict(bias=f.biases, dtype=jnp.dtype(f.dtype))
        self.q = nn.Linear(draw, embed, heads, **kw)
        self.k = nn.Linear(draw, embed, kv_heads, **kw)
        self.v = nn.Linear(draw, embed, kv_heads, **kw)
        self.out = nn.Linear(draw, heads, embed, scale=scale_out, **kw)
        self.q_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim) if f.qk_norm else None
        self.k_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim) if f.qk_norm else None

    def __call__(self, x, positions, kv=None):
        f = self.family
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if f.positions == "rotary":
            q, k = nn.rotate(q, positions), nn.rotate(k, positions)
        if kv is None:
            return self.out(attention.causal(q, k, v, f.attention)), None
        k, v = _write(kv[0], k, positions[:, 0]), _write(kv[1], v, positions[:, 0])
        cached = jnp.arange(k.shape[1])[None, None]
        mask = (cached <= positions[:, :, None]) & (cached > positions[:, :, None] - f.length)
        return self.out(attention.masked(q, k, v, mask)), (k, v)


def _write(cached, new, start):
    """cached [B, T, K, d] with new [B, S, K, d] written from position start[b] of each row b."""
    new = new.astype(cached.dtype)
    return jax.vmap(lambda c, n, s: lax.dynamic_update_slice_in_dim(c, n, s, 0))(cached, new, start)
