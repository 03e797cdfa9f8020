"""Scaling laws: fits, intervals, diagnostics, frontiers, recorded forecasts, and which runs to buy next. No JAX.

    runs = laws.Runs.from_csv("runs.csv", y="loss", params="n", data="d")
    law = laws.fit(runs, "chinchilla")
    boot = laws.bootstrap(law)
    print(laws.table(law, boot))

`FORMS` holds the laws by name. `forecast` and `plots` are modules.
"""
from scaling.laws.checks.diagnose import diagnose, extrapolation, locate
from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.checks.examine import examine
from scaling.laws.design.design import best_loss, best_size, first_grid, loss_at, quantity, suggest
from scaling.laws.figures import plots
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.objectives import Objective
from scaling.laws.fitting.search import fit
from scaling.laws.forecasts import forecast
from scaling.laws.forecasts.twostep import two_step
from scaling.laws.forms.catalogue import FORMS, get_form, register
from scaling.laws.forms.form import Amplitude, Form, LawError, Parameter
from scaling.laws.intervals.profile import profile
from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap
from scaling.laws.optimum.allocation import frontier
from scaling.laws.optimum.counts import counted, recount
from scaling.laws.optimum.exponents import exponents
from scaling.laws.optimum.isoflop import isoflop
from scaling.laws.runs import Runs
from scaling.laws.scores.compare import compare
from scaling.laws.scores.holdout import holdout
from scaling.laws.store import load_fit, save_fit, table

__all__ = ["FORMS", "Amplitude", "Bootstrap", "Diagnostic", "Fit", "Form", "LawError", "Objective", "Parameter", "Runs",
           "best_loss", "best_size", "bootstrap", "compare", "counted", "diagnose", "examine", "exponents", "extrapolation",
           "first_grid", "fit", "forecast", "frontier", "get_form", "holdout", "isoflop", "load_fit", "locate", "loss_at",
           "plots", "profile", "quantity", "recount", "register", "save_fit", "suggest", "table", "two_step"]
