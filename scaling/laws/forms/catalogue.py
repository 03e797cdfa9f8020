"""The laws that come with the package. Importing `scaling.laws` registers them; `forms.get(name)` finds them.

Parameters that have a unit are searched within so many times the range of the data in that unit.
"""
from __future__ import annotations

import numpy as np

from scaling.laws.forms.form import FAMILIES, Amplitude, Form, LawError, Parameter, register
from scaling.laws.forms.jets import Jet, apply

EXPONENT = (0.01, 4.0)  # below 0.01 a power over any measurable range is a constant; above 4 it is a step
E, A, B = Amplitude("E"), Amplitude("A"), Amplitude("B")


def exponent(name: str) -> Parameter:
    return Parameter(name, *EXPONENT)


# ------------------------------------------------------------------------------------------------ one input

POWER = register(Form(
    "power", "A x^-alpha", "Hestness et al. 2017 (arXiv:1712.00409)", ("x",), (A,), (exponent("alpha"),),
    lambda p, log: (-p.alpha * log.x,)))

SATURATING_POWER = register(Form(
    "saturating_power", "E + A x^-alpha", "Henighan et al. 2020 (arXiv:2010.14701), equation 1.1",
    ("x",), (E, A), (exponent("alpha"),), lambda p, log: (0.0, -p.alpha * log.x)))

RISING_POWER = register(Form(
    "rising_power", "E - A x^-alpha", "Ghorbani et al. 2021 (arXiv:2109.07740), for metrics that grow, such as BLEU",
    ("x",), (E, Amplitude("A", sign=-1.0)), (exponent("alpha"),), lambda p, log: (0.0, -p.alpha * log.x)))

SHIFTED_POWER = register(Form(
    "shifted_power", "E + A (x + d)^-alpha", "Zhai et al. 2021 (arXiv:2106.04560), equation 1",
    ("x",), (E, A), (exponent("alpha"), Parameter("d", 1e-3, 1e3, scale="log", unit="x", relative=True)),
    lambda p, log: (0.0, -p.alpha * np.logaddexp(log.x, np.log(p.d)))))


def _way_to_go(level, alpha):
    """log u with u / (1 - u)^alpha = exp(level): of M4, the share of its way that the loss has still to go."""
    t, a = (np.asarray(x.value if isinstance(x, Jet) else x, float) for x in (level, alpha))
    w = np.clip(np.where(t < 0, t, t / a), -700.0, 700.0)  # log odds of u: nearly linear in the level, slopes 1, 1/alpha
    extra = a - 1.0
    for _ in range(30):                       # Newton, in place: this is most of the time that a fit of M4 takes
        odds = np.exp(w)
        above = odds + 1.0
        step = np.log(above)                  # -log(1 - u)
        step *= extra
        step += w
        step -= t
        odds /= above
        odds *= extra
        odds += 1.0
        step /= odds
        w -= step
        if max(step.max(), -step.min()) <= 1e-6:  # quadratic: what is left is the square of it
            break
    odds = np.exp(np.clip(w, -700.0, 700.0))
    rest = -np.log1p(odds)
    v = w + rest
    if not isinstance(level, Jet) and not isinstance(alpha, Jet):
        return v
    slope = 1.0 / (1.0 + a * odds)            # of v by the level
    by_alpha = rest * slope
    bend = a * odds * (1.0 + odds)            # second derivative of v - alpha log(1 - e^v) by v
    return apply(v, (level, alpha), [slope, by_alpha], {
        (0, 0): -bend * slope ** 3, (0, 1): -(odds + bend * by_alpha) * slope * slope,
        (1, 1): -(2.0 * odds * by_alpha + bend * by_alpha ** 2) * slope})


M4 = register(Form(
    "m4", "E + A u(x), u / (1 - u)^alpha = (x / x0)^-c",
    "Alabdulmohsin et al. 2022 (arXiv:2209.06640), M4: (y - E) / (y0 - y)^alpha = b x^-c with y0 = E + A",
    ("x",), (E, A), (Parameter("alpha", 0.05, 10.0, scale="log"), Parameter("c", 0.01, 10.0),
                     Parameter("x0", 1e-6, 1e3, scale="log", unit="x", relative=True)),
    lambda p, log: (0.0, _way_to_go(-p.c * (log.x - np.log(p.x0)), p.alpha)),
    derived=lambda p: {"y0": p["E"] + p["A"]}))


def bnsl(breaks: int = 1) -> Form:
    """A smoothly broken power law with any number of breaks; with one its name is "bnsl", else "bnsl2", ..."""
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

CHINCHILLA = register(Form(
    "chinchilla", "E + A N^-alpha + B D^-beta", "Hoffmann et al. 2022 (arXiv:2203.15556), equation 2",
    ("N", "D"), (E, A, B), (exponent("alpha"), exponent("beta")),
    lambda p, log: (0.0, -p.alpha * log.N, -p.beta * log.D)))

TIED_CHINCHILLA = register(Form(
    "tied_chinchilla", "E + A N^-alpha + B D^-alpha", "Gadre et al. 2024 (arXiv:2403.08540), section 2",
    ("N", "D"), (E, A, B), (exponent("alpha"),), lambda p, log: (0.0, -p.alpha * log.N, -p.alpha * log.D)))

OVERTRAINING = register(Form(
    "overtraining", "E + (A M^eta + B M^-eta) C^-eta, M = D / N", "Gadre et al. 2024 (arXiv:2403.08540), equation 4",
    ("C", "M"), (E, A, B), (exponent("eta"),),
    lambda p, log: (0.0, p.eta * (log.M - log.C), -p.eta * (log.M + log.C))))


def _kaplan_shift(p, centre):
    return {**p, "log_ratio": p["log_ratio"] - centre["D"] + p["alpha"] / p["beta"] * centre["N"]}


KAPLAN = register(Form(
    "kaplan", "A (N^(-alpha/beta) + e^log_ratio / D)^beta; (N_c/N)^alpha at infinite D, (D_c/D)^beta at infinite N",
    "Kaplan et al. 2020 (arXiv:2001.08361), equation 1.5", ("N", "D"), (A,),
    (exponent("alpha"), exponent("beta"), Parameter("log_ratio", -25.0, 25.0)),
    lambda p, log: (p.beta * np.logaddexp(-p.alpha / p.beta * log.N, p.log_ratio - log.D),),
    shift=_kaplan_shift, shifted=("log_ratio",),
    derived=lambda p: {"N_c": p["A"] ** (1 / p["alpha"]), "D_c": np.exp(p["log_ratio"]) * p["A"] ** (1 / p["beta"])}))

INTERACTION = register(Form(
    "interaction", "E + A N^-alpha + B D^-beta + G N^-alpha D^-beta", "Chinchilla with a product term of either sign",
    ("N", "D"), (E, A, B, Amplitude("G", low=-np.inf)), (exponent("alpha"), exponent("beta")),
    lambda p, log: (0.0, -p.alpha * log.N, -p.beta * log.D, -p.alpha * log.N - p.beta * log.D)))


def _bent_log(log, power):
    """(x^power - 1) / power of log x, which is log x itself at power 0 (Box and Cox 1964)."""
    z = np.asarray(log * (power.value if isinstance(power, Jet) else power), float)
    near = np.abs(z) < 0.03
    w = np.where(near, 1.0, z)
    grown = np.exp(w)
    value = np.where(near, 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5))), np.expm1(w) / w)
    if not isinstance(power, Jet):
        return log * value
    slope = np.where(near, 1 / 2 + z / 3 + z ** 2 / 8 + z ** 3 / 30 + z ** 4 / 144, (grown * (w - 1) + 1) / w ** 2)
    bend = np.where(near, 1 / 3 + z / 4 + z ** 2 / 10 + z ** 3 / 36 + z ** 4 / 168,
                    (grown * (w * w - 2 * w + 2) - 2) / w ** 3)
    return apply(log * value, (power,), [log ** 2 * slope], {(0, 0): log ** 3 * bend})


MEDIUM = 1e8  # the size at which E, B and beta of Farseer's law are what they are called


def _farseer(p, log):
    n = log.N - np.log(MEDIUM)
    exponent = p.beta * np.exp(p.beta_slope * _bent_log(n, p.beta_power))
    return p.E_slope * _bent_log(n, p.E_power), p.B_slope * _bent_log(n, p.B_power) - exponent * log.D


def _farseer_shift(p, centre):
    n = centre["N"]
    moved = {name: p[name] * np.exp(p[name.replace("slope", "power")] * n) for name in ("E_slope", "B_slope", "beta_slope")}
    return {**p, **moved, "beta": p["beta"] * np.exp(p["beta_slope"] * _bent_log(n, p["beta_power"]))}


def _farseer_published(p):
    out = {}
    for i, name in enumerate(("beta", "B", "E"), 1):
        a = p[f"{name}_slope"] / p[f"{name}_power"]
        out |= {f"a{i}": a * MEDIUM ** -p[f"{name}_power"], f"b{i}": np.log(p[name]) - a}
    return out


FARSEER = register(Form(
    "farseer", "E exp(E_slope n(E_power)) + B exp(B_slope n(B_power)) D^-(beta exp(beta_slope n(beta_power))), "
    "n(k) = ((N / 1e8)^k - 1) / k",
    "Li et al. 2025 (arXiv:2506.10972): exp(a3 N^g + b3) + exp(a2 N^b + b2) D^-exp(a1 N^a + b1), a_i = slope / power",
    ("N", "D"), (E, B),
    (Parameter("beta", 0.01, 4.0, scale="log"), Parameter("beta_slope", -1.0, 1.0), Parameter("beta_power", -1.0, 1.0),
     Parameter("B_slope", -4.0, 4.0), Parameter("B_power", -1.0, 1.0),
     Parameter("E_slope", -1.0, 1.0), Parameter("E_power", -1.0, 1.0)),
    _farseer, centred=("N",), shift=_farseer_shift, shifted=("beta", "beta_slope", "B_slope", "E_slope"),
    anchors={"N": MEDIUM}, derived=_farseer_published))


def _effective(log_total, log_unique, rate):
    """log of U (1 + R (1 - exp(-r / R))), r the repetitions of total over U, R = rate; U itself where nothing repeats."""
    repeats = np.maximum(np.expm1(np.maximum(log_total - log_unique, 0.0)), 0.0)
    return log_unique + np.log1p(-rate * np.expm1(-repeats / rate))


def _data_constrained(p, log):
    ratio = p.beta / p.alpha
    best = np.log(p.G) + ratio * (log.U + np.log(p.G))          # log N_opt(U): no excess parameters up to here
    return (0.0, -p.alpha * _effective(log.N, np.minimum(log.N, best), p.R_N),
            -p.beta * _effective(log.D, np.minimum(log.D, log.U), p.R_D))


DATA_CONSTRAINED = register(Form(
    "data_constrained", "E + A / N'^alpha + B / D'^beta, D' = U_D (1 + R_D (1 - exp(-(D/U_D - 1) / R_D))) and N' alike "
    "with U_N = min(N, G (G U)^(beta/alpha)) and R_N", "Muennighoff et al. 2023 (arXiv:2305.16264), equations 5 and 6",
    ("N", "D", "U"), (E, A, B),
    (exponent("alpha"), exponent("beta"), Parameter("R_D", 0.1, 1e4, scale="log"), Parameter("R_N", 0.1, 1e4, scale="log"),
     Parameter("G", 1e-3, 1e3, scale="log")), _data_constrained, centred=(), constant=("U",)))

# ------------------------------------------------------------------------------------- more inputs, and links


def _experts_shift(p, centre):
    return {"a": p["a"] + p["c"] * centre["experts"], "b": p["b"] + p["c"] * centre["N"], "c": p["c"]}


EXPERTS = register(Form(
    "experts", "A N^-a experts^-b exp(-c log N log experts)",
    "Clark et al. 2022 (arXiv:2202.01169), equation 1: bilinear in the logarithms, loss in logarithms too",
    ("N", "experts"), (A,), (Parameter("a", -2.0, 4.0), Parameter("b", -2.0, 4.0), Parameter("c", -1.0, 1.0)),
    lambda p, log: (-p.a * log.N - p.b * log.experts - p.c * log.N * log.experts,),
    shift=_experts_shift, shifted=("a", "b")))

DOWNSTREAM = register(Form(
    "downstream", "epsilon - k exp(-gamma L)", "Gadre et al. 2024 (arXiv:2403.08540), equation 5: top-1 error from loss",
    ("L",), (Amplitude("epsilon"), Amplitude("k", sign=-1.0)), (Parameter("gamma", 1e-2, 1e2, scale="log"),),
    lambda p, log: (0.0, -p.gamma * np.exp(log.L)), centred=()))

SIGMOID = register(Form(
    "sigmoid", "floor + span / (1 + exp(-slope (L - middle)))", "Ruan et al. 2024 (arXiv:2405.10938): error from loss",
    ("L",), (Amplitude("floor"), Amplitude("span")),
    (Parameter("slope", 1e-2, 1e3, scale="log"), Parameter("middle", 0.3, 3.0, scale="log", unit="L", relative=True)),
    lambda p, log: (0.0, -np.logaddexp(0.0, -p.slope * (np.exp(log.L) - p.middle))), centred=()))

TRANSFER = register(Form(
    "transfer", "k D_F^alpha N^beta", "Hernandez et al. 2021 (arXiv:2102.01293), equation 1.1: effective data transferred",
    ("D_F", "N"), (Amplitude("k"),), (exponent("alpha"), exponent("beta")),
    lambda p, log: (p.alpha * log.D_F + p.beta * log.N,)))
