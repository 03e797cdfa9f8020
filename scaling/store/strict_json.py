"""Strict JSON, and digests in it: a value that was changed since it was written does not fit its digest any more.

    {"loss": 2.5, "digest": "…"}           a dict carries its digest under the key "digest"
    {"list": [1, 2], "digest": "…"}        anything else is wrapped

The digest is that of the value, not of its text, so a file may be indented anew. Values without one, such as those of
older versions and of people, are taken as they are.
"""

import dataclasses
import hashlib
import json
import math
import os
from typing import Any

import numpy as np

KEY, WRAPPED = "digest", "list"


class SealError(ValueError):
    """A value is not the one that its digest belongs to."""


def finite(number) -> float | None:
    """A number for JSON, which has no infinity and no NaN: None stands for them."""
    return float(number) if math.isfinite(number) else None


def digest(value) -> str:
    """The digest of a JSON value: 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def seal(value) -> dict:
    """The JSON value with its digest. The key "digest" of a dict must be free."""
    if not isinstance(value, dict) or set(value) == {WRAPPED}:
        value = {WRAPPED: value}
    if KEY in value:
        raise ValueError(f"the key {KEY!r} at the top is reserved for the digest of the values: rename it")
    return {**value, KEY: digest(value)}


def unseal(value):
    """The value that `seal` was given, or `value` itself where it has no digest. Raises SealError."""
    if not isinstance(value, dict) or KEY not in value:
        return value
    content = {name: v for name, v in value.items() if name != KEY}
    if value[KEY] != digest(content):
        raise SealError("its digest does not match")
    return content[WRAPPED] if set(content) == {WRAPPED} else content


def is_sealed(text) -> bool:
    """Whether a JSON text is a dict with a digest, matching or not."""
    value = json.loads(text)
    return isinstance(value, dict) and KEY in value


def dumps(obj, indent=None) -> str:
    """Strict JSON, which browsers and jq can read.

    Takes dicts, lists, NumPy and JAX arrays and scalars, paths and dataclasses. JSON has no NaN and no infinity, so
    they are written as null, and the dict around them records them under the key "nonfinite":
    {"loss": NaN, "a": [1.0, inf]} becomes
    {"loss": null, "a": [1.0, null], "nonfinite": {"loss": "nan", "a": {"1": "inf"}}}. `loads` restores them.
    """
    return _dump(_plain(obj), indent)


def loads(text) -> Any:
    """The values that `dumps` was given."""
    return _restore(json.loads(text))


def dumps_sealed(obj, indent=None) -> str:
    """`dumps` with a digest in it."""
    return _dump(seal(_plain(obj)), indent)


def loads_sealed(text):
    """The values that `dumps_sealed` or `dumps` was given.

    Raises SealError where the digest does not match, and one of several errors where the text is no JSON of `dumps`.
    """
    return _restore(unseal(json.loads(text)))


def dumps_line(obj: dict) -> str:
    """One line of a JSON-lines file: the dict with its digest, so that `loads_line` sees whether it is whole."""
    return dumps_sealed(obj) + "\n"


def loads_line(line: bytes) -> dict | None:
    """The dict on one line of a JSON-lines file, without its digest; None when the line is torn or damaged."""
    try:
        value = loads_sealed(line.decode())
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _dump(value, indent=None):
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(obj):
    """The JSON value of `obj`."""
    value, marks = _encode(obj, "")
    if marks is not None:
        raise ValueError(f"JSON cannot hold NaN or infinity outside a dict: wrap {obj!r} in a dict")
    return value


def _encode(x, where):
    """(JSON value of x, marks). Marks are "nan", "inf" or "-inf" for such a float, {index: marks} for a list, else None."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        x = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    if x is None or isinstance(x, (bool, int, str)):
        return x, None
    if isinstance(x, float):
        return (float(x), None) if math.isfinite(x) else (None, str(float(x)))
    if isinstance(x, dict):
        pairs = {str(k): _encode(v, f"{where}.{k}") for k, v in x.items()}
        value = {k: v for k, (v, _) in pairs.items()}
        marks = {k: m for k, (_, m) in pairs.items() if m is not None}
        if "nonfinite" in value:
            raise ValueError(f"the key 'nonfinite' at {where.lstrip('.') or 'the top'} is reserved for NaN and infinity: "
                             "rename it")
        return ({**value, "nonfinite": marks} if marks else value), None
    if isinstance(x, (list, tuple)):
        pairs = [_encode(v, f"{where}.{i}") for i, v in enumerate(x)]
        marks = {str(i): m for i, (_, m) in enumerate(pairs) if m is not None}
        return [v for v, _ in pairs], marks or None
    if isinstance(x, os.PathLike):
        return os.fspath(x), None
    if hasattr(x, "isoformat"):
        return x.isoformat(), None
    if hasattr(x, "__array__"):
        return _encode(np.asarray(x).tolist(), where)
    raise TypeError(f"{type(x).__name__} at {where.lstrip('.') or 'the top'} has no JSON form: {x!r}")


def _restore(x):
    if isinstance(x, dict):
        return _decode({k: _restore(v) for k, v in x.items()})
    return [_restore(v) for v in x] if isinstance(x, list) else x


def _decode(d):
    def put(value, marks):
        if isinstance(marks, str):
            return float(marks)
        value = list(value)
        for i, m in marks.items():
            value[int(i)] = put(value[int(i)], m)
        return value
    marks = d.pop("nonfinite", {})
    return {**d, **{k: put(d[k], m) for k, m in marks.items()}}
