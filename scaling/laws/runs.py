"""Runs to fit: a table, the roles of its columns (N, D, the loss, ...), and the rows that were left out and why.

    runs = Runs.from_csv("points.csv", y="loss", params="model_params", data="train_tokens", where="kept")
"""
from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.forms.form import Form, LawError
from scaling.results import records
from scaling.store import files

# Column names for a role that the user names no column for. The first one in the table wins.
GUESSES = {
    "y": ("loss", "y", "bits_per_byte", "bits_per_dim"),
    "N": ("N", "params_non_embedding", "params", "model_params", "n_params", "parameters", "n"),
    "D": ("D", "tokens_seen", "examples_seen", "train_tokens", "tokens", "examples", "n_tokens", "d"),
    "C": ("C", "flops", "compute", "training_flops", "train_flops"),
    "U": ("U", "unique_tokens", "tokens_unique", "examples_unique"),
    "M": ("M", "tokens_per_param"), "x": ("x",), "L": ("L",), "D_F": ("D_F",), "experts": ("experts", "n_experts"),
}
OPTIONS = {"params": "N", "data": "D", "compute": "C", "unique": "U"}  # keyword or flag: role
READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": lambda path: pd.read_json(path, lines=True),
           ".tsv": lambda path: pd.read_csv(path, sep="\t")}


@dataclass(frozen=True, eq=False)
class Runs:
    """A table of runs with the roles of its columns.

    frame: the runs that are kept, with all their columns and a fresh index. columns: {role: column}, where a role is "y"
    or an input of a law. rows: their row numbers in the source, from 0. dropped: {"row", "why"} of each run left out.
    """
    frame: pd.DataFrame
    columns: dict[str, str]
    rows: np.ndarray
    dropped: list[dict] = field(default_factory=list)
    source: dict = field(default_factory=dict)

    @classmethod
    def from_dataframe(cls, frame, y: str | None = None, where: str | None = None, *, params: str | None = None,
                       data: str | None = None, compute: str | None = None, unique: str | None = None,
                       source: Mapping | None = None, **roles: str) -> Runs:
        """Runs of a DataFrame, or of anything that makes one.

        Columns are named by role: y, params (N), data (D), compute (C), unique (U), or any input of a law, x="flops". A
        role without a name takes the first well-known column (GUESSES). where: an expression in columns, for
        pandas.DataFrame.eval. Raises LawError for a column that is not there.
        """
        frame = pd.DataFrame(frame).reset_index(drop=True)
        given = {"y": y, "N": params, "D": data, "C": compute, "U": unique, **roles}
        chosen = {role: column for role, column in given.items() if column is not None}
        there = ", ".join(map(str, frame.columns))
        for role, column in chosen.items():
            if column not in frame.columns:
                raise LawError(f"no column {column!r} for {role}; the columns are {there}")
        for role, names in GUESSES.items():
            if role not in chosen and (found := next((n for n in names if n in frame.columns), None)):
                chosen[role] = found
        runs = cls(frame, chosen, np.arange(len(frame)), [], dict(source or {"kind": "table", "sha256": _hash(frame)}))
        return runs if where is None else runs.where(where)

    @classmethod
    def from_csv(cls, path, y: str | None = None, where: str | None = None, **columns: str) -> Runs:
        """Runs of a CSV, TSV, Parquet or JSON-lines file, by its suffix. Options are those of `from_dataframe`."""
        path = pathlib.Path(path)
        if path.suffix not in READERS:
            raise LawError(f"{path} has no suffix of a table that can be read: {', '.join(READERS)}")
        try:
            frame = READERS[path.suffix](path)
            source = {"kind": "file", "path": os.fspath(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        except FileNotFoundError:
            raise LawError(f"there is no file {path}") from None
        except (ValueError, OSError, ImportError) as error:  # pandas' ParserError is a ValueError
            raise LawError(f"{path} could not be read as a table: {str(error).splitlines()[0]}") from None
        return cls.from_dataframe(frame, y, where, source=source, **columns)

    @classmethod
    def from_workdir(cls, path, metric: str | None = None, tuned: bool = True, where: str | None = None) -> Runs:
        """The runs of the sweep of a study that `experiments.run` trained, without those that diverged.

        metric: a column of the records, by default the study's own. tuned: only the best learning rate at each N and D.
        """
        from scaling.results import tuned as best  # here, since it imports SciPy, which other tables do without
        study = pathlib.Path(path) / "study.json"
        about = files.read_json(study) if study.exists() else {}
        metric, unit = metric or about.get("metric") or "loss", about.get("unit") or "tokens"
        frame = records.load_records(path)
        if frame.empty:
            raise LawError(f"{path} holds no records yet")
        if metric not in frame.columns:
            measured = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
            raise LawError(f"no metric {metric!r} in the records of {path}; there are {', '.join(measured)}")
        frame = best.clean(frame, metric)
        frame = frame[frame["role"] == "sweep"]
        source = {"kind": "workdir", "path": os.fspath(path), "runs": len(frame)}
        kept = (best.tuned_cells(frame, metric) if tuned else frame).reset_index(drop=True)
        columns = {"params": "params_non_embedding", "data": f"{unit}_seen", "compute": "flops",
                   "unique": f"{unit}_unique"}
        runs = cls.from_dataframe(kept, metric, source=source, **columns)
        runs = runs.select(np.isfinite(runs.frame[metric].to_numpy(float)), "diverged or not measured")
        return runs if where is None else runs.where(where)

    # ---------------------------------------------------------------------------------------------- selecting

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, mask, why: str) -> Runs:
        """The runs where the mask [n] is true. The others are noted as dropped, with the reason `why`."""
        mask = np.asarray(mask, bool)
        gone = [{"row": int(row), "why": why} for row in self.rows[~mask]]
        return dataclasses.replace(self, frame=self.frame[mask].reset_index(drop=True), rows=self.rows[mask],
                                   dropped=[*self.dropped, *gone])

    def where(self, expression: str) -> Runs:
        """The runs for which an expression in column names is true, such as "kept and loss < 4"."""
        try:
            mask = self.frame.eval(expression, engine="python")
            mask = pd.Series(mask, self.frame.index).astype(bool).to_numpy()
        except Exception as error:  # pandas raises whatever Python's parser and the columns' types make of it
            raise LawError(f"cannot select runs by {expression!r}: {str(error).splitlines()[0]}; the columns are "
                           f"{', '.join(map(str, self.frame.columns))}") from None
        if not mask.any():
            raise LawError(f"no run is left where {expression!r}")
        return self.select(mask, f"not {expression}")

    def averaged(self) -> Runs:
        """Runs with equal inputs become one: y is their mean, "<y>_se" its standard error, "seeds" their number."""
        y = self.columns["y"]
        keys = [column for role, column in self.columns.items() if role != "y"]
        groups = self.frame.groupby(keys, sort=False, dropna=False)
        frame = groups.first().reset_index()
        frame[y] = groups[y].mean().to_numpy()
        frame["seeds"] = groups[y].size().to_numpy()
        frame[f"{y}_se"] = groups[y].sem().to_numpy()
        first = groups[y].apply(lambda values: values.index[0]).to_numpy()
        return dataclasses.replace(self, frame=frame, rows=self.rows[first])

    # ------------------------------------------------------------------------------------------------- values

    def values(self, role: str) -> np.ndarray:
        """The numbers of a role, [n]. C and M have the values 6 N D and D / N if they have no column."""
        if role not in self.columns and role in ("C", "M") and {"N", "D"} <= set(self.columns):
            n, d = self.values("N"), self.values("D")
            return 6.0 * n * d if role == "C" else d / n
        if role not in self.columns:
            option = next((k for k, v in OPTIONS.items() if v == role), role)
            raise LawError(f"which column is {role}? Say {option}=<column>; the columns are "
                           f"{', '.join(map(str, self.frame.columns))}")
        column = self.frame[self.columns[role]]
        try:
            return column.to_numpy(float)
        except (TypeError, ValueError):
            raise LawError(f"column {self.columns[role]!r} is not numeric") from None

    @property
    def y(self) -> np.ndarray:
        return self.values("y")

    @property
    def flops(self) -> np.ndarray:
        """The training FLOPs of each run: the column C, or else 6 N D."""
        return self.values("C")

    def inputs(self, form: Form) -> np.ndarray:
        """The natural logarithms of a law's inputs, [I, n]. Raises LawError for values that have none."""
        return np.log(np.stack([self.positive(name) for name in form.inputs]))

    def positive(self, role: str) -> np.ndarray:
        """The numbers of a role, [n]. Raises LawError if one of them has no logarithm."""
        values = self.values(role)
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            name = self.columns.get(role, role)
            raise LawError(f"column {name!r} must be positive and finite to take its logarithm, but {bad.size} of "
                           f"{len(values)} values are not (first: {values[bad[0]]:g} in row {self.rows[bad[0]]}); drop "
                           f"those rows (diverged runs?), for instance where='{name} > 0'")
        return values

    def manifest(self) -> dict:
        """What was fitted, for a paper: the source, the columns, the rows used, and the rows left out with the reason."""
        return {"source": self.source, "columns": dict(self.columns), "points": len(self),
                "rows": [int(row) for row in self.rows], "dropped": list(self.dropped)}


def _hash(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def as_runs(runs, **columns) -> Runs:
    """Runs of Runs, of the path of a table, or of anything that makes a DataFrame."""
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, (str, os.PathLike)):
        return Runs.from_csv(runs, **columns)
    return Runs.from_dataframe(runs, **columns)
