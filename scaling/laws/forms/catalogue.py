"""The laws that come with the package, and the registry that holds every law by its name.

Laws that only one paper used are worked examples in docs/laws-forms.md, ready to be registered.
Parameters that have a unit are searched within multiples of the range of the data in that unit.
"""
from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy as np

from scaling.laws.forms.form import Amplitude, Form, LawError, Parameter

FORMS: dict[str, Form] = {}                      # every registered law by its name
FAMILIES: dict[str, Callable[[int], Form]] = {}  # prefix of a name -> the form of a number: bnsl3 has three breaks

RULES = ("best", "stacked", "median")            # what may stand for a name where a rule chooses the law, see `choose_law`
EXPONENT = (0.01, 4.0)  # below 0.01 a power over any measurable range is a constant; above 4 it is a step
E, A, B = Amplitude("E"), Amplitude("A"), Amplitude("B")


def register(form: Form) -> Form:
    """Make a form known by its name to `fit`, to the command line and to saved fits."""
    FORMS[form.name] = form
    return form


def get_form(form: str | Form) -> Form:
    """The form of a name. A Form is returned as it is, so that a user's own need not be registered.

    Raises LawError for a name that nobody registered.
    """
    if isinstance(form, Form):
        return form
    prefix = str(form).rstrip("0123456789")
    if form not in FORMS and prefix in FAMILIES and form != prefix:
        return FAMILIES[prefix](int(form[len(prefix):]))
    if form not in FORMS:
        near = difflib.get_close_matches(str(form), FORMS, n=1, cutoff=0.5)
        raise LawError(f"unknown form {form!r}" + (f", did you mean {near[0]!r}?" if near else "")
                       + f" The forms are {', '.join(FORMS)}; docs/laws-forms.md shows more, to register first")
    return FORMS[form]


def exponent(name: str) -> Parameter:
    return Parameter(name, *EXPONENT)


# ------------------------------------------------------------------------------------------------ one input

register(Form(
    "power", "A x^-alpha", "Hestness et al. 2017 (arXiv:1712.00409)", ("x",), (A,), (exponent("alpha"),),
    lambda p, log: (-p.alpha * log.x,)))

register(Form(
    "saturating_power", "E + A x^-alpha", "Henighan et al. 2020 (arXiv:2010.14701), equation 1.1",
    ("x",), (E, A), (exponent("alpha"),), lambda p, log: (0.0, -p.alpha * log.x)))


def bnsl(breaks: int = 1) -> Form:
    """A smoothly broken power law with any number of breaks. Its name is "bnsl" with one break, else "bnsl2", ..."""
    if breaks < 1:
        raise LawError("a broken power law needs at least one break; with none it is saturating_power")
    suffix = [str(i + 1) for i in range(breaks)]

    def terms(p, log):
        g = -p.c0 * log.x
        for i in suffix:
            d, f = getattr(p, f"d{i}"), getattr(p, f"f{i}")
            g = g - getattr(p, f"c{i}") * f * np.logaddexp(0.0, (log.x - np.log(d)) / f)
        return 0.0, g

    nonlinear = [Parameter("c0", -2.0, 4.0)]
    for i in suffix:
        nonlinear += [Parameter(f"c{i}", -10.0, 10.0, scale="symlog"),
                      Parameter(f"d{i}", 0.1, 10.0, scale="log", unit="x", relative=True),
                      Parameter(f"f{i}", 1e-3, 10.0, scale="log")]
    return Form("bnsl" if breaks == 1 else f"bnsl{breaks}",
                "E + A x^-c0 " + " ".join(f"(1 + (x/d{i})^(1/f{i}))^(-c{i} f{i})" for i in suffix),
                "Caballero et al. 2022 (arXiv:2210.14891), equation 1", ("x",), (E, A), tuple(nonlinear), terms)


register(bnsl())
FAMILIES["bnsl"] = bnsl

# ------------------------------------------------------------------------------------- parameters and data

register(Form(
    "chinchilla", "E + A N^-alpha + B D^-beta", "Hoffmann et al. 2022 (arXiv:2203.15556), equation 2",
    ("N", "D"), (E, A, B), (exponent("alpha"), exponent("beta")),
    lambda p, log: (0.0, -p.alpha * log.N, -p.beta * log.D)))

register(Form(
    "tied_chinchilla", "E + A N^-alpha + B D^-alpha", "Gadre et al. 2024 (arXiv:2403.08540), section 2",
    ("N", "D"), (E, A, B), (exponent("alpha"),), lambda p, log: (0.0, -p.alpha * log.N, -p.alpha * log.D)))


def _kaplan_shift(p, centre):
    return {**p, "log_ratio": p["log_ratio"] - centre["D"] + p["alpha"] / p["beta"] * centre["N"]}


register(Form(
    "kaplan", "A (N^(-alpha/beta) + e^log_ratio / D)^beta; (N_c/N)^alpha at infinite D, (D_c/D)^beta at infinite N",
    "Kaplan et al. 2020 (arXiv:2001.08361), equation 1.5", ("N", "D"), (A,),
    (exponent("alpha"), exponent("beta"), Parameter("log_ratio", -25.0, 25.0)),
    lambda p, log: (p.beta * np.logaddexp(-p.alpha / p.beta * log.N, p.log_ratio - log.D),),
    shift=_kaplan_shift, shifted=("log_ratio",),
    derived=lambda p: {"N_c": p["A"] ** (1 / p["alpha"]), "D_c": np.exp(p["log_ratio"]) * p["A"] ** (1 / p["beta"])}))

register(Form(
    "interaction", "E + A N^-alpha + B D^-beta + G N^-alpha D^-beta", "Chinchilla with a product term of either sign",
    ("N", "D"), (E, A, B, Amplitude("G", low=-np.inf)), (exponent("alpha"), exponent("beta")),
    lambda p, log: (0.0, -p.alpha * log.N, -p.beta * log.D, -p.alpha * log.N - p.beta * log.D)))


def _power_mean_shift(p, centre):
    return {**p, "log_ratio": p["log_ratio"] - p["beta"] * centre["D"] + p["alpha"] * centre["N"]}


register(Form(
    "power_mean", "E + ((A N^-alpha)^q + (B D^-beta)^q)^(1/q), B = A e^log_ratio; the terms add up at q = 1, and the "
    "larger one alone counts at large q",
    "Chinchilla with the power mean of its two terms", ("N", "D"), (E, A),
    (exponent("alpha"), exponent("beta"), Parameter("log_ratio", -25.0, 25.0), Parameter("q", 0.25, 8.0, scale="log")),
    lambda p, log: (0.0, np.logaddexp(-p.q * p.alpha * log.N, p.q * (p.log_ratio - p.beta * log.D)) / p.q),
    shift=_power_mean_shift, shifted=("log_ratio",), derived=lambda p: {"B": p["A"] * np.exp(p["log_ratio"])}))


def _bounded_shift(p, centre):
    return {**p, "log_A": p["log_A"] - p["alpha"] * centre["N"], "log_B": p["log_B"] - p["beta"] * centre["D"]}


def _bounded(p, log):
    h = np.logaddexp(p.log_A - p.alpha * log.N, p.log_B - p.beta * log.D)
    share = -np.logaddexp(0.0, h)  # log of 1 / (1 + h), the share of E
    return share, h + share


register(Form(
    "bounded", "E + (L0 - E) h / (1 + h), h = e^log_A N^-alpha + e^log_B D^-beta; L0 is the loss of a model that learned "
    "nothing", "Practical Scaling Law (arXiv:2605.09189)", ("N", "D"), (E, Amplitude("L0")),
    (exponent("alpha"), exponent("beta"), Parameter("log_A", -15.0, 15.0), Parameter("log_B", -15.0, 15.0)), _bounded,
    shift=_bounded_shift, shifted=("log_A", "log_B"),
    derived=lambda p: {"A": (p["L0"] - p["E"]) * np.exp(p["log_A"]), "B": (p["L0"] - p["E"]) * np.exp(p["log_B"])}))


def _effective(log_total, log_unique, rate):
    """log of U (1 + R (1 - exp(-r / R))), r the repetitions of total over U, R = rate; U itself where nothing repeats."""
    repeats = np.maximum(np.expm1(np.maximum(log_total - log_unique, 0.0)), 0.0)
    return log_unique + np.log1p(-rate * np.expm1(-repeats / rate))


def _data_constrained(p, log):
    ratio = p.beta / p.alpha
    best = np.log(p.G) + ratio * (log.U + np.log(p.G))          # log N_opt(U): no excess parameters up to here
    return (0.0, -p.alpha * _effective(log.N, np.minimum(log.N, best), p.R_N),
            -p.beta * _effective(log.D, np.minimum(log.D, log.U), p.R_D))


register(Form(
    "data_constrained", "E + A / N'^alpha + B / D'^beta, D' = U_D (1 + R_D (1 - exp(-(D/U_D - 1) / R_D))) and N' alike "
    "with U_N = min(N, G (G U)^(beta/alpha)) and R_N", "Muennighoff et al. 2023 (arXiv:2305.16264), equations 5 and 6",
    ("N", "D", "U"), (E, A, B),
    (exponent("alpha"), exponent("beta"), Parameter("R_D", 0.1, 1e4, scale="log"), Parameter("R_N", 0.1, 1e4, scale="log"),
     Parameter("G", 1e-3, 1e3, scale="log")), _data_constrained, centred=(), constant=("U",)))

# --------------------------------------------------------------------------- links: an error from the loss

register(Form(
    "downstream", "epsilon - k exp(-gamma L)", "Gadre et al. 2024 (arXiv:2403.08540), equation 5: top-1 error from loss",
    ("L",), (Amplitude("epsilon"), Amplitude("k", sign=-1.0)), (Parameter("gamma", 1e-2, 1e2, scale="log"),),
    lambda p, log: (0.0, -p.gamma * np.exp(log.L)), centred=()))

register(Form(
    "sigmoid", "floor + span / (1 + exp(-slope (L - middle)))", "Ruan et al. 2024 (arXiv:2405.10938): error from loss",
    ("L",), (Amplitude("floor"), Amplitude("span")),
    (Parameter("slope", 1e-2, 1e3, scale="log"), Parameter("middle", 0.3, 3.0, scale="log", unit="L", relative=True)),
    lambda p, log: (0.0, -np.logaddexp(0.0, -p.slope * (np.exp(log.L) - p.middle))), centred=()))
