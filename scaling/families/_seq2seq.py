"""The network of `scaling.families.seq2seq`: a bidirectional encoder, and a causal decoder that reads its encodings."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._decoder import Attention, init_cache
from scaling.families._encoder import encode
from scaling.families._family import scaled
from scaling.families._language import LanguageNetwork
from scaling.families._pairs import written
from scaling.nn import attention, remat


class EncoderDecoder(LanguageNetwork):
    """The whole network; `encoder` and `layers` hold the blocks of the encoder and of the decoder, stacked."""

    def __init__(self, f, encoder, layers, draw):
        super().__init__(f, layers, draw, bias=f.biases)
        self.encoder = encoder
        self.source_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.source_embed = None if f.shared else nn.Table(draw, "vocab", f.vocab, f.width, dtype=jnp.dtype(f.dtype))

    def encode(self, source, noise=None):
        """Sources, integer [B, S] -> (encodings [B, S, width], bool [B, S]: false at padding). `noise` is that of
        `hidden`."""
        real = written(source)
        x = self.embed_at(source) if self.source_embed is None else nn.constrain(self.source_embed(source), "embed")
        return self.source_norm(encode(self.family.of_encoder, self.encoder, x, real, noise)), real

    def hidden(self, source, tokens, noise=None):
        """Sources, integer [B, S], and what is known of targets, integer [B, T] -> outputs of the last layer [B, T, width].
        With `noise`, (key, numbers of the examples, int32 [B]), there is dropout."""
        both = (None, None) if noise is None else [(key, noise[1]) for key in jax.random.split(noise[0])]
        encodings, real = self.encode(source, both[0])
        positions = jnp.arange(tokens.shape[1])[None]
        return self.run(self.embed_at(tokens), positions, real, encodings, noise=both[1])[0]

    def run(self, x, positions, real, encodings=None, cached=None, noise=None):
        """Embedded tokens of targets [B, T, width] through the decoder, and its new cache if there is one.

        Its blocks read `encodings` [B, S, width] where `real`, or the keys and values that were made of them: `cached` is
        ((keys, values) of targets so far, (keys, values) of sources), each with a first axis of layers. `noise` is that of
        `hidden`.
        """
        f, (graphdef, states) = self.family, nnx.split(self.layers)
        keys = None if noise is None else jax.random.split(noise[0], (f.layers + 1, 3))  # three branches in each layer

        def dropped(x, key):
            return x if noise is None else nn.dropout(x, f.dropout, key, noise[1])

        def layer(x, own):
            state, (cached, keys) = own
            block = nnx.merge(graphdef, state)
            kv, source = (None, block.cross.keys_values(encodings)) if cached is None else cached
            keys = (None,) * 3 if keys is None else keys
            return block(x, positions, source, real, [functools.partial(dropped, key=key) for key in keys], kv)

        layer = remat.recomputed(layer, f.remat)
        first, rest = (None, None) if keys is None else (keys[0, 0], keys[1:])
        return nn.through_layers(layer, dropped(x, first), states, (cached, rest), unroll=1 if f.scan else f.layers)

    def begin(self, source, capacity):
        """The state of targets without a token, given sources, integer [B, S], with room for `capacity` tokens.

        It is {"k", "v": [layers, B, capacity, kv_heads, head_dim], "source": (keys, values) alike, with S in place of the
        capacity, "real": bool [B, S], "start": int32 [B], the number of tokens so far}.
        """
        encodings, real = self.encode(source)
        graphdef, states = nnx.split(self.layers)

        def layer(nothing, state_and_row):
            return nothing, nnx.merge(graphdef, state_and_row[0]).cross.keys_values(encodings)

        _, keys_values = nn.through_layers(layer, None, states)
        return init_cache(self.family, len(source), capacity) | {"source": keys_values, "real": real}

    def decode(self, tokens, state):
        """(float32 logits [B, T, vocab] after each of more tokens of targets, integer [B, T], the new state)."""
        positions = state["start"][:, None] + jnp.arange(tokens.shape[1])[None]
        cached = (state["k"], state["v"]), state["source"]
        x, (k, v) = self.run(self.embed_at(tokens), positions, state["real"], cached=cached)
        return self.logits(x), state | {"k": k, "v": v, "start": state["start"] + tokens.shape[1]}


class TargetBlock(nnx.Module):
    """A block of the decoder: x + s attention(norm(x)), x + s cross(norm(x)), which attends to the source, and then
    x + s mlp(norm(x)), where s is the factor of `Seq2Seq.depth`."""

    def __init__(self, f, draw):
        scale, self.branch = (3 * (f.base_layers or f.layers)) ** -0.5, f.depth().branch
        self.attention_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.attention = Attention(f, draw, scale)
        self.cross_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.cross = CrossAttention(f, draw, scale)
        self.mlp_norm = nn.Norm(f.norm, "embed", f.width, bias=f.biases)
        self.mlp = nn.Mlp(draw, f.width, f.mlp, activation=f.activation, bias=f.biases, scale_out=scale,
                          dtype=jnp.dtype(f.dtype))

    def __call__(self, x, positions, source, real, dropped, kv=None):
        """`source` are the keys and values of the source, `kv` those of the target so far, if there is a cache, and
        `dropped` holds three functions, dropout of what each branch writes."""
        attended, kv = self.attention(self.attention_norm(x), positions, kv)
        x = x + scaled(dropped[0](attended), self.branch)
        x = x + scaled(dropped[1](self.cross(self.cross_norm(x), source, real)), self.branch)
        return nn.constrain(x + scaled(dropped[2](self.mlp(self.mlp_norm(x))), self.branch), "embed"), kv


class CrossAttention(Attention):
    """Attention to another text, whose keys and values are made apart. It knows no positions."""

    def keys_values(self, encodings):
        """Encodings [B, S, width] -> keys and values, each [B, S, kv_heads, head_dim]."""
        k, v = self.k(encodings), self.v(encodings)
        return k if self.k_norm is None else self.k_norm(k), v

    def __call__(self, x, keys_values, real):
        """x [B, T, width] attends to the keys and values at which `real`, bool [B, S], is true."""
        q = self.q(x) if self.q_norm is None else self.q_norm(self.q(x))
        return self.out(attention.full(q, *keys_values, real))
