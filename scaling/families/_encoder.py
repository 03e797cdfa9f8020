"""A stack of bidirectional blocks: what families share that read a whole text before they say anything of it.

The family `f` of these functions has the fields `width`, `layers`, `heads`, `head_dim`, `mlp`, `norm`, `positions`,
`activation`, `qk_norm`, `biases`, `base_layers`, `dropout`, `dtype`, `scan` and `remat` as `Transformer` has them, and its
method `depth`. Embeddings, positions that are learned, the last norm and what comes after it are the family's own.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.families._family import scaled
from scaling.nn import attention, remat


def encoder_layers(f, key, epsilon=1e-6, rotary=None):
    """Fresh blocks for a family, stacked along an axis "layers", with the epsilon of their norms and how they rotate."""
    return axes.stack(functools.partial(EncoderBlock, f, epsilon, rotary), jax.random.split(key, f.layers))


def encode(f, layers, x, real=None, noise=None):
    """Embedded tokens [B, S, width] through blocks of `encoder_layers` -> outputs of the last one, [B, S, width].

    `real`, bool [B, S], is false at padding, which no other token sees; None is text everywhere. Outputs at padding mean
    nothing. With `noise`, (key, numbers of the examples, int32 [B]), a share `f.dropout` of the embeddings and of what each
    branch writes is dropped.
    """
    graphdef, states = nnx.split(layers)
    noise = noise if f.dropout else None
    keys = None if noise is None else jax.random.split(noise[0], (f.layers + 1, 2))  # two branches in each layer

    def dropped(x, key):
        return x if noise is None else nn.dropout(x, f.dropout, key, noise[1])

    def layer(x, own):
        state, keys = own
        keys = (None, None) if keys is None else keys
        return nnx.merge(graphdef, state)(x, real, [functools.partial(dropped, key=key) for key in keys]), None

    layer = remat.recomputed(layer, f.remat)
    first, rest = (None, None) if keys is None else (keys[0, 0], keys[1:])
    return nn.through_layers(layer, dropped(x, first), states, rest, unroll=1 if f.scan else f.layers)[0]


class EncoderBlock(nnx.Module):
    """A pre-norm block: x + s attention(norm(x)), then x + s mlp(norm(x)), where s is the factor of the family's `depth`.
    Both branches begin as those of `DecoderBlock` do."""

    def __init__(self, f, epsilon, rotary, draw):
        scale, self.branch = (2 * (f.base_layers or f.layers)) ** -0.5, f.depth().branch
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases, epsilon=epsilon)
        self.attention = EncoderAttention(f, draw, scale, epsilon, rotary)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases, epsilon=epsilon)
        self.mlp = nn.Mlp(draw, f.width, f.mlp, activation=f.activation, bias=f.biases, scale_out=scale,
                          dtype=jnp.dtype(f.dtype))

    def __call__(self, x, real, dropped):
        """`dropped` holds two functions, dropout of what each branch writes."""
        x = x + scaled(dropped[0](self.attention(self.attention_norm(x), real)), self.branch)
        return nn.constrain(x + scaled(dropped[1](self.mlp(self.mlp_norm(x))), self.branch), "embed")


class EncoderAttention(nnx.Module):
    """Self-attention in which every token sees every token that is no padding."""

    def __init__(self, f, draw, scale_out, epsilon, rotary):
        self.rotary = (rotary or nn.Rotary()) if f.positions == "rotary" else None
        embed, heads = {"embed": f.width}, {"heads": f.heads, "head_dim": f.head_dim}
        kw = dict(bias=f.biases, dtype=jnp.dtype(f.dtype))
        self.q = nn.Linear(draw, embed, heads, **kw)
        self.k = nn.Linear(draw, embed, heads, **kw)
        self.v = nn.Linear(draw, embed, heads, **kw)
        self.out = nn.Linear(draw, heads, embed, scale=scale_out, **kw)
        self.q_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim, epsilon=epsilon) if f.qk_norm else None
        self.k_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim, epsilon=epsilon) if f.qk_norm else None

    def __call__(self, x, real=None):
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            places = jnp.arange(x.shape[1])[None]
            q, k = nn.rotate(q, places, self.rotary), nn.rotate(k, places, self.rotary)
        return self.out(attention.full(q, k, v, real))
