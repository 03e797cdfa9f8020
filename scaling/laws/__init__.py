"""Scaling laws: fits, intervals, diagnostics, frontiers, recorded forecasts, and which runs to buy next. No JAX.

    runs = laws.Runs.from_csv("runs.csv", y="loss", params="n", data="d")
    law = laws.fit(runs, "chinchilla")
    boot = laws.bootstrap(law)
    print(laws.table(law, boot))

`FORMS` holds the laws by name. `forecast` and `plots` are modules.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.laws.checks.diagnose import diagnose, extrapolation, locate
    from scaling.laws.checks.diagnostic import Diagnostic
    from scaling.laws.checks.examine import examine
    from scaling.laws.design.design import suggest
    from scaling.laws.design.grid import first_grid
    from scaling.laws.design.targets import best_loss, best_size, loss_at, quantity
    from scaling.laws.figures import plots
    from scaling.laws.fitting.fit import Fit
    from scaling.laws.fitting.objectives import Objective
    from scaling.laws.fitting.search import fit
    from scaling.laws.forecasts import forecast
    from scaling.laws.forecasts.calibrated import Calibrated, calibrate, describe_parts
    from scaling.laws.forecasts.evidence import record_hashes
    from scaling.laws.forecasts.prediction import predict_run
    from scaling.laws.forecasts.twostep import two_step
    from scaling.laws.forms.catalogue import FORMS, RULES, get_form, register
    from scaling.laws.forms.form import Amplitude, Form, LawError, Parameter
    from scaling.laws.forms.own import own_form
    from scaling.laws.intervals.profile import profile
    from scaling.laws.intervals.uncertainty import Bootstrap, bootstrap
    from scaling.laws.optimum.allocation import frontier
    from scaling.laws.optimum.counts import counted
    from scaling.laws.optimum.exponents import Exponents, size_exponents
    from scaling.laws.optimum.isoflop import isoflop
    from scaling.laws.recipes.comparison import Speedup, speedup, speedup_of_ratios
    from scaling.laws.recipes.ladder import Ladder, ladder_of_workdir, ladders_of_table, make_ladder, shared_metric
    from scaling.laws.recipes.speedup import shared_rungs
    from scaling.laws.recipes.transfer import effective_data
    from scaling.laws.runs import Runs
    from scaling.laws.scores.choose import Selection, choose_law
    from scaling.laws.scores.compare import compare
    from scaling.laws.scores.holdout import holdout
    from scaling.laws.store import load_fit, save_fit, settings_of_study, table

__getattr__, __dir__ = lazy(__name__)
__all__ = ["Amplitude", "Bootstrap", "Calibrated", "Diagnostic", "Exponents", "FORMS", "Fit", "Form", "Ladder", "LawError",
           "Objective", "Parameter", "RULES", "Runs", "Selection", "Speedup", "best_loss", "best_size", "bootstrap",
           "calibrate", "choose_law", "compare", "counted", "describe_parts", "diagnose", "effective_data", "examine",
           "extrapolation", "first_grid", "fit", "forecast", "frontier", "get_form", "holdout", "isoflop",
           "ladder_of_workdir", "ladders_of_table", "load_fit", "locate", "loss_at", "make_ladder", "own_form", "plots",
           "predict_run", "profile", "quantity", "record_hashes", "register", "save_fit", "settings_of_study",
           "shared_metric", "shared_rungs", "size_exponents", "speedup", "speedup_of_ratios", "suggest", "table",
           "two_step"]
