"""The decoder-only Transformer language model."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import attention, axes, nn
from scaling.families import Player

CHOICES = {
    "norm": ("rmsnorm", "layernorm"),
    "positions": ("rotary", "learned"),
    "activation": ("swiglu", "gelu"),
    "dtype": ("float32", "bfloat16"),
    "attention": attention.IMPLEMENTATIONS,
}


@dataclasses.dataclass(frozen=True)
class Transformer:
    """Sizes of a pre-norm decoder-only Transformer (Vaswani et al. 2017; Radford et al. 2019).

    Sizes left at None are derived from the width when the object is made; `dataclasses.replace(f, width=...)` keeps
    what was derived before unless the fields are set to None again. Parameters are float32 and so are the softmax
    and the logits, whatever `dtype` the rest is computed in.

    Initialisation: matrices are normal with std 1/sqrt(fan_in); the two that write to the residual stream have
    1/sqrt(2 layers) of that (GPT-2, Radford et al. 2019, section 2.3); the readout has std 1/width, which is muP's
    (Yang et al. 2021, arXiv:2203.03466, table 3) and makes the first loss log(vocab); embeddings have std 1 when
    untied. Tied ones have std 1/sqrt(width), times sqrt(width) on the way in (Vaswani et al., section 3.4) and
    1/sqrt(width) on the way out (T5, Raffel et al. 2020), without which each token would predict itself.
    """

    vocab: int = 256
    length: int = 256
    width: int = 64
    layers: int = 3
    heads: int | None = None
    kv_heads: int | None = None  # as many as heads: multi-head attention
    head_dim: int | None = None
    mlp: int | None = None
    norm: str = "rmsnorm"
    positions: str = "rotary"
    activation: str = "swiglu"
    qk_norm: bool = True  # Dehghani et al. 2023; lets one learning rate serve more sizes, Wortsman et al. 2023
    tied: bool = False
    biases: bool = False
    logit_scale: float = 1.0
    dtype: str = "float32"
    attention: str = "auto"
    scan: bool = True
    remat: bool = False

    def __post_init__(self):
        derive = functools.partial(object.__setattr__, self)
        if self.heads is None:
            derive("heads", _heads(self.width) if self.head_dim is None else max(1, self.width // self.head_dim))
        if self.kv_heads is None:
            derive("kv_heads", self.heads)
        if self.head_dim is None:
            derive("head_dim", self.width // self.heads)
        if self.mlp is None:
            derive("mlp", _mlp(self.width, self.activation))
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"Transformer.{field} is {getattr(self, field)!r}; choose one of {choices}")
        for field in ("vocab", "length", "width", "layers", "heads", "kv_heads", "head_dim", "mlp"):
            if getattr(self, field) < 1:
                raise ValueError(f"Transformer.{field} is {getattr(self, field)}; it must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"Transformer.kv_heads={self.kv_heads} must divide heads={self.heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"Transformer.head_dim={self.head_dim} must be even for rotary positions")

    def init(self, key):
        return {"model": nnx.state(Decoder(self, key))}

    def players(self):
        return (Player("model", self.loss),)

    def logits(self, params, tokens):
        """Tokens, integer [B, S] -> float32 [B, S, vocab]: scores of the token after each one."""
        return self.module(params)(tokens)[0]

    def loss(self, params, batch, key):
        """Mean nats per token. The batch is {"tokens": integer [B, S+1]}; the key is unused."""
        del key
        loss = self._nats(params, batch)[1].mean()
        return loss, {"loss": loss}

    def evaluate(self, params, batch, key):
        """Sums and counts of "loss" (nats per token), "accuracy" and, given {"bytes": integer [B, S]}, of "bits_per_byte"."""
        del key
        logits, nats = self._nats(params, batch)
        right = logits.argmax(-1) == batch["tokens"][:, 1:]
        tokens = jnp.float32(nats.size)
        sums = {"loss": (nats.sum(), tokens), "accuracy": (right.sum(dtype=jnp.float32), tokens)}
        if "bytes" in batch:
            sums["bits_per_byte"] = (nats.sum() / math.log(2), batch["bytes"].sum(dtype=jnp.float32))
        return sums

    def example_batch(self, batch_size, key):
        tokens = jax.random.randint(key, (batch_size, self.length + 1), 0, self.vocab)
        return {"tokens": tokens, "bytes": jnp.ones((batch_size, self.length), jnp.int32)}

    def module(self, params):
        """The network with these parameters, as an `nnx.Module`."""
        return nnx.merge(_graphdef(self), params["model"])

    def _nats(self, params, batch):
        tokens = batch["tokens"].astype(jnp.int32)
        logits = self.logits(params, tokens[:, :-1])
        return logits, nn.cross_entropy(logits, tokens[:, 1:])

    @classmethod
    def ladder(cls, size, **overrides):
        """The Transformer with about `size` non-embedding parameters, from 5e3 to 1e11.

        The rule: layers = 3 (width/64)^(2/3), at least 2, and 12 layers width^2 parameters. This passes through the
        shapes in use (512x12, 1024x19, 4096x48, 8192x76) and between two findings: loss hardly depends on
        width/layers over a wide range (Kaplan et al. 2020, arXiv:2001.08361, figure 5), and the best depth grows
        more slowly than width (Levine et al. 2020, arXiv:2006.12467). Heads have 32 to 128 dimensions, growing with
        width. Rungs are all shapes with a rounded width and within one layer of the rule, and the nearest is
        taken: within 35% of `size` at 5e3, within 10% from 1e6.
        """
        if not 4e3 <= size <= 2e11:
            raise ValueError(f"Transformer.ladder takes sizes from 4e3 to 2e11 parameters, not {size:g}")
        width, layers = min(_rungs(), key=lambda rung: abs(_nominal(*rung) / size - 1))
        return cls(**({"width": width, "layers": layers} | overrides))

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(15)) + (1e11,)


class Decoder(nnx.Module):
    def __init__(self, f, key):
        embed, position, blocks, readout = jax.random.split(key, 4)
        dtype = jnp.dtype(f.dtype)
        self.family = f
        self.embed = nn.Table(embed, "vocab", f.vocab, f.width, std=f.width**-0.5 if f.tied else 1.0, dtype=dtype)
        self.position = (nn.Table(position, "position", f.length, f.width, std=0.1, dtype=dtype)
                         if f.positions == "learned" else None)
        self.layers = axes.stack(functools.partial(Block, f), jax.random.split(blocks, f.layers))
        self.norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.readout = (None if f.tied else
                        nn.Linear(readout, {"embed": f.width}, {"vocab": f.vocab}, scale=f.width**-0.5, dtype=dtype))

    def __call__(self, tokens, cache=None):
        """Tokens, integer [B, S], and a cache or None -> float32 logits [B, S, vocab], the cache with these tokens.

        A cache is {"k", "v": [layers, B, T, kv_heads, head_dim], "start": int32 [B]}: row b of `tokens` holds the
        positions from start[b] on. See scaling.generate.
        """
        f = self.family
        positions = jnp.arange(tokens.shape[1])[None]
        if cache is not None:
            positions = positions + cache["start"][:, None]
        x = self.embed(tokens)
        if f.tied:
            x = x * f.width**0.5
        if self.position is not None:
            x = x + jnp.broadcast_to(self.position(positions), x.shape)
        graphdef, states = nnx.split(self.layers)

        def layer(x, state_and_cache):
            state, kv = state_and_cache
            return nnx.merge(graphdef, state)(x, positions, kv)

        layer = jax.checkpoint(layer) if f.remat else layer
        kv = None if cache is None else (cache["k"], cache["v"])
        x, kv = lax.scan(layer, x, (states, kv), unroll=1 if f.scan else f.layers)
        cache = None if cache is None else {"k": kv[0], "v": kv[1], "start": cache["start"] + tokens.shape[1]}
        return self._logits(self.norm(x)), cache

    def _logits(self, x):
        f = self.family
        weight = self.embed.weight[...].T * f.width**-0.5 if f.tied else self.readout.weight[...]
        logits = nn.product(x, weight.astype(x.dtype), out=jnp.float32)
        return logits * f.logit_scale if f.logit_scale != 1.0 else logits


class Block(nnx.Module):
    def __init__(self, f, key):
        attend, mlp = jax.random.split(key)
        scale = (2 * f.layers) ** -0.5
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.attention = Attention(f, attend, scale)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.mlp = nn.Mlp(mlp, f.width, f.mlp, activation=f.activation, bias=f.biases, scale_out=scale,
                          dtype=jnp.dtype(f.dtype))

    def __call__(self, x, positions, kv=None):
        attended, kv = self.attention(self.attention_norm(x), positions, kv)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), kv


class Attention(nnx.Module):
    def __init__(self, f, key, scale_out):
        q, k, v, out = jax.random.split(key, 4)
        self.family = f
        embed, head_dim = {"embed": f.width}, {"head_dim": f.head_dim}
        heads, kv_heads = {"heads": f.heads} | head_dim, {"kv_heads": f.kv_heads} | head_dim
        kw = dict(bias=f.biases, dtype=jnp.dtype(f.dtype))
        self.q = nn.Linear(q, embed, heads, **kw)
        self.k = nn.Linear(k, embed, kv_heads, **kw)
        self.v = nn.Linear(v, embed, kv_heads, **kw)
        self.out = nn.Linear(out, heads, embed, scale=scale_out, **kw)
        self.q_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim) if f.qk_norm else None
        self.k_norm = nn.Norm("rmsnorm", "head_dim", f.head_dim) if f.qk_norm else None

    def __call__(self, x, positions, kv=None):
        f = self.family
        q, k, v = self.q(x), self.k(x), self.v(x)
        if f.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if f.positions == "rotary":
            q, k = nn.rotate(q, positions), nn.rotate(k, positions)
        if kv is None:
            return self.out(attention.causal(q, k, v, f.attention)), None
        k, v = (_write(cached, new, positions[:, 0]) for cached, new in zip(kv, (k, v)))
        where = jnp.arange(k.shape[1])[None, None]
        mask = (where <= positions[:, :, None]) & (where > positions[:, :, None] - f.length)
        return self.out(attention.masked(q, k, v, mask)), (k, v)


def _write(cached, new, start):
    """cached [B, T, K, d] with new [B, S, K, d] written from position start[b] of each row b."""
    return jax.vmap(lambda c, n, s: lax.dynamic_update_slice_in_dim(c, n.astype(c.dtype), s, 0))(cached, new, start)


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: Decoder(family, jax.random.key(0))))


def _heads(width):
    wanted = 32 if width < 256 else 64 if width < 1024 else 128
    return max(1, round(width / wanted))


def _mlp(width, activation):
    """4 widths, or 8/3 for SwiGLU (Shazeer 2020: equal parameters), down to a multiple of 8, or of 128 when wide."""
    hidden, unit = (4 * width if activation == "gelu" else 8 * width // 3), 8 if width < 512 else 128
    return max(unit, hidden // unit * unit)


def _nominal(width, layers):
    return 12 * layers * width**2


@functools.cache
def _rungs():
    """All (width, layers) of the ladder, ascending in parameters; width 16 has four layers too, to bridge to 32."""
    rungs = [(16, 4)]
    for width in (*range(16, 256, 16), *range(256, 1024, 64), *range(1024, 4096, 128), *range(4096, 16384, 256)):
        rule = max(2.0, 3 * (width / 64) ** (2 / 3))
        rungs += [(width, layers) for layers in range(2, 200) if abs(layers - rule) <= 1]
    return sorted(rungs, key=lambda rung: _nominal(*rung))
