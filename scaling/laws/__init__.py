"""Scaling laws: fit, intervals, compute-optimal frontier, and forecasts that cannot be rewritten. Never
imports JAX.

    points = Runs.from_csv("runs.csv", y="loss", params="n", data="d")
    law = laws.fit(points, "chinchilla")
    boot = laws.bootstrap(law)
    print(laws.table(law, boot))
"""
from scaling.laws import catalogue, forecast, forms  # noqa: F401  (catalogue: so that forms.FORMS is full)
from scaling.laws.allocation import frontier
from scaling.laws.compare import compare
from scaling.laws.counts import counted
from scaling.laws.diagnose import Diagnostic
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import Amplitude, Form, LawError, Parameter
from scaling.laws.objectives import Objective
from scaling.laws.runs import Runs
from scaling.laws.store import load, save, table
from scaling.laws.uncertainty import Bootstrap, bootstrap

__all__ = ["Amplitude", "Bootstrap", "Diagnostic", "Fit", "Form", "LawError", "Objective", "Parameter", "Runs",
           "bootstrap", "fit", "forecast", "forms", "frontier", "load", "save", "table"]
