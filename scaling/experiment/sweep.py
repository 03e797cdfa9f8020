"""Sweeps are lists of experiments, which can be printed, filtered, counted and compared.

    runs = grid(base, {"family": families, "optim.learning_rate": [2e-3, 4e-3], "data.tokens": [2**18, 2**20]})
    runs = [e for e in runs if e.data.tokens < 2**20 or e.optim.learning_rate > 3e-3]
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from scaling.experiment.experiment import Experiment
from scaling.experiment.validation import validate
from scaling.fields import ConfigError, fields, nearest, shown


def _bases(base) -> list[Experiment]:
    """A list of experiments, of one or of several."""
    found = [base] if isinstance(base, Experiment) else list(base) if isinstance(base, Iterable) else [base]
    for e in found:
        if not isinstance(e, Experiment):
            raise ConfigError(f"a sweep is made of experiments, not of {shown(e)}; write experiment.from_config(config)")
    return found


def _values(what: str, values) -> dict[str, list[Any]]:
    """{field: its values}, as lists. Raises a ConfigError for a field that has no list of values, or an empty one."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} takes the values of each field, such as {{'seed': [0, 1]}}, not {shown(values)}")
    found = {}
    for path, given in values.items():
        listed = isinstance(given, (Iterable, np.ndarray)) and not isinstance(given, (str, bytes, Mapping))
        if not listed or getattr(given, "shape", None) == ():
            raise ConfigError(f"{what}: {path}={shown(given)} is no list of values; write [{shown(given)}]")
        found[path] = list(given)
        if not found[path]:
            raise ConfigError(f"{what}: {path!r} has no values, so that there is no run; write one, or leave it out")
    return found


def grid(base, values: Mapping[str, Iterable]) -> list[Experiment]:
    """Every combination of the values, for every base experiment; the last field varies fastest.

    Values are checked as flags are. Raises a ConfigError, which names the field, for a wrong one and for a field without
    values.
    """
    values = _values("grid", values)
    return [e.replace(dict(zip(values, combination, strict=True)))
            for e in _bases(base) for combination in itertools.product(*values.values())]


def zipped(base, values: Mapping[str, Iterable]) -> list[Experiment]:
    """For every base experiment, the first value of every field together, then the second of every field, and so on.

    Values are checked as those of `grid` are.
    """
    values = _values("zipped", values)
    lengths = {path: len(v) for path, v in values.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"zipped needs as many values for each field, not {lengths}; use grid for all combinations")
    return [e.replace(dict(zip(values, together, strict=True)))
            for e in _bases(base) for together in zip(*values.values(), strict=True)]


def chain(*sweeps) -> list:
    """The sweeps one after another, with each experiment once. Every experiment is validated."""
    return list(dict.fromkeys(validate(e) for sweep in sweeps for e in _bases(sweep)))


def where(sweep, **conditions) -> list:
    """The experiments for which every condition holds: `where(runs, data=lambda d: d.tokens > 2**18)`."""
    sweep = _bases(sweep)
    for name in conditions:
        if not all(hasattr(e, name) for e in sweep):
            raise ConfigError(f"where: no part {name!r} of an experiment; {nearest(name, fields(Experiment()))}")
    return [e for e in sweep if all(test(getattr(e, name)) for name, test in conditions.items())]
