"""Sweeps are lists of experiments, which can be printed, filtered, counted and compared.

    runs = grid(base, {"family": families, "optim.learning_rate": [2e-3, 4e-3], "data.tokens": [2**18, 2**20]})
    runs = [e for e in runs if e.data.tokens < 2**20 or e.optim.learning_rate > 3e-3]
"""

import itertools

from scaling.fields import ConfigError


def _bases(base):
    """A list of experiments, of one or of several."""
    return list(base) if isinstance(base, (list, tuple)) else [base]


def grid(base, values: dict[str, list]) -> list:
    """Every combination of the values, for every base experiment; the last field varies fastest."""
    return [e.replace(dict(zip(values, combination, strict=True)))
            for e in _bases(base) for combination in itertools.product(*values.values())]


def zipped(base, values: dict[str, list]) -> list:
    """For every base experiment, the first value of every field together, then the second of every field, and so on."""
    lengths = {path: len(v) for path, v in values.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"zipped needs as many values for each field, not {lengths}; use grid for all combinations")
    return [e.replace(dict(zip(values, together, strict=True)))
            for e in _bases(base) for together in zip(*values.values(), strict=True)]


def chain(*sweeps) -> list:
    """The sweeps one after another, with each experiment once."""
    return list(dict.fromkeys(e for sweep in sweeps for e in _bases(sweep)))


def where(sweep, **conditions) -> list:
    """The experiments for which every condition holds: `where(runs, data=lambda d: d.tokens > 2**18)`."""
    return [e for e in sweep if all(test(getattr(e, name)) for name, test in conditions.items())]
