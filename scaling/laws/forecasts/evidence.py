"""The runs that a forecast was made from, as hashes of their content, so that no change to them stays unseen.

Records of a workdir are named by their fingerprint, rows of a table by their number when the forecast was
written. A later check compares the contents only: rows may be in another order, and others may have joined.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import numpy as np
import pandas as pd
from etils import epath

from scaling.laws.forms.form import LawError
from scaling.laws.runs import as_runs
from scaling.results import records
from scaling.store import files

SAME = 1e-6  # relative difference below which two numbers are equal: they may be typed with fewer digits
# Fields of a record in which a repeated run may differ.
MEASURED = ("finished", "git_commit", "seconds", "device_seconds", "joules", "versions")


def json_digest(plain) -> str:
    """SHA-256 of plain JSON values. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def record_hash(record: Mapping) -> str:
    """SHA-256 of a record's content. NumPy values and NaN are hashed as `files.dumps` writes them."""
    return json_digest(json.loads(files.dumps(dict(record))))


def record_hashes(found: Iterable[Mapping], without: Iterable[str] = MEASURED) -> dict[str, str]:
    """{fingerprint: record_hash} of records. Each record is a dict with a "fingerprint".

    without: fields that are not hashed. A run that was trained again with equal results has an equal hash by default. A
    forecast says in "records_without" which fields its own hashes leave out; one without that key hashed whole records.
    """
    left_out = set(without)
    return {record["fingerprint"]: record_hash({k: v for k, v in record.items() if k not in left_out})
            for record in found}


def row_hashes(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, str]:
    """{"row 0": hash, ...} of a table's rows, over those of `columns` in which the row has a value.

    Numbers are hashed by value and empty cells are left out. So a hash stays the same when a row joins and
    turns a column of integers into one of floats.
    """
    there = [name for name in columns if name in frame.columns]
    rows = zip(*(frame[name].tolist() for name in there))
    return {f"row {label}": record_hash({name: value for name, cell in zip(there, row)
                                         if (value := _cell(cell)) is not None})
            for label, row in zip(frame.index, rows)}


def _cell(value):
    if isinstance(value, (Mapping, list, tuple, np.ndarray)):
        return value
    if pd.isna(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral) and abs(value) > 2 ** 53:  # a float cannot hold it
        return str(int(value))
    return float(value) if isinstance(value, Real) else str(value)


def gather_records(source, measured: Iterable[str], columns: Iterable[str] | None = None,
                   names: Iterable[str] | None = None, without: Iterable[str] = MEASURED):
    """({name: hash}, table, columns hashed) of the records in `source`, which is one of

    - {fingerprint: hash}, which has no table;
    - the path of a workdir. Its records are hashed but for the fields `without`: those in `names`, by default all;
    - Runs, a DataFrame or the path of a table. Rows that have a value in one of the columns `measured` are
      hashed over `columns`, by default all columns.

    Raises LawError if the table lacks a column of `measured`.
    """
    if isinstance(source, Mapping):
        return dict(source), None, None
    if isinstance(source, (str, os.PathLike)) and epath.Path(source).is_dir():
        store = records.Records(source)
        names = store.fingerprints() if names is None else names
        found = record_hashes((store.read(name) for name in names if store.done(name)), without)
        return found, records.load_records(source), None
    frame = as_runs(source).frame
    for name in measured:
        if name not in frame.columns:
            there = ", ".join(map(str, frame.columns))
            raise LawError(f"the records have no column {name!r}; the columns are {there}")
    frame = frame[frame[list(measured)].notna().any(axis=1)]
    columns = list(map(str, frame.columns)) if columns is None else list(columns)
    return row_hashes(frame, columns), frame, columns


def lost(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The records of `before` that `now` lacks, by name: "missing: a, b; changed: c". "" if it has them all."""
    spare, gone = Counter(now.values()), []
    for name, value in before.items():
        if spare[value] > 0:
            spare[value] -= 1
        else:
            gone.append(name)
    both = {"missing": [name for name in gone if name not in now],
            "changed": [name for name in gone if name in now]}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in both.items() if names)


def rows_of_target(frame: pd.DataFrame, target: Mapping) -> np.ndarray:
    """Positions of the rows that are the target run.

    Where both have a fingerprint, it decides. Else a row is the target if it agrees with it in every column
    that both have.
    """
    shared = [name for name in target if name in frame.columns]
    shared = ["fingerprint"] if "fingerprint" in shared else shared
    same = np.full(len(frame), bool(shared))
    for name in shared:
        same &= np.array([_equal(cell, target[name]) for cell in frame[name].tolist()], bool)
    return np.flatnonzero(same)


def _equal(one, other) -> bool:
    if isinstance(one, Real) and isinstance(other, Real):
        return math.isclose(one, other, rel_tol=SAME)
    return str(one) == str(other)
