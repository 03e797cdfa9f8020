"""Flags that the commands of laws share: where runs come from, the columns' roles, how a law is fitted.

A command imports this module and adopts its flags: flags.adopt_module_key_flags(_points).
"""

import sys

from absl import app, flags

from experiments import _environment
from experiments._errors import in_flags
from scaling import laws
from scaling.results import records
from scaling.store import files
from scaling.study.named_values import named_values

_POINTS = flags.DEFINE_string("points", None, "Table of runs, one row a run: CSV and its kin, JSON, Parquet.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Instead of --points: the workdir of a study by experiments.run.")
_LAW = flags.DEFINE_string("law", None, "The law's form; list to list them; best, stacked or median are rules. "
                          "By default chinchilla, or the study's.")
_FORM = flags.DEFINE_string("form", None, "Python file with a law of your own; --law names one of several.")
_Y = flags.DEFINE_string("y", None, "Column of the metric, or an expression in columns: '1 - acc'. Columns that are not "
                         "named are found by their usual names.")
_PARAMS = flags.DEFINE_string("params", None, "Column of N, the parameters.")
_DATA = flags.DEFINE_string("data", None, "Column of D, the tokens or examples seen.")
_COMPUTE = flags.DEFINE_string("compute", None, "Column of C, the training FLOPs.")
_UNIQUE = flags.DEFINE_string("unique", None, "Column of U, the unique tokens or examples.")
_COLUMNS = flags.DEFINE_string("columns", None, "Columns of other inputs: x=width,experts=num_experts.")
_WHERE = flags.DEFINE_string("where", None, "Which rows, in columns: 'kept and flops < 1e21 and `train/loss` < 4'.")
_LOSS = flags.DEFINE_string("loss", None, "Objective: huber, mse, absolute; also with _log or _log1p. By default "
                            "huber_log, or the study's.")
_DELTA = flags.DEFINE_string("delta", None, "Huber's delta, or noise: the best delta for the noise of the runs. By default "
                             "1e-3, or the study's.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Column of weights; 2 counts a run twice.")
_FIX = flags.DEFINE_string("fix", None, "Parameters held at a value: E=1.69.")
_TIE = flags.DEFINE_string("tie", None, "Parameters that equal another: beta=alpha.")
_BOUNDS = flags.DEFINE_string("bounds", None, "Ranges to search parameters in: alpha=0.1:1,beta=0.1:1.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the resamples.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 1000, "Resamples for the intervals.")
_CLUSTER = flags.DEFINE_string("cluster", None, "Column whose groups are resampled whole.")
_LEVEL = flags.DEFINE_float("level", 0.9, "Level of the intervals.")


def pairs(text: str | None, flag: str, value=float) -> dict:
    """"a=1,b=2" -> {"a": 1.0, "b": 2.0}. flags.Error names the flag and the part of it that is no such pair."""
    try:
        return named_values(text, f"--{flag}", value)
    except ValueError as error:
        raise flags.Error(str(error)) from None


def _ends(text: str) -> tuple[float, float]:
    low, high = text.split(":")
    return float(low), float(high)


def columns() -> dict[str, str]:
    """Arguments of Runs.from_csv that name columns. Runs finds the others by their usual names."""
    named = {"y": _Y.value, "params": _PARAMS.value, "data": _DATA.value, "compute": _COMPUTE.value,
             "unique": _UNIQUE.value}
    return {role: name for role, name in named.items() if name} | pairs(_COLUMNS.value, "columns", str)


def everything() -> laws.Runs:
    """All runs of --points or --workdir, without --where. flags.Error unless one of the two is given."""
    if (_POINTS.value is None) == (_WORKDIR.value is None):
        raise flags.Error("name the runs: either --points=FILE, a table with a row a run, "
                          "or --workdir=DIR, a study")
    named = columns()
    if _POINTS.value is not None:
        return laws.Runs.from_csv(_POINTS.value, **named)
    return laws.Runs.from_workdir(_WORKDIR.value, named.pop("y", None), **named)


def chosen(found: laws.Runs) -> laws.Runs:
    """The runs that --where selects."""
    return found.where(_WHERE.value) if _WHERE.value else found


def runs() -> laws.Runs:
    """The runs to fit."""
    return chosen(everything())


def source() -> str | None:
    """The path of --points or --workdir."""
    return _POINTS.value or _WORKDIR.value


def of_study() -> dict:
    """How the study of --workdir fitted its runs: keyword arguments of laws.fit, its law too; {} for a table.

    Another law than the study's is fitted without the study's fixed and tied parameters.
    """
    if _WORKDIR.value is None:
        return {}
    found = laws.settings_of_study(_WORKDIR.value, _Y.value)
    if _FORM.value or _LAW.value not in (None, found.get("law")):
        found = {name: value for name, value in found.items() if name not in ("law", "fix", "tie")}
    return found


def options() -> dict:
    """Keyword arguments of laws.fit, besides the law: the flags, or else what the study of --workdir used."""
    try:
        delta = _DELTA.value if _DELTA.value in ("noise", None) else float(_DELTA.value)
    except ValueError:
        raise flags.Error(f"--delta takes a positive number or the word noise, "
                          f"got {_DELTA.value!r}") from None
    given = {"loss": _LOSS.value, "delta": delta, "weights": _WEIGHTS.value, "fix": pairs(_FIX.value, "fix") or None,
             "tie": pairs(_TIE.value, "tie", str) or None, "bounds": pairs(_BOUNDS.value, "bounds", _ends)}
    usual = {"loss": "huber_log", "delta": 1e-3, "fix": {}, "tie": {}}
    study = {name: value for name, value in of_study().items() if name != "law"}
    return usual | study | {name: value for name, value in given.items() if value is not None}


def law() -> str | laws.Form:
    """The law of --form or --law, or else the study's, or else chinchilla."""
    if _FORM.value and _LAW.value != "list":
        return laws.register(laws.own_form(_FORM.value, _LAW.value))
    return _LAW.value or of_study().get("law") or "chinchilla"


def selected(found: laws.Runs, **changes) -> laws.Selection | None:
    """The choice of a law by the rule that --law names; None where it names a law. changes: to `options`."""
    rule = law()
    if rule not in laws.RULES:
        return None
    shared = {name: value for name, value in (options() | changes).items() if value or name not in ("fix", "tie", "bounds")}
    return laws.choose_law(found, rule, cluster=_CLUSTER.value, level=_LEVEL.value, **shared)


def listing() -> str:
    """Every law: name, formula, source, inputs, parameters."""
    lines = []
    for name, form in laws.FORMS.items():
        lines += [f"{name}: {form.formula}", f"    {form.source}",
                  f"    inputs {', '.join(form.inputs)}; parameters {', '.join(form.names)}"]
    return "\n".join([*lines, "bnsl2, bnsl3, ...: bnsl with that many breaks"])


def listed() -> dict[str, dict]:
    """The same as values."""
    return {name: {"formula": form.formula, "source": form.source, "inputs": form.inputs, "parameters": form.names}
            for name, form in laws.FORMS.items()}


def resampling() -> dict:
    """Keyword arguments of laws.bootstrap."""
    return {"draws": _BOOTSTRAP.value, "cluster": _CLUSTER.value, "seed": _SEED.value}


def check() -> None:
    """Refuses values that no table can follow, before any work. Raises flags.Error or LawError."""
    if not 0 < _LEVEL.value < 1:
        raise laws.LawError(f"--level must lie between 0 and 1, got {_LEVEL.value:g}")
    if _BOOTSTRAP.value < 0 or _BOOTSTRAP.value == 1:
        raise flags.Error("--bootstrap takes a number of resamples, 2 or more, or 0 for no intervals; "
                          f"got {_BOOTSTRAP.value}")
    if _SEED.value < 0:
        raise flags.Error(f"--seed must be 0 or more, got {_SEED.value}")


def level() -> float:
    return _LEVEL.value


def run(main) -> None:
    """app.run of a main() without arguments. Errors that a user can fix end in one sentence, with exit status 2
    for flags and 1 for the rest."""
    def guarded(argv):
        try:
            if len(argv) > 1:
                raise flags.Error(f"unexpected argument {argv[1]!r}: options start with --")
            main()
        except (flags.Error, laws.LawError, files.WorkdirError, files.DamagedFile, records.RecordError,
                OSError) as error:
            print(f"error: {in_flags(str(error))}", file=sys.stderr)
            sys.exit(2 if isinstance(error, flags.Error) else 1)

    app.run(guarded, flags_parser=_environment.parse)
