"""Figures, one function for each result; each returns a matplotlib Figure, drawn without pyplot's global
state.

    plots.fit(law, boot)            points and curves by level of the other input, with the bootstrap band
    plots.residuals(law, by=None)   residuals against every input and the prediction, coloured by a column
    plots.bootstrap(boot)           every parameter's draws, and every pair of them
    plots.profile(profiles)         the objective over one parameter or several, with thresholds and intervals
    plots.holdout(held_out)         predicted against observed for runs that were not fitted
    plots.isoflop(found)            slices of equal compute, their minima and flags, and lines through those
    plots.frontier(table, law)      N*, D* and loss against compute, with the range of N that costs 0.1%
    plots.forecast(content, check)  a forecast with its intervals, and what was observed
    plots.suggestion(found)         the runs to buy in the plane of N and D

    plots.save("fit.png", plots.fit(law, boot))

Importing this module is cheap: matplotlib is imported when the first function is asked for.
"""
from __future__ import annotations

import importlib

_MODULES = {"fits": ("fit", "residuals"), "draws": ("bootstrap", "profile"),
            "compute": ("isoflop", "frontier"), "forecasts": ("holdout", "forecast", "suggestion")}
_PLACES = {name: (f"scaling.laws.figures.{module}", name) for module, names in _MODULES.items() for name in names}
_PLACES["save"] = ("scaling.figures.plot", "save_figure")

__all__ = sorted(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"there is no figure {name!r}; there are {', '.join(__all__)}")
    module, function = _PLACES[name]
    return getattr(importlib.import_module(module), function)
