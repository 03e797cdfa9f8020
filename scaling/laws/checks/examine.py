"""The warnings of a fit, with those that need a profile of every parameter."""
from __future__ import annotations

from scaling.laws.checks.diagnose import WEAK, diagnose
from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.intervals.profile import profile


def examine(fit: Fit, level: float = 0.9) -> list[Diagnostic]:
    """The warnings of `diagnose`, and one for every free parameter that its profile shows as not identified."""
    said = list(diagnose(fit))
    for name in fit.form.free if fit.degrees_of_freedom > 0 else ():
        shape = profile(fit, name, points=(), level=level)
        low, high = shape.interval
        said.extend(shape.diagnostics)
        if shape.flat:
            said.append(Diagnostic(
                f"{name} is not identified: its profile is flat to a bound, and values from {low:.3g} to "
                f"{high:.3g} fit as well as {fit.params[name]:.3g} at the {level:.0%} level.",
                "flat-profile", name))
        elif (p := fit.form.parameter(name)) in fit.form.nonlinear and p.low >= 0 and high > WEAK * low:
            said.append(Diagnostic(
                f"{name} is weakly identified: {fit.params[name]:.3g} with a {level:.0%} profile interval "
                f"from {low:.3g} to {high:.3g}.", "weak-profile", name))
    return said
