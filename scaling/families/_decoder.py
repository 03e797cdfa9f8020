"""The network of `scaling.families.transformer`: embedding, a stack of pre-norm blocks, readout."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import nn
from scaling.families._family import scaled
from scaling.families._language import LanguageNetwork
from scaling.fields import ConfigError
from scaling.nn import attention, remat


class Decoder(LanguageNetwork):
    """The whole network; `layers` holds its blocks, stacked."""

    def __init__(self, f, layers, draw):
        super().__init__(f, layers, draw, positions=f.positions == "learned", bias=f.biases, cap=f.logit_cap,
                         epsilon=f.norm_epsilon)

    def __call__(self, tokens, cache=None):
        """Tokens, integer [B, S], and a cache or None -> float32 logits [B, S, vocab] and the cache with these tokens.

        A cache is {"k", "v": [layers, B, T, kv_heads, head_dim], "start": int32 [B]}. Row b of `tokens` holds the places
        from start[b] on. With documents it also has "document", int32 [B]: the place where that of the next token begins.
        `init_cache` makes an empty one.
        """
        x, (kv, _), first = self._through(tokens, cache)
        if cache is not None:
            documents = {} if first is None else {"document": first[:, -1]}
            cache = {"k": kv[0], "v": kv[1], "start": cache["start"] + tokens.shape[1], **documents}
        return self.logits(x), cache

    def hidden(self, tokens, noise=None):
        """Tokens, integer [B, S] -> outputs of the last layer [B, S, width]. With `noise`, (key, numbers of the examples),
        there is dropout."""
        return self._through(tokens, noise=noise)[0]

    def hidden_and_routing(self, tokens, noise=None):
        """`hidden`, and what `nn.Experts` returns about the routing of each layer, [layers, B], or None without experts."""
        x, (_, routing), _ = self._through(tokens, noise=noise)
        return x, routing

    def _through(self, tokens, cache=None, noise=None):
        """(outputs of the last layer, (keys and values, routing), `document_starts` or None) of tokens, integer [B, S]."""
        positions, first, begins = jnp.arange(tokens.shape[1])[None], None, None
        if cache is not None:
            positions = positions + cache["start"][:, None]
        inside = positions
        if self.family.document_masking:
            begins = document_starts(tokens, positions, cache and cache["document"])
            first = begins[:, :-1]
            inside = positions - first
        kv = cache and (cache["k"], cache["v"])
        return *self.run(self.embed_at(tokens, inside), positions, kv, first, noise), begins

    def run(self, x, positions, kv=None, first=None, noise=None):
        """Embedded tokens [B, S, width] through all layers -> (outputs of the last one, (keys and values, routing)).

        `positions`, int32 [B or 1, S], are the places of the tokens in the text, and `first`, int32 [B, S] or None, those
        where their documents begin. `kv` is (keys, values) of the cache, or None. `noise` is that of `hidden`.
        """
        f, (graphdef, states) = self.family, nnx.split(self.layers)
        keys = None if noise is None else jax.random.split(noise[0], (f.layers + 1, 2))  # two branches in each layer

        def dropped(keys, branch, x):
            return x if noise is None else nn.dropout(x, f.dropout, keys[branch], noise[1])

        def layer(x, own):
            state, (kv, keys) = own
            return nnx.merge(graphdef, state)(x, positions, kv, first, functools.partial(dropped, keys))

        layer = remat.recomputed(layer, f.remat)
        outer, keys = (None, None) if keys is None else (keys[0], keys[1:])
        return nn.through_layers(layer, dropped(outer, 0, x), states, (kv, keys), unroll=1 if f.scan else f.layers)


def init_cache(family, batch, capacity, documents=False):
    """An empty cache for `batch` rows of up to `capacity` tokens, with `documents` or without; see `Decoder.__call__`."""
    shape = (family.layers, batch, capacity, family.kv_heads, family.head_dim)
    zeros, start = jnp.zeros(shape, family.dtype), jnp.zeros(batch, jnp.int32)
    return {"k": zeros, "v": zeros, "start": start} | ({"document": start} if documents else {})


def document_starts(tokens, places, before=None):
    """The place where the document of each token, and of the one after the last, begins: int32 [B, S+1].

    `tokens`, integer [B, S], are at `places`, int32 [B or 1, S]. Token 0 ends a document. `before`, int32 [B], is where the
    document of the first token begins, by default place 0.
    """
    before = jnp.zeros(len(tokens), jnp.int32) if before is None else before
    after = jnp.where(tokens == 0, jnp.broadcast_to(places, tokens.shape) + 1, 0)
    return lax.cummax(jnp.concatenate([before[:, None], after], axis=1), axis=1)


class DecoderBlock(nnx.Module):
    """A pre-norm block: x + s attention(norm(x)), then x + s mlp(norm(x)), where s is the factor of `Transformer.depth`. In
    a parallel one both branches read the same x. With experts, these are in the place of the MLP."""

    def __init__(self, f, draw):
        scale, self.branch = (2 * (f.base_layers or f.layers)) ** -0.5, f.depth().branch
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases, epsilon=f.norm_epsilon)
        self.attention = Attention(f, draw, scale, f.window, f.norm_epsilon, rotary_of(f), f.attention_biases)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases, epsilon=f.norm_epsilon)
        kw = dict(activation=f.activation, bias=f.biases, scale_out=scale, dtype=jnp.dtype(f.dtype))
        self.routed, self.parallel = f.experts > 0, f.parallel
        self.mlp = (nn.Experts(draw, f.width, f.mlp, f.experts, f.top_k, **kw) if self.routed else
                    nn.Mlp(draw, f.width, f.mlp, **kw))

    def __call__(self, x, positions, kv=None, first=None, dropped=lambda branch, y: y):
        """(x [B, S, width], (keys and values, routing)). `dropped(branch, y)` drops from what branch 0 or 1 writes."""
        attended, kv = self.attention(self.attention_norm(x), positions, kv, first)
        before, x = x, x + scaled(dropped(0, attended), self.branch)
        written = self.mlp(self.mlp_norm(before if self.parallel else x))
        written, routing = written if self.routed else (written, None)
        return nn.constrain(x + scaled(dropped(1, written), self.branch), "embed"), (kv, routing)


def check_experts(f):
    """Raise a ConfigError for fields of experts that do not go together."""
    if f.experts and f.top_k > f.experts:
        raise ConfigError(f"family.top_k={f.top_k} is more than family.experts={f.experts}; write at most {f.experts}")
    if not f.experts:
        for name in ("top_k", "expert_balance", "router_z_loss"):
            default = next(field.default for field in dataclasses.fields(f) if field.name == name)
            if getattr(f, name) != default:
                raise ConfigError(f"family.{name}={getattr(f, name)} needs experts; write family.experts=8 as well, or "
                                  f"family.{name}={default}")


def rotary_of(f) -> nn.Rotary:
    """How a family turns queries and keys."""
    return nn.Rotary(f.rope_base, f.rope_share, f.rope_scaling)


def check_rotary(f):
    """Raise a ConfigError for fields of rotary positions that cannot be, or that change nothing."""
    turned = rotary_of(f).turned(f.head_dim)
    if f.positions == "learned":
        for name, default in (("rope_base", 10_000), ("rope_share", 1), ("rope_scaling", "")):
            if getattr(f, name) != default:
                raise ConfigError(f"family.{name}={getattr(f, name)} changes nothing with family.positions=learned; leave "
                                  "it out, or write family.positions=rotary")
    elif turned % 2 or not turned:
        raise ConfigError(f"family.rope_share={f.rope_share} rotates {turned} of the {f.head_dim} dimensions of a head, "
                          f"which must be an even number from 2 on; write {(turned + turned % 2 or 2) / f.head_dim}")
    try:
        nn.read_scaling(f.rope_scaling)
    except ValueError:
        raise ConfigError(f"family.rope_scaling={f.rope_scaling} is not known; write linear:FACTOR, or "
                          "llama3:FACTOR,LOW,HIGH,LENGTH, such as llama3:8,1,4,8192") from None


class Attention(nnx.Module):
    """Causal self-attention within the last `window` tokens (0: all) and within a document, with a key-value cache when it
    generates. `biases` are of queries, keys and values ("qkv"), of what is written as well ("all"), or as `f.biases` says
    ("none")."""

    def __init__(self, f, draw, scale_out, window=0, epsilon=1e-6, rotary=None, biases="none"):
        self.family, self.window, self.rotary = f, window, rotary
        embed, head_dim = {"embed": f.width}, {"head_dim": f.head_dim}
        heads, kv_heads = {"heads": f.heads} | head_dim, {"kv_heads": f.kv_heads} | head_dim
        kw = dict(bias=f.biases or biases != "none", dtype=jnp.dtype(f.dtype))
        self.q = nn.Linear(draw, embed, heads, **kw)
        self.k = nn.Linear(draw, embed, kv_heads, **kw)
        self.v = nn.Linear(draw, embed, kv_heads, **kw)
        self.out = nn.Linear(draw, heads, embed, scale=scale_out, **kw | {"bias": f.biases or biases == "all"})
        self.q_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim, epsilon=epsilon) if f.qk_norm else None
        self.k_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim, epsilon=epsilon) if f.qk_norm else None

    def __call__(self, x, positions, kv=None, first=None):
        f, inside = self.family, positions if first is None else positions - first
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if f.positions == "rotary":
            q, k = nn.rotate(q, inside, self.rotary), nn.rotate(k, inside, self.rotary)
        if kv is None:
            return self.out(attention.causal(q, k, v, f.attention, self.window, first)), None
        k, v = _write(kv[0], k, positions[:, 0]), _write(kv[1], v, positions[:, 0])
        cached = jnp.arange(k.shape[1])[None, None]
        oldest = positions - (min(self.window, f.length) or f.length) + 1
        oldest = oldest if first is None else jnp.maximum(oldest, first)
        mask = (cached <= positions[:, :, None]) & (cached >= oldest[:, :, None])
        return self.out(attention.masked(q, k, v, mask)), (k, v)


def _write(cached, new, start):
    """cached [B, T, K, d] with new [B, S, K, d] written from position start[b] of each row b."""
    new = new.astype(cached.dtype)
    return jax.vmap(lambda c, n, s: lax.dynamic_update_slice_in_dim(c, n, s, 0))(cached, new, start)
