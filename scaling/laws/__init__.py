"""Scaling laws: fit, intervals, compute-optimal frontier, and forecasts that cannot be rewritten. Never
imports JAX.

    points = pandas.read_csv("runs.csv")
    law = laws.fit(points, "chinchilla", params="n", data="d", loss="loss")
    boot = laws.bootstrap(law)
    print(laws.table(law, boot))
"""
from scaling.laws import forecast, forms
from scaling.laws.allocation import frontier
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import Form, LawError, Parameter
from scaling.laws.store import load, save, table
from scaling.laws.uncertainty import Bootstrap, bootstrap

__all__ = ["Bootstrap", "Fit", "Form", "LawError", "Parameter", "bootstrap", "fit", "forecast", "forms",
           "frontier", "load", "save", "table"]
