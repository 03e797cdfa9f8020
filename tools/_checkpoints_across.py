"""How weights change with a model's size, over the runs of a study or over any checkpoints."""

import os

import numpy as np
import pandas as pd
from etils import epath

from scaling import cost
from scaling.fields import nearest
from scaling.figures import plot as style
from scaling.figures import words
from scaling.results import records, tuned
from scaling.store import files
from tools import _checkpoints
from tools import _checkpoints_measure as measure

N = "params_non_embedding"
# The measures that the figure shows: column, title.
PANELS = (("rms", "root mean square of weights"), ("sigma_max", "largest singular value σ"),
          ("gain", "largest σ over √(outputs / inputs)"), ("stable_rank", "stable rank"),
          ("rank_used", "effective rank over full rank"),
          ("update", "distance from initialisation, relative"))
MOST = len(style.HUES)  # the most kinds that one figure can tell apart


def best(workdir, metric: str | None) -> list[tuple[epath.Path, dict]]:
    """[(checkpoint, {"data": D, metric: value})], one run per size of a study: its tuned run with the most data."""
    workdir = epath.Path(workdir).expanduser()
    loaded = records.load_records(workdir)
    if loaded.empty:
        raise _checkpoints.CheckpointsError(f"{os.fspath(workdir)} has no finished runs yet; "
                                            "name checkpoints by --checkpoints")
    if metric is None:
        if not (workdir / "study.json").exists():
            raise _checkpoints.CheckpointsError(
                f"{os.fspath(workdir)} has no study.json yet, which names the metric: name one by --metric")
        metric = files.read_json(workdir / "study.json")["metric"]
    if metric not in loaded or not pd.api.types.is_numeric_dtype(loaded[metric]):
        numbers = sorted(loaded.select_dtypes("number").columns)
        raise _checkpoints.CheckpointsError(f"records have no metric {metric!r}; "
                                            f"{nearest(metric, numbers)}")
    frame = tuned.clean(loaded, metric)
    frame = frame[[(workdir / "params" / name).is_dir() for name in frame["fingerprint"]]]
    finished = [tuned.tuned_cells(frame, metric), frame[(frame["role"] == "target") & ~frame["diverged"]]]
    chosen = pd.concat(finished).sort_values([N, "data"]).groupby(N).tail(1)
    if chosen.empty:
        raise _checkpoints.CheckpointsError(f"no run in {os.fspath(workdir)} that did not diverge has its weights")
    return [(workdir / "params" / row["fingerprint"],
             {"data": float(row["data"]), metric: float(row[metric])}) for row in chosen.to_dict("records")]


def read(found, run, part, against_start: bool) -> pd.DataFrame:
    """One row per model, player and kind, sorted by size. `found` is [(path, {further column: value})]."""
    out = []
    for path, about in found:
        weights = _checkpoints.read(path, run, part)
        if weights.experiment is None:
            raise _checkpoints.CheckpointsError(f"{weights.path} does not say its experiment; "
                                                "--checkpoint reads it without one")
        start = _checkpoints.initial(weights.experiment) if against_start else None
        kinds = measure.by_kind(measure.rows(weights, start))
        counts = cost.param_count(weights.experiment.family)
        known = {N: counts["non_embedding"], "params_total": counts["total"], "checkpoint": weights.path,
                 "step": weights.step, **about}
        out.append(kinds.assign(**known)[[*known, *kinds]])
    return pd.concat(out, ignore_index=True).sort_values(N, kind="stable", ignore_index=True)


def sizes(frame) -> list[dict]:
    """One row per model: what it is, and the measures of all its weights together."""
    own = frame.columns[:frame.columns.get_loc("player")]  # `read` puts these before the measures
    out = []
    for _, group in frame.groupby([N, "checkpoint"], sort=False):
        matrices = group[group["kind"] != measure.VECTORS]
        out.append(group.iloc[0][own].to_dict() | measure.pooled(group) | {
            "sigma_max": matrices["sigma_max"].max(),
            **{name: np.average(matrices[name], weights=matrices["parameters"])
               for name in ("stable_rank", "rank_used")}})
    return out


def powers(frame) -> list[dict]:
    """For each player and kind, the power b in measure ~ N^b, by least squares of logarithms over all models."""
    out = []
    for (player, kind), group in frame.groupby(["player", "kind"], sort=False):
        row = {"player": player, "kind": kind, "models": len(group)}
        for name, _ in PANELS:
            row[name] = _power(group[N], group[name]) if name in group else None
        out.append(row)
    return out


def _power(x, y) -> float | None:
    kept = np.isfinite(y) & (y > 0)
    if x[kept].nunique() < 2:
        return None
    return float(np.polyfit(np.log(x[kept]), np.log(y[kept]), 1)[0])


@style.styled
def figure(frame, title: str):
    """Every measure of one player's matrices against N, with a colour for each kind. Dashes are the initialisation.

    At most `MOST` kinds are drawn: those with the most parameters in the largest model.
    """
    frame = frame[frame["kind"] != measure.VECTORS]
    numbers = frame.select_dtypes("number")
    frame = frame.assign(**numbers.where((numbers > 0) & np.isfinite(numbers)))  # other values have no logarithm
    largest = frame[frame[N] == frame[N].max()].sort_values("parameters", ascending=False, kind="stable")
    kinds = largest["kind"].drop_duplicates().tolist()
    panels = [(name, head) for name, head in PANELS if name in frame]
    drawn, axes = style.panels(2, -(-len(panels) // 2), width=4.2, height=3.3)
    for i, (panel, (name, head)) in enumerate(zip(axes.flat, panels)):
        style.dress(panel, "non-embedding parameters N" if i + axes.shape[1] >= len(panels) else "", head)
        for kind, colour, shape in zip(kinds, style.HUES, style.SHAPES):
            points = frame[frame["kind"] == kind]
            means = points.groupby(N).mean(numeric_only=True)
            panel.plot(points[N], points[name], color=colour, **style.DOT | {"marker": shape})
            panel.plot(means[name], color=colour, label=kind, marker=shape, markersize=4.5, markeredgewidth=0)
            if f"start_{name}" in points:
                panel.plot(means[f"start_{name}"], color=colour, linewidth=1, dashes=(3, 3), alpha=0.6)
        style.finish(panel)
    for panel in axes.flat[len(panels):]:
        panel.set_visible(False)
    drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center",
                 ncols=3 if len(kinds) < 7 else 4, frameon=False, title=title)
    notes = ["means over the matrices of a kind, each stacked layer counted"]
    if "start_rms" in frame:
        notes.insert(0, "dashed: at initialisation")
    if len(kinds) > MOST:
        notes.append(f"{words.plural(len(kinds) - MOST, 'kind')} of fewer parameters only in the table")
    style.note(drawn, "; ".join(notes))
    return drawn
