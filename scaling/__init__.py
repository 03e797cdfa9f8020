"""Scaling experiments for generative models: sweeps, fits, forecasts, verdicts.

    import scaling

    table = scaling.load("runs/quickstart")   # a DataFrame with one row per run
    run = scaling.restore("runs/quickstart")  # the best run, ready to sample from and to evaluate

`scaling.laws` fits laws to any table of runs, and `scaling.experiment` describes runs and sweeps. Each name is imported
when it is first used, so that only what needs JAX imports it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling import experiment, laws
    from scaling.results.records import load_records as load
    from scaling.study.restore import restore

__version__ = "0.1.0"
__all__ = ["experiment", "laws", "load", "restore"]

_FUNCTIONS = {"load": ("scaling.results.records", "load_records"), "restore": ("scaling.study.restore", "restore")}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    if name in _FUNCTIONS:
        module, function = _FUNCTIONS[name]
        return getattr(importlib.import_module(module), function)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
