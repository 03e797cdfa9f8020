"""Inspect the weights of a checkpoint, compare two checkpoints, or see how weights change with a model's size.

    python -m tools.inspect_checkpoint --checkpoint=runs/quickstart/params/031ff251d4a59b0f

prints the parameters by module and by axes, their norms, how far each is from its initialisation (drawn again from the
experiment in the checkpoint), and measures of the spectrum of every matrix, with each stacked layer on its own: the
largest singular value, the same over sqrt(outputs / inputs) ("gain"), the stable rank, and the effective rank.

    python -m tools.inspect_checkpoint --checkpoint=A --against=B

compares two checkpoints of one model: the relative difference of B from A and their cosine. Modules that differ most come
first. For two steps of one run, the relative difference is the update-to-weight ratio.

    python -m tools.inspect_checkpoint --workdir=runs/quickstart --output=weights
    python -m tools.inspect_checkpoint --checkpoints='soups/*' --output=weights

reads the best run of each size of a study, or several checkpoints. It prints one row per model, and the power of N by
which each measure of each kind of matrix grows. With --output it also draws the measures against N.

A checkpoint is a directory with one directory per step, such as workdir/params/<run>, or one of these steps. Checkpoints
of a pack, in workdir/checkpoints/<pack>/<segment>, hold several runs (--run chooses one) and, where the runs keep an
average, averaged weights too (--part=ema). --output also gets every number as CSV and JSON; these replace the files of an
earlier command. Paths may be gs://... with the extra gcs. Exit status: 0; 1 when something cannot be read or compared; 2
for wrong flags. The reason is one sentence on standard error.
"""

import math

import pandas as pd
from absl import flags
from etils import epath

from scaling import fields
from scaling.figures import plot as style
from scaling.figures import words
from scaling.store import files
from tools import _checkpoints, _checkpoints_flags
from tools import _checkpoints_across as across
from tools import _checkpoints_measure as measure
from tools._checkpoints_flags import CHECKPOINTS, OUTPUT, PART, RUN

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The checkpoint to inspect.")
_AGAINST = flags.DEFINE_string("against", None, "Another checkpoint of the same model, to compare with.")
_WORKDIR = flags.DEFINE_string("workdir", None, "A study; the best run of each size is read.")
_DEPTH = flags.DEFINE_integer("depth", 3, "The depth of the table of modules.", 0)
_ROWS = flags.DEFINE_integer("rows", 20, "The number of modules that a comparison prints.", 1)
_METRIC = flags.DEFINE_string("metric", None, "The metric that chooses best runs; by default the study's.")
_INITIAL = flags.DEFINE_bool("initial", True, "Compare with the initialisation, which is drawn again.")
flags.adopt_module_key_flags(_checkpoints_flags)

NORMS = {"norm": "norm", "rms": "rms"}  # {column: head} of tables
SPECTRA = {"sigma_max": "sigma max", "gain": "gain", "stable_rank": "stable rank"}


def main():
    ways = {"checkpoint": _CHECKPOINT.value, "workdir": _WORKDIR.value, "checkpoints": CHECKPOINTS.value}
    if sum(map(bool, ways.values())) != 1:
        raise flags.Error("give exactly one of --checkpoint, --checkpoints and --workdir")
    if _AGAINST.value and not _CHECKPOINT.value:
        raise flags.Error("--against=B needs --checkpoint=A")
    if _METRIC.value and not _WORKDIR.value:
        raise flags.Error("--metric needs --workdir, whose best runs it chooses")
    if OUTPUT.value and epath.Path(OUTPUT.value).is_file():
        raise files.WorkdirError(f"--output={OUTPUT.value} is a file: name a directory")
    figures = {}
    if _AGAINST.value:
        text, tables = compare()
    elif _CHECKPOINT.value:
        text, tables = one()
    else:
        text, tables, figures = sweep()
    print(text)
    if OUTPUT.value:
        write(files.open_workdir(OUTPUT.value), tables, figures)


def one() -> tuple[str, dict]:
    """(text, {table: rows}) of one checkpoint."""
    weights = _checkpoints.read(_CHECKPOINT.value, RUN.value, PART.value)
    known = weights.experiment is not None
    fresh = known and weights.experiment.start is None
    start = _checkpoints.initial(weights.experiment) if fresh and _INITIAL.value else None
    frame = measure.rows(weights, start)
    modules, axes = measure.by_module(frame, _DEPTH.value), measure.by_axes(frame)
    text = [f"{weights.shown}: {frame['parameters'].sum():,} parameters"]
    if frame["not_finite"].any():
        bad = frame[frame["not_finite"] > 0]
        text.append(f"{bad['not_finite'].sum():,} of them are not finite; the first is in {bad['path'].iloc[0]}")
    if not known:
        text.append("the checkpoint does not say its experiment: the names of axes and the initialisation are unknown")
    if known and not fresh and _INITIAL.value:
        text.append("the run began with the parameters of another run, so they are not compared with an initialisation")
    moved = {"update": "update"} if "update" in frame else {}
    heads = {"parameters": "parameters", "share": "share"}
    text += ["", _checkpoints.table(_indented(modules), {"module": "module"} | heads | NORMS | moved),
             "", _checkpoints.table(_shares(axes), {"axes": "axes"} | heads)]
    matrices = frame[frame["kind"] != measure.VECTORS].to_dict("records")
    shown = [row | {"layer": "" if row["layer"] < 0 else str(row["layer"]),
                    "shape": f"{row['inputs']:.0f} x {row['outputs']:.0f}"} for row in matrices]
    heads = {"path": "matrix", "layer": "layer", "shape": "inputs x outputs", "rms": "rms", **SPECTRA,
             "effective_rank": "effective rank"}
    text += ["", _checkpoints.table(shown, heads | moved)]
    if moved:
        text += ["", "update: distance from the initialisation over its norm; ∞ where weights started from zero"]
    return "\n".join(text), {"arrays": frame.to_dict("records"), "modules": modules, "axes": axes}


def compare() -> tuple[str, dict]:
    """(text, {table: rows}) of the comparison of --checkpoint (A) with --against (B)."""
    a, b = (_checkpoints.read(path, RUN.value, PART.value) for path in (_CHECKPOINT.value, _AGAINST.value))
    frame = measure.compared(a, b)
    whole = measure.pooled(frame)
    groups = frame.groupby("module", sort=False)
    modules = [{"module": name, **measure.pooled(group)} for name, group in groups]
    modules.sort(key=lambda row: (not math.isnan(row["update"]), -row["update"]))
    heads = {"module": "module", "parameters": "parameters", "start_norm": "norm in A", "norm": "norm in B",
             "update": "relative difference", "cosine": "cosine"}
    everything = {"module": "all", **whole}
    text = [f"A: {a.shown}", f"B: {b.shown}", _relation(a, b, whole["update"]), "",
            _checkpoints.table([everything, *modules[:_ROWS.value]], heads)]
    if len(modules) > _ROWS.value:
        text.append(f"and {words.plural(len(modules) - _ROWS.value, 'module')} that differ less; see --rows")
    return "\n".join(text), {"arrays": frame.to_dict("records"), "modules": [everything, *modules]}


def _relation(a, b, update) -> str:
    if a.experiment is None or b.experiment is None:
        return "the checkpoints do not say their experiments"
    other = _checkpoints.difference(*(fields.replace(x.experiment, {x.experiment.data.length_knob: 0}) for x in (a, b)))
    if other:
        return f"two runs: {other}"
    apart = b.step - a.step
    if not apart:
        return "one run at one step"
    return (f"one run, {words.plural(abs(apart), 'step')} apart: the update-to-weight ratio is "
            f"{words.number(update, 3)}, {words.number(update / abs(apart), 3)} per step")


def sweep() -> tuple[str, dict, dict]:
    """(text, {table: rows}, {file: figure}) of models of several sizes."""
    if _WORKDIR.value:
        found = across.best(_WORKDIR.value, _METRIC.value)
    else:
        found = [(path, {}) for path in _checkpoints.expand(CHECKPOINTS.value)]
    frame = across.read(found, RUN.value, PART.value, _INITIAL.value)
    models, powers = across.sizes(frame), across.powers(frame)
    extra = {name: name for name in found[0][1]}
    moved = {"update": "update"} if "update" in frame else {}
    numbers = {"rms": "rms"} | SPECTRA | {"rank_used": "rank used"} | moved
    heads = {"N": "N", "name": "checkpoint", "step": "step"} | extra | NORMS | numbers
    shown = [row | {"N": words.count(row[across.N]), "name": row["checkpoint"].rpartition("/")[2],
                    "data": words.count(row.get("data"))} for row in models]
    heads.pop("gain")
    text = [_checkpoints.table(shown, heads)]
    if frame[across.N].nunique() > 1:
        text += ["", "powers of N, by least squares of logarithms:",
                 _checkpoints.table([row | {name: _power(row[name]) for name in numbers} for row in powers],
                                    {"player": "player", "kind": "kind", "models": "models"} | numbers)]
    players = list(frame["player"].unique())
    drawn = {"across.png": across.figure(frame, "")} if len(players) == 1 else {
        f"across-{player}.png": across.figure(frame[frame["player"] == player], player) for player in players}
    tables = {"models": models, "kinds": frame.to_dict("records"), "powers": powers}
    return "\n".join(text), tables, drawn


def write(output, tables, figures) -> None:
    """Writes each table as CSV, all of them as one JSON with the singular values and without NaNs, and the figures."""
    for name, rows in tables.items():
        frame = pd.DataFrame(rows).drop(columns="singular_values", errors="ignore")
        files.atomic_write(output / f"{name}.csv", frame.to_csv(index=False))
    files.write_json(output / "weights.json", {
        name: [{k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))} for row in rows]
        for name, rows in tables.items()})
    for name, figure in figures.items():
        style.save_figure(output / name, figure)
    written = [f"{name}.csv" for name in tables] + ["weights.json", *figures]
    print(f"\nwritten: {', '.join(written)} in {output}")


def _power(value):
    return "" if value is None else f"{value:+6.2f}".replace("-", "−")


def _indented(modules):
    return [row | {"module": "  " * row["module"].count("/") + row["module"].rpartition("/")[2]}
            for row in _shares(modules)]


def _shares(rows):
    return [row | {"share": words.percent(row["share"])} for row in rows]


if __name__ == "__main__":
    _checkpoints.run(main)
