"""Config files of studies: a file as a module, the study that it defines, and the names of its fields."""

import difflib
import importlib.util
import types
from collections.abc import Iterable, Iterator

from scaling.study.study import Definition


def load_config(path: str) -> types.ModuleType:
    """A config file as a module: `get_config()`, `sweep(config)` and, for a forecast, `target(config, learning_rate)`.

    `path` may end in a colon and the argument of `get_config`, which is left out here.
    """
    spec = importlib.util.spec_from_file_location("config_file", path.partition(":")[0])
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def define_study(module: types.ModuleType, config) -> Definition:
    """The study that a module from `load_config` defines by this config."""
    target = getattr(module, "target", None)
    return Definition(
        title=config.title, metric=config.metric, sweep=module.sweep(config), prompts=tuple(config.prompts),
        law=config.law, beside=tuple(config.beside), config=config.to_dict(),
        target=None if target is None else lambda rate: target(config, rate))


def field_names(config, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields of a config, groups of fields included."""
    for key, value in config.items():
        yield prefix + key
        if hasattr(value, "items"):
            yield from field_names(value, f"{prefix}{key}.")


def unknown_field(path: str, given: Iterable[str]) -> str | None:
    """A sentence about the first name in `given` that is no field of the config file `path`, with the nearest fields; None
    if all are fields. `path` is as for `load_config`."""
    _, colon, argument = path.partition(":")
    get_config = load_config(path).get_config
    names = list(field_names(get_config(argument) if colon else get_config()))
    unknown = [name for name in given if name not in names]
    if not unknown:
        return None
    leaves = {name.rpartition(".")[2] for name in unknown}
    same_leaf = sorted(name for name in names if name.rpartition(".")[2] in leaves)
    close = same_leaf or difflib.get_close_matches(unknown[0], names, n=3, cutoff=0.3)
    shown = ", ".join(f"--config.{name}" for name in close) or "none"
    return f"no field --config.{unknown[0]} in {path}; nearest: {shown}"
