"""Runs that begin with the parameters of another run: fine-tuning, frozen layers, models that are made of parts of others.

    base = experiment.from_config(config)
    tuned = base.replace({"data.name": "pycode/stdlib", "start": Start(base)})

A path of parameters is that of a checkpoint, such as "model/layers/mlp/up/weight": the player, then the names in its tree.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

from scaling import axes
from scaling.fields import ConfigError, nearest, shown
from scaling.store import checkpoint


@dataclasses.dataclass(frozen=True)
class Start:
    """The run that a run begins with, and which parameters it takes from there.

    experiment: what determines that run. Its evaluated parameters are taken, which are averages where it keeps them.
    takes: {path of a subtree here: path of a subtree there}. {} takes all parameters, each from the path that it has here.
      What is not taken is initialised as in any other run.
    """

    experiment: Any
    takes: Any = ()  # made a sorted tuple of pairs

    def __post_init__(self):
        try:
            pairs = tuple(sorted((str(here), str(there)) for here, there in dict(self.takes or ()).items()))
        except (TypeError, ValueError):
            raise ConfigError(f"start.takes={shown(self.takes)} is no mapping; write {{path here: path there}}, such as "
                              "{'model/layers': 'model/layers'}, or {} for all parameters") from None
        object.__setattr__(self, "takes", pairs)


def bases(experiment) -> list:
    """The experiments of the runs that a run stands on, the nearest first."""
    found = []
    while experiment.start is not None:
        experiment = experiment.start.experiment
        found.append(experiment)
    return found


def taken(experiment) -> Mapping[str, str]:
    """{path of a parameter: its path in the run that an experiment begins with}, of those that are taken from there.

    Raises a ConfigError for a path that names nothing, and for parameters of different shapes.
    """
    start = experiment.start
    return {} if start is None else _taken(experiment.family, start.experiment.family, start.takes)


@functools.lru_cache(maxsize=1024)
def _taken(family, base, takes) -> Mapping[str, str]:
    here, there = _arrays(family), _arrays(base)
    found = {}
    for own, other in takes or (("", ""),):
        under = [path for path in here if _is_under(path, own)]
        if not under:
            raise ConfigError(f"start.takes: {own!r} names no parameters of this run; {nearest(own, _subtrees(here))}")
        if not any(_is_under(path, other) for path in there):
            raise ConfigError(f"start.takes: {other!r} names no parameters of the run that this one begins with; "
                              f"{nearest(other, _subtrees(there))}")
        found |= {path: other + path.removeprefix(own) for path in under}
    for path, source in found.items():
        if source not in there:
            raise ConfigError(f"start: the run that this one begins with has no parameter {source!r} to be {path!r} here; "
                              f"{nearest(source, there)}. {NAME}")
        (shape, kind, _), (other_shape, other_kind, _) = here[path], there[source]
        if (shape, kind) != (other_shape, other_kind):
            raise ConfigError(f"start: {path!r} is {kind}{list(shape)} here, and {source!r} is "
                              f"{other_kind}{list(other_shape)} in the run that this one begins with. {NAME}")
    return found


NAME = "Give both the same sizes, or name the subtrees to take, as in start.takes={'model/layers': 'model/layers'}"


def takes_vocabulary(experiment) -> bool:
    """Whether tables of tokens or readouts are taken, whose numbers mean the tokens of the run that they are from."""
    own = _arrays(experiment.family)
    return any({"vocab", axes.TIED} & set(own[path][2]) for path in taken(experiment))


@functools.lru_cache(maxsize=1024)
def _arrays(family) -> Mapping[str, tuple]:
    """{path: (shape, type, names of axes)} of the parameters of a family."""
    params = jax.eval_shape(family.init, jax.random.key(0))
    named, _ = checkpoint.flatten(params)
    return {path: (x.shape, str(x.dtype), own)
            for (path, x), own in zip(named, jax.tree.leaves(axes.names(params)), strict=True)}


def _is_under(path, subtree) -> bool:
    return not subtree or path == subtree or path.startswith(f"{subtree}/")


def _subtrees(paths) -> list[str]:
    """All paths of subtrees, the shortest first."""
    parts = [path.split("/") for path in paths]
    found = {"/".join(each[:n]) for each in parts for n in range(1, len(each) + 1)}
    return sorted(found, key=lambda path: (path.count("/"), path))
