"""The block that families of patch tokens share: pre-norm, and every token sees every other."""

import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._family import scaled
from scaling.nn import attention


class TokenBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), on tokens [B, T, width] (Dosovitskiy et al. 2010.11929).

    Every operation is a matrix product or elementwise, so the layouts of the Transformer shard it. `norm=False` leaves both
    norms out. `scale_out` scales the initial weights of the two matrices that write to the residual stream, and `branch`
    what they write. `styles` [B, 4, width] scale and shift what attention reads and then what the MLP reads, so that each
    example may have a condition (adaptive norms, Peebles & Xie 2212.09748, section 3.2).
    """

    def __init__(self, draw, width, heads, mlp, *, scale_out=1.0, branch=1.0, norm=True, dtype=jnp.float32):
        self.branch = branch
        if width % heads:
            raise ValueError(f"heads={heads} must divide width={width}")
        embed, split = {"embed": width}, {"heads": heads, "head_dim": width // heads}
        self.attention_norm = nn.Norm("rmsnorm", "embed", width) if norm else None
        self.q = nn.Linear(draw, embed, split, dtype=dtype)
        self.k = nn.Linear(draw, embed, split, dtype=dtype)
        self.v = nn.Linear(draw, embed, split, dtype=dtype)
        self.out = nn.Linear(draw, split, embed, scale=scale_out, dtype=dtype)
        self.mlp_norm = nn.Norm("rmsnorm", "embed", width) if norm else None
        self.mlp = nn.Mlp(draw, width, mlp, activation="gelu", bias=True, scale_out=scale_out, dtype=dtype)

    def __call__(self, x, styles=None):
        scale, shift, mlp_scale, mlp_shift = (None,) * 4 if styles is None else jnp.split(styles, 4, axis=1)
        h = _adapted(x if self.attention_norm is None else self.attention_norm(x), scale, shift)
        x = x + scaled(self.out(attention.full(self.q(h), self.k(h), self.v(h))), self.branch)
        h = _adapted(x if self.mlp_norm is None else self.mlp_norm(x), mlp_scale, mlp_shift)
        return nn.constrain(x + scaled(self.mlp(h), self.branch), "embed")


def _adapted(x, scale, shift):
    return x if scale is None else x * (1 + scale) + shift
