"""What networks over tokens share: the embedding before a stack of layers, and the readout after it."""

import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.nn import readout


class LanguageNetwork(nnx.Module):
    """Embedding and readout around a stack of layers, for families whose fields are those of `Transformer`.

    The readout has std 1/width. Embeddings have std 1 when untied. Tied ones have std 1/sqrt(width) and are multiplied by
    sqrt(width) on the way in and by 1/sqrt(width) on the way out. Logits are capped by `nn.capped`.
    """

    def __init__(self, f, layers, draw, *, positions=False, bias=False, cap=0.0, reads_out=True,
                 epsilon=1e-6):
        dtype = jnp.dtype(f.dtype)
        self.family, self.layers, self.cap = f, layers, cap
        std = f.width**-0.5 if f.tied else 1.0
        self.embed = nn.Table(draw, axes.TIED if f.tied else "vocab", f.vocab, f.width, std=std, dtype=dtype)
        self.position = nn.Table(draw, "position", f.length, f.width, std=0.1, dtype=dtype) if positions else None
        self.norm = nn.Norm(f.norm, "embed", f.width, bias=bias, epsilon=epsilon)
        self.readout = (None if f.tied or not reads_out else
                        nn.Linear(draw, {"embed": f.width}, {"vocab": f.vocab}, scale=f.width**-0.5,
                                  dtype=dtype))

    def embed_at(self, tokens, positions=None):
        """Tokens [B, S] at positions [B or 1, S], which only learned positions read -> embeddings [B, S, width]."""
        x = self.embed(tokens)
        if self.family.tied:
            x = x * self.family.width**0.5
        if self.position is not None:
            x = x + jnp.broadcast_to(self.position(positions), x.shape)
        return nn.constrain(x, "embed")

    def logits(self, x, part=None):
        """Outputs of the last layer [B, S, width] -> float32 logits [B, S, vocab], or those of a `part`, a slice, of the
        vocabulary."""
        f, x = self.family, self.norm(x)
        weight = self._weight() if part is None else self._weight()[:, part]
        logits = nn.product(x, weight.astype(x.dtype), out=jnp.float32)
        logits = nn.constrain(logits, "vocab")
        return nn.capped(logits * f.logit_scale if f.logit_scale != 1.0 else logits, self.cap)

    def nats(self, x, targets):
        """Outputs of the last layer [B, S, width] and targets, integer [B, S] -> nats of the targets, float32 [B, S]."""
        return self.nats_and_log_sums(x, targets)[0]

    def nats_and_log_sums(self, x, targets):
        """`nats`, and the logarithms of the sums of the exponentials of the logits, float32 [B, S]."""
        if self._in_blocks(x):
            return readout.block_nats_and_log_sums(self.norm(x), self._weight(), targets, self.family.logit_scale,
                                                   cap=self.cap)
        return nn.nats_and_log_sums(self.logits(x), targets)

    def scores(self, x, targets):
        """`nats`, and the likeliest words, int32 [B, S]."""
        if self._in_blocks(x):
            return readout.block_scores(self.norm(x), self._weight(), targets, self.family.logit_scale, cap=self.cap)
        logits = self.logits(x)
        return nn.cross_entropy(logits, targets), logits.argmax(-1)

    def _in_blocks(self, x):
        return readout.in_blocks(self.family.cross_entropy, x.shape[1], self.family.vocab)

    def _weight(self):
        """The weight of the readout, [width, vocab]."""
        return self.embed.weight[...].T * self.family.width**-0.5 if self.family.tied else self.readout.weight[...]
