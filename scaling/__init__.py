"""Scaling experiments for generative models: sweeps, fits, forecasts, verdicts.

    import scaling

    table = scaling.load("runs/quickstart")   # a DataFrame with one row per run
    run = scaling.restore("runs/quickstart")  # the best run, ready to sample from and to evaluate

`scaling.laws` fits laws to any table of runs, and `scaling.experiment` describes runs and sweeps. Each name is imported
when it is first used, so that only what needs JAX imports it.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling import experiment, laws
    from scaling.results.records import load_records as load
    from scaling.study.restore import restore

__getattr__, __dir__ = lazy(__name__)
__version__ = "0.1.0"
__all__ = ["experiment", "laws", "load", "restore"]
