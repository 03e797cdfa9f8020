"""The figures of the laws: one function for each result. Each returns a matplotlib Figure and uses no pyplot.

    plots.fit(law, boot)            points and curves by level of the other input, with the bootstrap band
    plots.residuals(law, by=None)   residuals against every input and the prediction, coloured by a column
    plots.bootstrap(boot)           the draws of every parameter, and of every pair of them
    plots.profile(profiles)         the objective over one parameter or several, with intervals
    plots.holdout(held_out)         predicted against observed for runs that were not fitted
    plots.isoflop(found)            slices of equal compute, their minima, and the lines through these
    plots.frontier(table, law)      N*, D* and loss against compute, with the range of N that costs 0.1%
    plots.forecast(content, check)  a forecast with its intervals, and the observation
    plots.suggestion(found)         the runs to buy in the plane of N and D
    plots.groups(fits, boots)       the parameters of one law in several groups of runs, with intervals
    plots.recipes(speedup)          the losses of two recipes against compute
    plots.speedup(speedup)          the speed-up of a change at each rung, with its line up to the target

    plots.save("fit.png", plots.fit(law, boot))

Importing this module is fast: it imports matplotlib when a function is first used.
"""
from __future__ import annotations

import importlib

_PLACES = {  # name here: (module, name there)
    "fit": ("scaling.laws.figures.fits", "draw_fit"),
    "residuals": ("scaling.laws.figures.fits", "draw_fit_residuals"),
    "bootstrap": ("scaling.laws.figures.draws", "draw_bootstrap"),
    "profile": ("scaling.laws.figures.draws", "draw_profiles"),
    "isoflop": ("scaling.laws.figures.compute", "draw_isoflop"),
    "frontier": ("scaling.laws.figures.compute", "draw_frontier"),
    "holdout": ("scaling.laws.figures.forecasts", "draw_holdout"),
    "forecast": ("scaling.laws.figures.forecasts", "draw_forecast"),
    "suggestion": ("scaling.laws.figures.forecasts", "draw_suggestion"),
    "groups": ("scaling.laws.figures.draws", "draw_groups"),
    "recipes": ("scaling.laws.figures.recipes", "draw_recipes"),
    "speedup": ("scaling.laws.figures.recipes", "draw_speedup"),
    "save": ("scaling.figures.plot", "save_figure"),
}


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"there is no figure {name!r}; there are {', '.join(__dir__())}")
    module, function = _PLACES[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted(_PLACES)
