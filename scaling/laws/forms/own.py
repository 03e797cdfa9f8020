"""A law of one's own in a Python file, for the commands: read, checked, and found again by saved fits.

The file makes a Form, or several, with or without `register`. Every mistake in it is one sentence.
"""
from __future__ import annotations

import hashlib
import os
import pathlib
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np

from scaling.laws.forms.catalogue import FORMS
from scaling.laws.forms.form import Amplitude, Form, LawError, Parameter

SCALES = ("linear", "log", "symlog")
AGREE = 1e-4   # relative difference of two derivatives that is rounding


def own_form(path, name: str | None = None) -> Form:
    """The Form that a Python file makes, checked; `name` where it makes several. Raises LawError in one sentence.

    The form carries the file's path and SHA-256, so that a saved fit can be loaded again.
    """
    path = pathlib.Path(path)
    try:
        code = path.read_bytes()
    except OSError as error:
        raise LawError(f"{path}, a file with a law, cannot be read: {error.strerror}") from None
    before = dict(FORMS)
    names: dict = {"__name__": path.stem, "__file__": os.fspath(path)}
    try:
        exec(compile(code, os.fspath(path), "exec"), names)
        made = {**{name: form for name, form in FORMS.items() if before.get(name) is not form},
                **{value.name: value for value in names.values() if isinstance(value, Form)
                   and before.get(value.name) is not value}}
    except SyntaxError as error:
        raise LawError(f"{path}, line {error.lineno}, is no Python: {error.msg}") from None
    except Exception as error:  # whatever the user's code raises
        raise LawError(f"{_place(path, error)}: {_said(error)}") from None
    finally:
        FORMS.clear()
        FORMS.update(before)
    if not made:
        raise LawError(f"{path} makes no law: write form = Form(name=..., formula=..., ...), as docs/laws-forms.md shows")
    if name is None and len(made) > 1:
        raise LawError(f"{path} makes {len(made)} laws, {', '.join(made)}: say which one with --law, such as "
                       f"--law={next(iter(made))}")
    form = made.get(name or next(iter(made)))
    if form is None:
        raise LawError(f"{path} makes no law {name!r}; it makes {', '.join(made)}")
    known = before.get(form.name)
    if known is not None and (known.file or {}).get("path") != os.path.abspath(path):
        raise LawError(f"{path}: the name {form.name!r} is that of another law: choose a name of its own")
    _check(form, path)
    return replace(form, file={"path": os.path.abspath(path), "sha256": hashlib.sha256(code).hexdigest()})


def form_again(saved: dict, name: str, beside) -> Form:
    """The form of a saved fit from the file that made it; `saved` is {"path", "sha256"}, `beside` the saved fit's path.

    A file that is not where it was is looked up in the saved fit's folder. Raises LawError if it has changed.
    """
    places = [pathlib.Path(saved["path"]), pathlib.Path(beside).parent / pathlib.Path(saved["path"]).name]
    place = next((place for place in places if place.exists()), places[0])
    form = own_form(place, name)
    assert form.file is not None
    if form.file["sha256"] != saved["sha256"]:
        raise LawError(f"{place} has changed since {beside} was fitted with its law {name}: fit again, or bring the old "
                       "file back")
    return form


def _place(path: pathlib.Path, error: Exception) -> str:
    """The file, and the last line of it that ran before the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.fspath(path)]
    return f"{path}, line {lines[-1]}" if lines else os.fspath(path)


def _said(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, LawError) else f"{type(error).__name__}: {first}"


def _check(form: Form, path: pathlib.Path) -> None:
    """Raises LawError for a form that could not be fitted."""
    def refuse(what: str) -> NoReturn:
        raise LawError(f"{path}, law {form.name}: {what}")

    for field, kind, example in (("inputs", str, '("x",)'), ("amplitudes", Amplitude, '(Amplitude("A"),)'),
                                 ("nonlinear", Parameter, '(Parameter("alpha", 0.01, 4.0),)')):
        value = getattr(form, field)
        if not isinstance(value, tuple) or not all(isinstance(each, kind) for each in value):
            refuse(f"{field} must be a tuple of {kind.__name__}, such as {example}, not {value!r}")
    if not form.inputs or not form.amplitudes:
        refuse("it needs an input and an amplitude at least")
    names = [*form.inputs, *form.names]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            refuse(f"inputs and parameters need names of their own that Python can read, and {name!r} is none")
    for p in form.amplitudes:
        if p.low not in (0.0, -np.inf) or not p.high > p.low or p.sign not in (1.0, -1.0):
            refuse(f"amplitude {p.name} has low {p.low}, high {p.high} and sign {p.sign}: low must be 0 or -inf, high "
                   "above it, and sign 1 or -1")
    for p in form.nonlinear:
        if p.scale not in SCALES or (p.unit and p.unit not in form.inputs):
            refuse(f"parameter {p.name} has scale {p.scale!r} and unit {p.unit!r}: scales are {', '.join(SCALES)}, and a "
                   "unit is the name of an input")
        if not (np.isfinite([p.low, p.high]).all() and p.low < p.high) or (p.log and p.low <= 0):
            refuse(f"parameter {p.name} is searched from {p.low} to {p.high}: give finite ends, low < high"
                   + (", above 0 for scale 'log'" if p.log else ""))
    for field, allowed in (("centred", form.inputs), ("constant", form.inputs), ("anchors", form.inputs),
                           ("shifted", form.names)):
        if odd := [name for name in getattr(form, field) or () if name not in allowed]:
            refuse(f"{field} names {odd[0]!r}; there are {', '.join(allowed)}")
    _check_terms(form, path, refuse)


@np.errstate(all="ignore")
def _check_terms(form: Form, path: pathlib.Path, refuse: Callable[[str], NoReturn]) -> None:
    """Tries the formula and its derivatives at a few places inside the bounds."""
    rng = np.random.default_rng(0)
    logs = rng.uniform(0.1, 3.0, (len(form.inputs), 4)) + np.log([[form.anchors.get(name, 1.0)] for name in form.inputs])
    placed = form.placed(logs)
    share = rng.uniform(0.2, 0.8, (3, len(form.nonlinear)))
    theta = np.stack([p.value(p.coordinate(p.low) + share[:, k] * (p.coordinate(p.high) - p.coordinate(p.low)))
                      for k, p in enumerate(placed.nonlinear)], axis=1) if form.nonlinear else np.zeros((3, 0))
    try:
        values = _values(form, theta, logs)
        jets = form.jets(theta, logs)
    except AttributeError as error:
        if "SimpleNamespace" in str(error):
            there = [*(f"p.{p.name}" for p in form.nonlinear), *(f"log.{name}" for name in form.inputs)]
            refuse(f"terms uses {str(error).rpartition('attribute ')[2]}, but there are {', '.join(there)}")
        refuse(f"terms fails: {_said(error)}")
    except Exception as error:  # whatever the user's formula raises
        refuse(f"terms fails in {_place(path, error)}: {_said(error)}")
    for j, (value, jet) in enumerate(zip(values, jets)):
        if not np.isfinite(value).any():
            refuse(f"the term of {form.amplitudes[j].name} is not finite for parameters inside their bounds")
        for k, p in enumerate(form.nonlinear):
            step = 1e-5 * np.maximum(np.abs(theta[:, k]), 1e-3)
            up, down = theta.copy(), theta.copy()
            up[:, k] += step
            down[:, k] -= step
            slope = (_values(form, up, logs)[j] - _values(form, down, logs)[j]) / (2 * step[:, None])
            given = np.broadcast_to(jet.first.get(k, 0.0), slope.shape)
            wrong = np.abs(slope - given) > AGREE * (np.abs(slope) + np.abs(given) + 1e-3 * np.abs(value) + 1e-3)
            if np.mean(wrong & np.isfinite(slope)) > 0.5:
                refuse(f"the derivative of the term of {form.amplitudes[j].name} by {p.name} is not that of its values")


def _values(form: Form, theta, logs) -> np.ndarray:
    return np.log(np.abs(form.features(theta, logs))).transpose(1, 0, 2)
