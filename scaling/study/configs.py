"""Config files of studies: a file as a module, the study that it defines, and the names of its fields.

Everything that is wrong with a config file is one sentence: a file that is not there, an error in it, a variant that it
does not know.
"""

import difflib
import importlib.util
import inspect
import pathlib
import traceback
import types
from collections.abc import Iterable, Iterator

from scaling.fields import ConfigError, nearest
from scaling.study.definition import Definition
from scaling.study.named_values import named_values

NO_VARIANT = "no variant of any config has this name"


def load_config(path: str) -> types.ModuleType:
    """A config file as a module: `get_config()`, `sweep(config)` and, for a forecast, `target(config, learning_rate)`. The
    target of a variant that forecasts nothing is None.

    `path` may end in a colon and the argument of `get_config`, its variant. Raises a ConfigError for a file that cannot be
    used, and for a variant that changes nothing, because `get_config` does not know it.
    """
    file, colon, variant = path.partition(":")
    module = _module(file)
    for name in ("get_config", "sweep"):
        if not callable(getattr(module, name, None)):
            raise ConfigError(f"--config={file} has no function {name}; a config defines get_config() and sweep(config), "
                              "as configs/quickstart.py does")
    if colon:
        _check_variant(module.get_config, file, variant)
    return module


def _module(file: str) -> types.ModuleType:
    if not pathlib.Path(file).is_file():
        folder = pathlib.Path(file).parent
        near = difflib.get_close_matches(file, [str(p) for p in folder.glob("*.py")] if folder.is_dir() else [], n=3)
        advice = f"nearest: {', '.join(near)}" if near else "check the path"
        raise ConfigError(f"--config={file} is not a file here; {advice}")
    spec = importlib.util.spec_from_file_location("config_file", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={file} is no Python file; name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"--config={file} has a syntax error in line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise ConfigError(_where(file, error)) from error
    return module


def _where(file: str, error: Exception) -> str:
    """A sentence about an exception that the code of a config raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    place = f" in line {lines[-1]}" if lines else ""
    return f"--config={file} raised {type(error).__name__}{place}: {str(error).strip() or 'no message'}"


def _check_variant(get_config, file: str, variant: str):
    """Raises a ConfigError unless `get_config` knows the variant: it must be the default, or change the config."""
    parameters = list(inspect.signature(get_config).parameters.values())
    if not parameters:
        raise ConfigError(f"--config={file} has no variants; write it without :{variant}")
    if variant == parameters[0].default:
        return
    try:
        unknown = get_config(NO_VARIANT)
        known = [name for name in _strings(get_config.__code__) if _differs(get_config, name, unknown)]
    except Exception:  # it refuses variants that it does not know, and refuses this one by itself
        return
    if not _differs(get_config, variant, unknown):
        default = [] if parameters[0].default is inspect.Parameter.empty else [str(parameters[0].default)]
        names = list(dict.fromkeys([*default, *known]))
        raise ConfigError(f"--config={file}:{variant} is not a variant of this config; "
                          + (nearest(variant, names) if names else "it has none"))


def _differs(get_config, name: str, other) -> bool:
    """True unless a variant gives the config `other`."""
    try:
        return get_config(name).to_dict() != other.to_dict()
    except Exception:
        return False


def _strings(code: types.CodeType) -> list[str]:
    """The strings in the code of a function, among which are the names that it compares its argument with."""
    found = []
    for value in code.co_consts:
        found += _strings(value) if isinstance(value, types.CodeType) else [value] if isinstance(value, str) else []
        found += [item for item in value if isinstance(item, str)] if isinstance(value, (tuple, frozenset)) else []
    return list(dict.fromkeys(found))


def read_config(path: str):
    """The config that `get_config` of a file returns. `path` is as for `load_config`; so are the errors."""
    _, colon, variant = path.partition(":")
    get_config = load_config(path).get_config
    try:
        found = get_config(variant) if colon else get_config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_where(path.partition(":")[0], error)) from error
    if not hasattr(found, "to_dict"):
        raise ConfigError(f"--config={path}: get_config returned {type(found).__name__}, not a config; return what "
                          "experiment.config(...) gave")
    return found


def define_study(module: types.ModuleType, config) -> Definition:
    """The study that a module from `load_config` defines by this config."""
    target = getattr(module, "target", None)
    for name in ("title", "metric", "prompts", "law", "beside"):
        if name not in config:
            raise ConfigError(f"the config has no field {name}; start from experiment.config(...), which has it")
    sweep = module.sweep(config)
    if not isinstance(sweep, (list, tuple)) or not sweep:
        raise ConfigError("the sweep of this config has no runs; give every list of it, such as its sizes, a value")
    if target is not None and target(config, sweep[0].optim.learning_rate) is None:
        target = None
    for name in ("prompts", "beside"):
        if isinstance(config[name], str):
            raise ConfigError(f"{name}={config[name]!r} must be several texts; write ({config[name]!r},)")
    return Definition(
        title=config.title, metric=config.metric, sweep=list(sweep), prompts=tuple(config.prompts),
        law=config.law, fix=held_parameters(config.get("fix", "")), beside=tuple(config.beside),
        stop_early=config.get("stop_early", ""), tune=config.get("tune", 0.0),
        tune_sampler=config.get("tune_sampler", "grid"), tune_trials=config.get("tune_trials", 8),
        fit_edges=config.get("fit_edges", False), target_seeds=config.get("target_seeds", 1), config=config.to_dict(),
        target=None if target is None else lambda rate: target(config, rate))


def held_parameters(text: str) -> dict[str, float]:
    """"E=3.379" -> {"E": 3.379}: what the field `fix` holds in every law."""
    try:
        return named_values(text, f"fix={text!r}")
    except ValueError as error:
        raise ConfigError(f"{error}; write parameters of the law with their values, such as E=3.379") from None


def field_names(config, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields of a config, groups of fields included."""
    for key, value in config.items():
        yield prefix + key
        if hasattr(value, "items"):
            yield from field_names(value, f"{prefix}{key}.")


def unknown_field(path: str, given: Iterable[str]) -> str | None:
    """A sentence about the first name in `given` that is no field of the config file `path`, with the nearest fields; None
    if all are fields. `path` is as for `load_config`."""
    names = list(field_names(read_config(path)))
    unknown = [name for name in given if name not in names]
    if not unknown:
        return None
    leaves = {name.rpartition(".")[2] for name in unknown}
    same_leaf = sorted(name for name in names if name.rpartition(".")[2] in leaves)
    close = same_leaf or difflib.get_close_matches(unknown[0], names, n=3, cutoff=0.3)
    shown = ", ".join(f"--config.{name}" for name in close) or "none"
    return f"no field --config.{unknown[0]} in {path}; nearest: {shown}"
