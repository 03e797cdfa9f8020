"""The prediction for a run that nobody has trained: value, intervals, and warnings about where the target lies."""
from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.forecasts.calibrated import Calibrated, describe_parts
from scaling.laws.forecasts.twostep import TwoStep
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.uncertainty import bootstrap, percentiles
from scaling.laws.runs import Runs

FAR = 10.0           # a target this many times beyond the runs in an input is called far
FAR_COMPUTE = 100.0  # the same for compute, which is the product of two inputs
LEVELS = (0.005, 0.01, 0.025, *(i / 20 for i in range(1, 20)), 0.975, 0.99, 0.995)  # quantiles that are kept
SIGMA = statistics.NormalDist().cdf(1.0)  # a spread is half the distance of the quantiles SIGMA and 1 - SIGMA


def predict_run(fit, boot, target: Mapping, level: float = 0.9) -> dict:
    """The prediction of the metric of the run `target`, as plain values.

    fit and boot: a Fit and its Bootstrap or Calibrated, or a TwoStep and its TwoStepBootstrap. target: the law's inputs by
    name (N, D) or by column (params_non_embedding, ...), and anything else to keep about the run ("flops",
    "fingerprint", ...).

    In the result, predicted is the law's value. interval is a prediction interval: it holds the uncertainty
    of the law and the noise of one run. confidence is the interval of the law alone. distribution has
    quantiles of the draws behind the interval, and their spread: half the width of the central 68.3%, in
    logarithms where `space` is "log". compute_ratio is the target's FLOPs over those of the largest fitted
    run, None where either is unknown. In two steps, loss is the prediction of the first step, and direct is
    the prediction of the law's form fitted to the metric itself. Of a Calibrated, parts says how large each part of
    the interval is (see `Calibrated.parts`), and chosen how the law was chosen and what the back-test held.

    Raises LawError if the target lacks an input of the law, or if boot belongs to another fit.
    """
    if boot.fit is not fit:
        raise LawError("the bootstrap belongs to another fit; pass the bootstrap of this one")
    target, at, ratio = place_target(fit, target)
    draws = boot.samples(**at, noise=True)
    space = "linear" if fit.spec.space == "linear" or draws.min() <= 0 else "log"
    low, high = in_space(space, np.quantile(draws, [1 - SIGMA, SIGMA]))
    interval = [float(end) for end in boot.predict(**at, level=level, noise=True)]
    confidence = [float(end) for end in boot.predict(**at, level=level, noise=False)]
    said = [*fit.diagnostics, *boot.diagnostics, *_reach(fit, at, ratio, interval)]
    steps = _steps(fit, boot, at, level) if isinstance(fit, TwoStep) else {}
    if isinstance(boot, Calibrated):
        steps = {"parts": boot.parts(**at), "chosen": boot.selection.to_json(brief=True)}
    return {"target": target, "metric": fit.runs.columns["y"], "predicted": float(fit.predict(**at)),
            "interval": interval, "confidence": confidence, "level": level,
            "distribution": {"levels": list(LEVELS), "values": np.quantile(draws, LEVELS).tolist(),
                             "space": space, "spread": float(high - low) / 2},
            "compute_ratio": ratio, "diagnostics": [diagnostic.to_json() for diagnostic in said]} | steps


def in_space(space: str, values):
    """The values as they are, or their logarithms where `space` is "log"."""
    return np.log(values) if space == "log" else np.asarray(values, float)


def describe_forecast(content: Mapping, fit) -> str:
    """A prediction (from `predict_run` or `forecast.write`) as a few lines of text."""
    level, roles = content["level"], {column: role for role, column in fit.runs.columns.items()}
    at = ", ".join(f"{roles.get(name, name)} = {value if isinstance(value, str) else f'{value:.6g}'}"
                   for name, value in content["target"].items())
    lines = [f"{content['metric']} of the run with {at}:",
             f"  {content['predicted']:.5g}, {level:.0%} [{_ends(content['interval'])}] for one run, "
             f"[{_ends(content['confidence'])}] for the law itself",
             f"  by {fit.form.name} ({fit.form.formula}), {len(fit.y)} runs"]
    if loss := content.get("loss"):
        lines.append(f"  through {loss['metric']} = {loss['predicted']:.5g} [{_ends(loss['interval'])}]")
        direct = content["direct"]
        lines.append(f"  in one step: {direct['predicted']:.5g} [{_ends(direct['interval'])}]"
                     if "predicted" in direct else f"  no forecast in one step: {direct['refused']}")
    if parts := content.get("parts"):
        lines.append(f"  {describe_parts(parts)}")
    if content["compute_ratio"]:
        lines.append(f"  {content['compute_ratio']:.3g} times the compute of the largest run")
    if naive := content.get("naive"):
        lines.append(f"  without the law: {', '.join(f'{name} {value:.5g}' for name, value in naive.items())}")
    return "\n".join([*lines, *(f"  ! {said['message']}" for said in content["diagnostics"])])


def _ends(interval) -> str:
    return ", ".join(f"{end:.5g}" for end in interval)


def _steps(two: TwoStep, boot, at: Mapping, level: float) -> dict:
    """The loss that two steps predict first, and the prediction of one step, fitted to the metric itself."""
    said = {"loss": {"metric": two.runs.columns["L"], "predicted": two.law.predict(**at),
                     "interval": list(percentiles(boot.losses(**at, noise=True), level))}}
    try:
        direct = two.direct()
        draws = bootstrap(direct, draws=len(boot.law), seed=boot.seed, cluster=boot.cluster)
        interval = list(draws.predict(**at, level=level))
        said["direct"] = {"predicted": direct.predict(**at), "interval": interval}
    except LawError as error:
        said["direct"] = {"refused": str(error)}
    return said


def place_target(fit, target: Mapping) -> tuple[dict, dict, float | None]:
    """(the target by columns, {input: value}, its compute over the largest run's or None)."""
    columns = {role: column for role, column in fit.runs.columns.items() if role != "y"}
    if twice := [role for role, name in columns.items() if role != name and {role, name} <= set(target)]:
        raise LawError(f"the target names {twice[0]} twice, also as {columns[twice[0]]!r}; name it once")
    named = {columns.get(name, name): value for name, value in target.items()}
    called = columns | {name: columns.get(name, name) for name in fit.form.inputs}
    roles = {role: name for role, name in called.items() if name in named}
    alone = Runs(pd.DataFrame({name: [named[name]] for name in roles.values()}), roles, np.arange(1))
    at = {}
    for name in fit.form.inputs:
        try:
            if name in columns and name not in roles:  # 6 N D must not stand in for FLOPs that were counted
                raise LawError
            at[name] = float(alone.values(name)[0])
        except LawError:
            if name in roles:
                raise LawError(f"{name} of the target is not a number: {named[roles[name]]!r}") from None
            known = f"{name} ({columns[name]!r})" if columns.get(name, name) != name else name
            there = ", ".join(map(str, target)) or "nothing"
            raise LawError(f"the target lacks {known}; it has {there}") from None
        if not (math.isfinite(at[name]) and at[name] > 0):
            raise LawError(f"{name} of the target must be positive and finite, got {at[name]:g}")
    alike = {role: name for role, name in columns.items() if role != "C" or "C" in roles}
    try:
        ratio = float(alone.flops[0] / dataclasses.replace(fit.runs, columns=alike).flops.max())
    except LawError:
        ratio = math.nan
    return named, at, ratio if math.isfinite(ratio) else None


def _ranges(fit, at: Mapping) -> Iterator[tuple[str, float, float, float]]:
    """(input, the target's value, the smallest and the largest of the runs), first of the law, then of the link."""
    for name, logs in zip(fit.form.inputs, fit.logs):
        yield name, at[name], float(np.exp(logs.min())), float(np.exp(logs.max()))
    if isinstance(fit, TwoStep):
        losses = np.exp(fit.link.logs[0])
        yield "L", fit.law.predict(**at), float(losses.min()), float(losses.max())


def _reach(fit, at: Mapping, ratio: float | None, interval) -> list[Diagnostic]:
    """Warnings that the target lies far beyond the runs or among them, or that the forecast can hardly fail."""
    said, inside = [], ratio is None or ratio <= 1
    for name, value, low, high in _ranges(fit, at):
        beyond = max(value / high, low / value)
        inside = inside and beyond <= 1
        if beyond > min(FAR, max(high / low, 2.0)):
            side = "above" if value > high else "below"
            said.append(Diagnostic(
                f"{name} = {value:.4g} lies {beyond:.3g} times {side} the runs, which go from {low:.4g} to "
                f"{high:.4g}: no run has tested the law so far out.", "extrapolates", name))
    if ratio is not None and ratio > FAR_COMPUTE:
        said.append(Diagnostic(f"The target takes {ratio:.3g} times the compute of the largest run: no run has "
                               "tested the law so far out.", "extrapolates", "C"))
    if inside:
        said.append(Diagnostic("The target lies within the runs in every input and in compute: this forecast "
                               "interpolates and hardly tests the law.", "interpolates", tuple(at)))
    if interval[1] - interval[0] > np.ptp(fit.y):
        said.append(Diagnostic("The interval is wider than the range of all fitted runs: this forecast can "
                               "hardly fail.", "uninformative"))
    return said
