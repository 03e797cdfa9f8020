"""Values with their first and second derivatives, so that a law is written once, as plain NumPy.

A Jet is an array with its derivatives by a handful of parameters. NumPy's functions accept it (`np.exp(jet)`) and apply
the chain rule to second order (Griewank and Walther 2008, chapter 13). Zero derivatives are not stored, and arrays keep
the smallest shape that broadcasts: the derivative of `alpha * log(N)` by alpha is log(N) itself, [n], however many rows
alpha has. This makes thousands of small fits in one batch cheap. JAX would serve too, but the laws never import it.
"""
from __future__ import annotations

import numpy as np


class Jet:
    """An array `value`, its derivatives `first` {k: by parameter k}, and `second` {(k, m): by both} with k <= m."""
    __slots__ = ("value", "first", "second")

    def __init__(self, value, first=None, second=None):
        self.value, self.first, self.second = value, first or {}, second or {}

    def __array_ufunc__(self, ufunc, method, *arguments, **options):
        if method != "__call__" or options:
            return NotImplemented
        if ufunc in UNARY:
            value, slope, bend = UNARY[ufunc](arguments[0].value)
            return chain_rule(value, arguments, [slope], {(0, 0): bend})
        if ufunc in BINARY:
            values = [x.value if isinstance(x, Jet) else x for x in arguments]
            return chain_rule(*BINARY[ufunc](*values, arguments))
        raise TypeError(f"np.{ufunc.__name__} of a parameter has no derivative here; a formula may use "
                        f"{', '.join(sorted(f.__name__ for f in (*UNARY, *BINARY)))}")

    def __neg__(self):
        return np.negative(self)

    def __add__(self, other):
        return np.add(self, other)

    def __radd__(self, other):
        return np.add(other, self)

    def __sub__(self, other):
        return np.subtract(self, other)

    def __rsub__(self, other):
        return np.subtract(other, self)

    def __mul__(self, other):
        return np.multiply(self, other)

    def __rmul__(self, other):
        return np.multiply(other, self)

    def __truediv__(self, other):
        return np.divide(self, other)

    def __rtruediv__(self, other):
        return np.divide(other, self)

    def __pow__(self, other):
        return np.power(self, other)

    def __rpow__(self, other):
        return np.power(other, self)


def chain_rule(value, arguments, slopes, bends) -> Jet:
    """The Jet of a function of several arguments, each a Jet or an array.

    value: the function's value; slopes: its derivative by each argument; bends {(i, j): second derivative by arguments i
    and j} with i <= j, where a missing bend or None is zero.
    """
    first, second = {}, {}
    jets = [(i, argument) for i, argument in enumerate(arguments) if isinstance(argument, Jet)]
    for i, jet in jets:
        for k, d in jet.first.items():
            _add(first, k, slopes[i] * d)
        for key, d in jet.second.items():
            _add(second, key, slopes[i] * d)
    for a, (i, one) in enumerate(jets):
        for j, other in jets[a:]:
            if (bend := bends.get((i, j))) is None:
                continue
            for k, dk in one.first.items():
                for m, dm in other.first.items():
                    if i == j and k <= m:
                        _add(second, (k, m), bend * dk * dm)
                    elif i != j:  # (k, m) and (m, k) share an entry, so k == m counts twice
                        _add(second, (min(k, m), max(k, m)), bend * dk * dm * (2.0 if k == m else 1.0))
    return Jet(value, first, second)


def _add(table, key, value):
    table[key] = table[key] + value if key in table else value


def _exp(v):
    out = np.exp(v)
    return out, out, out


def _log1p(v):
    slope = 1.0 / (1.0 + v)
    return np.log1p(v), slope, -slope * slope


def _log(v):
    slope = 1.0 / v
    return np.log(v), slope, -slope * slope


def _tanh(v):
    out = np.tanh(v)
    slope = 1.0 - out * out
    return out, slope, -2.0 * out * slope


def _sqrt(v):
    out = np.sqrt(v)
    return out, 0.5 / out, -0.25 / (out * v)


def _power(a, b, arguments):
    value = np.power(a, b)
    slopes, bends = [0.0, 0.0], {}
    if isinstance(arguments[0], Jet):
        slopes[0], bends[0, 0] = b * np.power(a, b - 1.0), b * (b - 1.0) * np.power(a, b - 2.0)
    if isinstance(arguments[1], Jet):
        log = np.log(a)
        slopes[1], bends[1, 1] = value * log, value * log * log
        bends[0, 1] = np.power(a, b - 1.0) * (1.0 + b * log)
    return value, arguments, slopes, bends


def _divide(a, b, arguments):
    inverse = 1.0 / b
    value = a * inverse
    return value, arguments, [inverse, -value * inverse], {(0, 1): -inverse * inverse,
                                                          (1, 1): 2.0 * value * inverse * inverse}


def _logaddexp(a, b, arguments):
    value = np.logaddexp(a, b)
    share = np.exp(a - value)
    bend = share * (1.0 - share)
    return value, arguments, [share, 1.0 - share], {(0, 0): bend, (1, 1): bend, (0, 1): -bend}


def _choose(pick):
    def rule(a, b, arguments):
        left = pick(a, b)
        return np.where(left, a, b), arguments, [left * 1.0, 1.0 - left], {}
    return rule


UNARY = {np.exp: _exp, np.log: _log, np.log1p: _log1p, np.tanh: _tanh, np.sqrt: _sqrt,
         np.negative: lambda v: (-v, -1.0, None), np.positive: lambda v: (v, 1.0, None),
         np.square: lambda v: (v * v, 2.0 * v, 2.0),
         np.expm1: lambda v: (np.expm1(v), np.exp(v), np.exp(v))}
BINARY = {np.add: lambda a, b, args: (a + b, args, [1.0, 1.0], {}),
          np.subtract: lambda a, b, args: (a - b, args, [1.0, -1.0], {}),
          np.multiply: lambda a, b, args: (a * b, args, [b, a], {(0, 1): 1.0}),
          np.divide: _divide, np.power: _power, np.logaddexp: _logaddexp,
          np.maximum: _choose(np.greater_equal), np.minimum: _choose(np.less_equal)}
