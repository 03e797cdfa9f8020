"""Evaluations of finished runs beside those of their records: on other data, of earlier steps, averages or more examples.

`workdir/evaluations/<run>-<hash>.json` holds one of them, with its digest. The hash is that of what was evaluated, so an
evaluation is there once, and no later one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from scaling.store import files, strict_json

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("run", "step", "data_fingerprint", "evaluated")  # what is evaluated; all else follows from the run


def evaluation_path(workdir, what: Mapping[str, Any]) -> epath.Path:
    """The file of an evaluation, which has the `KEYS`, and "weights" with a "digest" where these are not the run's own."""
    other = {"weights": what["weights"]["digest"]} if what.get("weights") else {}
    named = strict_json.digest({name: what[name] for name in KEYS} | other)[:12]
    return epath.Path(workdir) / "evaluations" / f"{what['run']}-{named}.json"


def read_evaluation(workdir, what: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation of this run, step and data, or None. Raises `files.DamagedFile`."""
    try:
        return files.read_json(evaluation_path(workdir, what))
    except FileNotFoundError:
        return None


def write_evaluation(workdir, found: Mapping[str, Any]) -> epath.Path:
    """Adds an evaluation, and returns its path. One that another process has written meanwhile stays."""
    path = evaluation_path(workdir, found)
    with contextlib.suppress(FileExistsError):
        files.write_json(path, dict(found), exclusive=True)
    return path


def load_evaluations(workdir) -> pd.DataFrame:
    """All evaluations in a workdir as a table, one row each, metrics as columns. Damaged files are skipped with a warning.

    Raises WorkdirError when `workdir` is not a directory.
    """
    import pandas as pd

    workdir = epath.Path(workdir).expanduser()
    if not workdir.is_dir():
        raise files.WorkdirError(f"workdir {os.fspath(workdir)!r} is not a directory: name one that holds runs")
    rows, folder = [], workdir / "evaluations"
    for path in sorted(folder.glob("*.json")) if folder.exists() else []:
        try:
            found = files.read_json(path)
        except files.DamagedFile as error:
            warnings.warn(f"{error}; it is skipped", stacklevel=2)
            continue
        weights = {"weights": found["weights"]["checkpoint"]} if found.get("weights") else {}
        rows.append({**{k: v for k, v in found.items() if not isinstance(v, dict)}, **weights, **found["metrics"]})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["run", "step", "data", "data_fingerprint", "evaluated"])
