"""Scaling laws: fits, intervals, diagnostics, frontiers, forecasts on record, which runs to buy next. Never imports JAX.

    runs = laws.Runs.from_csv("runs.csv", y="loss", params="n", data="d")
    law = laws.fit(runs, "chinchilla")
    boot = laws.bootstrap(law)
    print(laws.table(law, boot))

`forms` holds what a law is, `catalogue` those that come with the package, `forecast` and `plots` are modules too.
"""
from scaling.laws import catalogue, forecast, forms, plots  # noqa: F401  (catalogue: so that forms.FORMS is full)
from scaling.laws.allocation import frontier
from scaling.laws.compare import compare
from scaling.laws.counts import counted, recount
from scaling.laws.design import best_loss, best_size, first_grid, loss_at, quantity, suggest
from scaling.laws.diagnose import Diagnostic, diagnose, examine, extrapolation, locate
from scaling.laws.exponents import exponents
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import Amplitude, Form, LawError, Parameter
from scaling.laws.holdout import holdout
from scaling.laws.isoflop import isoflop
from scaling.laws.jackknife import jackknife, sandwich
from scaling.laws.objectives import Objective
from scaling.laws.profile import profile
from scaling.laws.runs import Runs
from scaling.laws.store import load, save, table
from scaling.laws.twostep import two_step
from scaling.laws.uncertainty import Bootstrap, bootstrap

__all__ = ["Amplitude", "Bootstrap", "Diagnostic", "Fit", "Form", "LawError", "Objective", "Parameter", "Runs", "best_loss",
           "best_size", "bootstrap", "compare", "counted", "diagnose", "examine", "exponents", "extrapolation",
           "first_grid", "fit", "forecast", "forms", "frontier", "holdout", "isoflop", "jackknife", "load", "locate",
           "loss_at", "plots", "profile", "quantity", "recount", "sandwich", "save", "suggest", "table", "two_step"]
