"""The network of `scaling.families.transformer`: embedding, a stack of pre-norm blocks, readout."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes, nn
from scaling.families._family import scaled
from scaling.nn import attention, readout, remat


class Decoder(nnx.Module):
    """The whole network; `layers` holds its blocks, stacked."""

    def __init__(self, f, layers, draw):
        dtype = jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        std = f.width**-0.5 if f.tied else 1.0
        self.embed = nn.Table(draw, axes.TIED if f.tied else "vocab", f.vocab, f.width, std=std, dtype=dtype)
        self.position = (nn.Table(draw, "position", f.length, f.width, std=0.1, dtype=dtype)
                         if f.positions == "learned" else None)
        self.norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.readout = (None if f.tied else
                        nn.Linear(draw, {"embed": f.width}, {"vocab": f.vocab}, scale=f.width**-0.5,
                                  dtype=dtype))

    def __call__(self, tokens, cache=None):
        """Tokens, integer [B, S], and a cache or None -> float32 logits [B, S, vocab] and the cache with these tokens.

        A cache is {"k", "v": [layers, B, T, kv_heads, head_dim], "start": int32 [B]}. Row b of `tokens` holds the positions
        from start[b] on. See `scaling.families._generate`.
        """
        positions = jnp.arange(tokens.shape[1])[None]
        if cache is not None:
            positions = positions + cache["start"][:, None]
        x, kv = self.run(self.embed_at(tokens, positions), positions, cache and (cache["k"], cache["v"]))
        return self.logits(x), cache and {"k": kv[0], "v": kv[1], "start": cache["start"] + tokens.shape[1]}

    def embed_at(self, tokens, positions):
        """Tokens [B, S] at positions [B or 1, S] -> embeddings [B, S, width]."""
        x = self.embed(tokens)
        if self.family.tied:
            x = x * self.family.width**0.5
        if self.position is not None:
            x = x + jnp.broadcast_to(self.position(positions), x.shape)
        return nn.constrain(x, "embed")

    def run(self, x, positions, kv=None):
        """Embedded tokens [B, S, width] through all layers. `kv` is (keys, values) of the cache, or None."""
        graphdef, states = nnx.split(self.layers)

        def layer(x, state_and_cache):
            state, kv = state_and_cache
            return nnx.merge(graphdef, state)(x, positions, kv)

        layer = remat.recomputed(layer, self.family.remat)
        return nn.through_layers(layer, x, states, kv, unroll=1 if self.family.scan else self.family.layers)

    def logits(self, x):
        """Outputs of the last layer [B, S, width] -> float32 logits [B, S, vocab]."""
        f, x = self.family, self.norm(x)
        logits = nn.product(x, self._weight().astype(x.dtype), out=jnp.float32)
        logits = nn.constrain(logits, "vocab")
        return logits * f.logit_scale if f.logit_scale != 1.0 else logits

    def nats(self, tokens, targets):
        """Tokens and targets, integer [B, S] -> nats of the targets, float32 [B, S]."""
        x = self._hidden(tokens)
        if self._in_blocks(x):
            return readout.block_cross_entropy(self.norm(x), self._weight(), targets, self.family.logit_scale)
        return nn.cross_entropy(self.logits(x), targets)

    def scores(self, tokens, targets):
        """`nats`, and the likeliest words, int32 [B, S]."""
        x = self._hidden(tokens)
        if self._in_blocks(x):
            return readout.block_scores(self.norm(x), self._weight(), targets, self.family.logit_scale)
        logits = self.logits(x)
        return nn.cross_entropy(logits, targets), logits.argmax(-1)

    def _hidden(self, tokens):
        """Tokens [B, S] -> outputs of the last layer [B, S, width]."""
        positions = jnp.arange(tokens.shape[1])[None]
        return self.run(self.embed_at(tokens, positions), positions)[0]

    def _in_blocks(self, x):
        return readout.in_blocks(self.family.cross_entropy, x.shape[1], self.family.vocab)

    def _weight(self):
        """The weight of the readout, [width, vocab]."""
        return self.embed.weight[...].T * self.family.width**-0.5 if self.family.tied else self.readout.weight[...]


class DecoderBlock(nnx.Module):
    """A pre-norm block: x + s attention(norm(x)), then x + s mlp(norm(x)), where s is the factor of `Transformer.depth`."""

    def __init__(self, f, draw):
        scale, self.branch = (2 * (f.base_layers or f.layers)) ** -0.5, f.depth().branch
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.attention = Attention(f, draw, scale)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.mlp = nn.Mlp(draw, f.width, f.mlp, activation=f.activation, bias=f.biases, scale_out=scale,
                          dtype=jnp.dtype(f.dtype))

    def __call__(self, x, positions, kv=None):
        attended, kv = self.attention(self.attention_norm(x), positions, kv)
        x = x + scaled(attended, self.branch)
        return nn.constrain(x + scaled(self.mlp(self.mlp_norm(x)), self.branch), "embed"), kv


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
