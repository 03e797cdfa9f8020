"""Runs to fit: a table, the roles of its columns (N, D, the loss, ...), and the rows that were left out and why.

    runs = Runs.from_csv("points.csv", y="loss", params="model_params", data="train_tokens", where="kept")
"""
from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.forms.form import Form, LawError
from scaling.laws.tables import expressions
from scaling.laws.tables.cells import CellError, numeric
from scaling.laws.tables.read import read_table
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
        role may also be an expression in columns, such as y="1 - acc", which becomes a column of that name. A role without
        a name takes the first well-known column (GUESSES). where: an expression that is true for the rows to keep. Names
        such as train/loss stand in backticks in an expression. Raises LawError for a column that is not there.
        """
        frame = pd.DataFrame(frame).reset_index(drop=True)
        if not frame.columns.is_unique:
            repeated = frame.columns[frame.columns.duplicated()][0]
            raise LawError(f"two columns are called {repeated!r}: give each its own name")
        given = {"y": y, "N": params, "D": data, "C": compute, "U": unique, **roles}
        chosen = {role: column for role, column in given.items() if column is not None}
        for role, column in chosen.items():
            frame, chosen[role] = with_column(frame, column, f"for {role}")
        for role, names in GUESSES.items():
            if role not in chosen and (found := next((n for n in names if n in frame.columns), None)):
                chosen[role] = found
        runs = cls(frame, chosen, np.arange(len(frame)), [], dict(source or {"kind": "table", "sha256": _hash(frame)}))
        return runs if where is None else runs.where(where)

    @classmethod
    def from_csv(cls, path, y: str | None = None, where: str | None = None, **columns: str) -> Runs:
        """Runs of a table in a file: CSV and its kin, JSON, JSON lines or Parquet (`tables.read`), plain or compressed.

        Options are those of `from_dataframe`. A row that does not fit the header is refused.
        """
        frame, source = read_table(path)
        return cls.from_dataframe(frame, y, where, source=source, **columns)

    @classmethod
    def from_workdir(cls, path, metric: str | None = None, tuned: bool = True, where: str | None = None,
                     **columns: str) -> Runs:
        """The runs of the sweep of a study that `experiments.run` trained, without those that diverged.

        metric: a column of the records, by default the study's own. tuned: only the best learning rate at each N and D,
        without the cells that the study leaves out because theirs is at the edge. columns: roles as in `from_dataframe`,
        such as params="params_active" or experts="family.experts", for a law in other inputs than the study's own.
        """
        from scaling.laws.forms.catalogue import FORMS
        from scaling.results import edges  # here, since these import SciPy, which other tables do without
        from scaling.results import tuned as best
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
        if planned := about.get("runs"):  # a workdir may also hold runs that are not of its study
            frame = frame[frame["fingerprint"].isin(planned)]
            if frame.empty:
                raise LawError(f"{path} holds no record yet of the {len(planned)} runs that its study.json plans")
        source = {"kind": "workdir", "path": os.fspath(path), "runs": len(frame)}
        kept = (best.tuned_cells(frame, metric) if tuned else frame).reset_index(drop=True)
        usual = {"params": "params_non_embedding", "data": f"{unit}_seen", "compute": "flops", "unique": f"{unit}_unique"}
        runs = cls.from_dataframe(kept, metric, source=source, **(usual | columns))
        config = about.get("config")
        if tuned and isinstance(config, dict) and "fit_edges" in config:  # else the study is of an older version
            law = FORMS.get(about.get("law"), FORMS["chinchilla"])
            runs = runs.without_edges(edges.left_out(frame, kept, len(law.free), config["fit_edges"]))
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

    def without_edges(self, edge: Iterable[str]) -> Runs:
        """The tuned runs of a study without those whose best learning rate is at an `edge` [n] of those tried: "lowest" or
        "highest", "" where it is not. They are noted as dropped with their fingerprints."""
        at = np.asarray(list(edge), object)
        gone = [{"row": int(row), "why": f"its best learning rate is the {side} one tried", "fingerprint": name}
                for row, side, name in zip(self.rows, at, self.frame["fingerprint"]) if side]
        return dataclasses.replace(self.select(at == "", ""), dropped=[*self.dropped, *gone])

    def where(self, expression: str) -> Runs:
        """The runs for which an expression in column names is true, such as "kept and loss < 4".

        A column that is asked yes or no is read as people write that (true, yes, t, 1); what is missing is not true.
        """
        mask = expressions.select(self.frame, expression)
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
        name = self.columns[role]
        try:
            return numeric(self.frame[name])
        except CellError as error:
            row = f" in row {self.rows[error.place]}" if error.place < len(self.rows) else ""
            raise LawError(f"column {name!r} is not numeric: {error}{row}") from None

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
                           f"{len(values)} values are not (first: {values[bad[0]]:g} in row {self.rows[bad[0]]}); "
                           f"{self._advice(role, values)}")
        return values

    def usable(self, role: str, positive: bool = True) -> str:
        """The expression for `where` that keeps the rows in which a role can be used: finite, and positive if asked."""
        name = self.columns.get(role)
        parts = {"C": ("N", "D"), "M": ("N", "D")}.get(role, ()) if name is None else ()
        if parts:
            return " and ".join(self.usable(part, positive) for part in parts)
        return f"{'0' if positive else '-inf'} < {expressions.quoted(str(name))} < inf"

    def _advice(self, role: str, values: np.ndarray) -> str:
        """What to do about values that have no logarithm. The advice works when it is followed."""
        finite, quote = values[np.isfinite(values)], expressions.quoted(str(self.columns.get(role, role)))
        if not finite.size:
            return "measure it, or name another column"
        if role == "y" and not (finite > 0).any() and (finite < 0).any():
            keep = "" if len(finite) == len(values) and (finite < 0).all() else f" and where='-inf < {quote} < 0'"
            return f"a metric that is negative everywhere is fitted with its sign turned, y='-{quote}'{keep}"
        if (finite > 0).any() and not (finite < 0).any() and (finite == 0).any() and role not in ("y", "N", "D", "C", "M"):
            return (f"keep the other rows, where='{self.usable(role)}', or count from 1, with {quote} + 1 in place of "
                    f"{quote}")
        if not (finite > 0).any():
            return "name a column of positive values"
        other = ""
        if role == "y" and (finite < 0).any():
            other = "; a metric of either sign is fitted with loss='huber' and a constant whose bounds are -inf and inf"
        return f"drop those rows (diverged runs?), where='{self.usable(role)}'{other}"

    def manifest(self) -> dict:
        """What was fitted, for a paper: the source, the columns, the rows used, and the rows left out with the reason."""
        return {"source": self.source, "columns": dict(self.columns), "points": len(self),
                "rows": [int(row) for row in self.rows], "dropped": list(self.dropped)}


def with_column(frame: pd.DataFrame, name: str, purpose: str) -> tuple[pd.DataFrame, str]:
    """(the frame, a column of it): the column of that name, or else a new one of the expression that the name is.

    Raises LawError, which names the purpose ("for y"), if it is neither.
    """
    if name in frame.columns:
        return frame, name
    bare = str(name).strip().strip("`")
    if bare in frame.columns:
        return frame, bare
    there = expressions.listed(frame)
    try:
        values = expressions.computed(frame, str(name))
    except LawError as error:
        raise LawError(f"no column {name!r} {purpose}, and as an expression: {error}") from None
    if values is None:
        of_runs = [column for column in map(str, frame.columns) if column.endswith(f" - {name}")]
        near = difflib.get_close_matches(str(name), list(map(str, frame.columns)), n=1)
        hint = (f"; {of_runs[0]!r} and its like hold one run each: export a table with one row a run" if of_runs else
                f", did you mean {near[0]!r}?" if near else "")
        raise LawError(f"no column {name!r} {purpose}; the columns are {there}{hint}")
    return frame.assign(**{str(name): values}), str(name)


def _hash(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def as_runs(runs, **columns) -> Runs:
    """Runs of Runs, of the path of a table, or of anything that makes a DataFrame."""
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, (str, os.PathLike)):
        return Runs.from_csv(runs, **columns)
    return Runs.from_dataframe(runs, **columns)
