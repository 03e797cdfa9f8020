"""The network of `scaling.families.recurrent`: embedding, a stack of pre-norm recurrent blocks, readout."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import sigmoid, softplus

from scaling import axes, nn
from scaling.devices import sharding
from scaling.families._family import scaled
from scaling.families._language import LanguageNetwork
from scaling.nn import recurrence, remat

# ------------------------------------------------------------------------------------------- cells


def _lstm(states, x, recurrent):
    """(h, c) after one step. Gates are those of the input, to forget, of new content, and of the output."""
    _, c = states
    i, f, g, o = _parts(x + recurrent)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(c), c


def _gru(states, x, recurrent):
    """(h,) after one step. Gates are those of reset, of update, and of new content."""
    (h,) = states
    (r, z, n), (of_r, of_z, of_n) = _parts(x), _parts(recurrent)
    z = sigmoid(z + of_z)
    return ((1 - z) * jnp.tanh(n + sigmoid(r + of_r) * of_n) + z * h,)


def _mingru(z, new):
    """(log of what is kept, log of what is added), float32 [B, S, H] (Feng et al. 2024, algorithm 6)."""
    return -softplus(z), -softplus(-z) + _log_positive(new)


def _minlstm(f, i, new):
    """As `_mingru`, with two gates that are divided by their sum (algorithm 8)."""
    forget = softplus(-f) - softplus(-i)
    return -softplus(forget), -softplus(-forget) + _log_positive(new)


def _log_positive(x):
    """The logarithm of x + 1/2 where x is positive and of sigmoid(x) elsewhere (algorithm 7)."""
    return jnp.where(x >= 0, jnp.log(jax.nn.relu(x) + 0.5), -softplus(-x))


def _parts(gates):
    """float [B, gates, H] -> the gates, float32 [B, H] each."""
    return jnp.unstack(gates.astype(jnp.float32), axis=1)


STEPS = {"lstm": (_lstm, 4, 2), "gru": (_gru, 3, 1)}  # {cell: (its step, gates, states)}
SCANS = {"mingru": (_mingru, 2), "minlstm": (_minlstm, 3)}  # {cell: (logarithms from its gates, gates)}
FORGETS = {"lstm": 1, "minlstm": 0}  # {cell: its forget gate}, whose bias begins at 1


class RecurrentCell(nnx.Module):
    """What a block remembers: inputs [B, S, width] and the states before -> the states after every step, float32 [B, S, H].

    The equations of LSTM and GRU are those of `torch.nn.LSTM`, without its second bias, and `torch.nn.GRU`.
    """

    def __init__(self, f, draw):
        self.family, kw = f, {"dtype": jnp.dtype(f.dtype)}
        count = (STEPS.get(f.cell) or SCANS[f.cell])[1]
        gates = {"gates": count, "state": f.width}
        self.inputs = nn.Linear(draw, {"embed": f.width}, gates, bias=True, **kw)
        if f.cell in FORGETS:
            self.inputs.bias = axes.param(jnp.zeros((count, f.width)).at[FORGETS[f.cell]].set(1.0), tuple(gates))
        self.recurrent = (nn.Linear(draw, {"state_in": f.width}, gates, bias=f.cell == "gru", **kw)
                          if f.cell in STEPS else None)

    def __call__(self, x, before=None):
        """`before` are the states [B, H] before the first input, zero without it."""
        gates = self.inputs(x)
        gates = sharding.activation(gates, "batch", "step", "gates", "state")  # every device has all steps of its examples
        if self.recurrent is None:
            log_keep, log_new = SCANS[self.family.cell][0](*jnp.unstack(gates.astype(jnp.float32), axis=2))
            return (jnp.exp(recurrence.linear_scan(log_keep, log_new, before and jnp.log(before[0]))),)
        step, _, states = STEPS[self.family.cell]
        before = before or (jnp.zeros((x.shape[0], self.family.width)),) * states
        weight = self.recurrent.weight[...].astype(gates.dtype)
        weight = sharding.activation(weight, "state_in", "gates", "state")  # gathered once, and not in every step
        bias = None if self.recurrent.bias is None else self.recurrent.bias[...]
        return recurrence.recur(step, gates, weight, bias, before, self.family.unroll)


# ----------------------------------------------------------------------------------------- network


class RecurrentBlock(nnx.Module):
    """A pre-norm block: x + s out(h), where h are the states of the cell on norm(x), and s is the factor of
    `Recurrent.depth`."""

    def __init__(self, f, draw):
        self.branch = f.depth().branch
        self.norm = nn.Norm(f.norm, "embed", f.width)
        self.cell = RecurrentCell(f, draw)
        self.out = nn.Linear(draw, {"state": f.width}, {"embed": f.width}, scale=(f.base_layers or f.layers) ** -0.5,
                             dtype=jnp.dtype(f.dtype))

    def __call__(self, x, before, dropped):
        states = self.cell(self.norm(x), before)
        written = dropped(self.out(nn.constrain(states[0].astype(x.dtype), "state")))
        return nn.constrain(x + scaled(written, self.branch), "embed"), states


class RecurrentNetwork(LanguageNetwork):
    """The whole network; `layers` holds its blocks, stacked."""

    def hidden(self, tokens, noise=None):
        """Tokens, integer [B, S] -> outputs of the last layer [B, S, width]. With `noise`, (key, numbers of the examples),
        there is dropout."""
        return self.run(tokens, noise=noise)[0]

    def run(self, tokens, before=None, last=None, noise=None):
        """(outputs of the last layer [B, S, width], states [layers, B, H] after step last[b] of row b, or None).

        `before` are the states before the first token, zero without it.
        """
        f = self.family
        key, examples = noise or (jax.random.key(0), None)
        first, *keys = jax.random.split(key, 1 + f.layers) if noise else [None] * (1 + f.layers)

        def dropped(key, x):
            return x if key is None else nn.dropout(x, f.dropout, key, examples)

        graphdef, parameters = nnx.split(self.layers)

        def layer(x, own):
            parameters, (before, key) = own
            x, states = nnx.merge(graphdef, parameters)(x, before, functools.partial(dropped, key))
            return x, None if last is None else tuple(_at(x, last) for x in states)

        layer = remat.recomputed(layer, f.remat)
        x = dropped(first, self.embed_at(tokens))
        keys = jnp.stack(keys) if noise else None
        return nn.through_layers(layer, x, parameters, (before, keys), unroll=1 if f.scan else f.layers)

    def after(self, tokens, last, before=None):
        """(float32 logits [B, vocab] of the token that follows token last[b] of row b, states [layers, B, H])."""
        x, states = self.run(tokens, before, last)
        return self.logits(_at(x, last)[:, None])[:, 0], states


def _at(x, last):
    """x [B, S, H] at place last[b] of row b: [B, H]."""
    return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
