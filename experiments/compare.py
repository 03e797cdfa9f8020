"""Compare two recipes on one ladder of compute: does a change keep its gain at scale?

    python -m experiments.compare --base=configs/quickstart.py --change=configs/quickstart.py \\
        --change.family.activation=gelu --workdir=runs/compare

trains both recipes, two config files of the usual kind, as experiments.run would, without a forecast: the base in
runs/compare/base and the change in runs/compare/change. --base.FIELD and --change.FIELD override fields. The command can be
interrupted at any moment; the same command goes on where it was. --dry_run prints both plans and stops.

    python -m experiments.compare --base_workdir=runs/a --change_workdir=runs/b --target_flops=1e20 --output=runs/compared

compares two finished studies and trains nothing. The speed-up at a rung is the compute that the base needs for the loss
which the change reaches, over the compute of the change. The command prints it with its 90% interval for every rung and for
the target (by default ten times the compute of the largest rung), the verdict (keeps, fades, reverses or cannot tell), its
reason, and what would decide it. Runs of equal seeds are paired. compare.json and report/index.html go to --output, or to
--workdir. --json prints the content of compare.json as one line of JSON, and text to standard error.

    python -m experiments.compare --points=losses.csv --recipes=adamw,muon
    python -m experiments.compare --speedups=2e18:1.315,1.1e19:1.228 --noise=0.01

compare published numbers: a table of losses with the columns recipe, flops and loss, and perhaps seed, rung, N and D; or
speed-ups that are given, at FLOPs each. Two speed-ups show no noise, so --noise assumes one. Any flag can come from the
environment, such as SCALING_WORKDIR; the command line wins. Exit status: 0 for any verdict; 1 when there is nothing to
compare; 2 for flags; 75 after SIGTERM, which means: start me again.
"""

import datetime
import shlex
import sys

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from experiments._config_flags import refuse_unknown
from experiments._errors import ending_well, in_flags, in_one_sentence
from experiments._json import answering
from scaling import laws
from scaling.store import files

_BASE = config_flags.DEFINE_config_file("base", None, "The config file of the base.", lock_config=True)
_CHANGE = config_flags.DEFINE_config_file("change", None, "The config file of the change.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "With --base and --change: the directory of both studies and the result.")
_BASE_WORKDIR = flags.DEFINE_string("base_workdir", None, "The workdir of a finished study of the base.")
_CHANGE_WORKDIR = flags.DEFINE_string("change_workdir", None, "The workdir of a finished study of the change.")
_POINTS = flags.DEFINE_string("points", None, "A table of losses, a row for each run: recipe, flops, loss, seed.")
_RECIPES = flags.DEFINE_list("recipes", [], "With --points: the two values of its column recipe, the base first.")
_SPEEDUPS = flags.DEFINE_list("speedups", [], "Speed-ups that are given, as FLOPs:speed-up, separated by commas.")
_NOISE = flags.DEFINE_float("noise", None, "Assumed relative noise: of each of --speedups, or of the loss of a run.", 0.0)
_Y = flags.DEFINE_string("y", None, "The metric: a column of the records or of --points. By default the studies' own.")
_COMPUTE = flags.DEFINE_string("compute", None, "With --points: the column of C, the training FLOPs.")
_WHERE = flags.DEFINE_string("where", None, "With --points: which rows, in columns.")
_LAW = flags.DEFINE_string("law", None, "The law of the base, in compute or in N and D. By default saturating_power, and "
                           "chinchilla where N and D vary apart.")
_TARGET = flags.DEFINE_float("target_flops", None, "The compute to extrapolate to; by default ten times the largest rung.")
_LEVEL = flags.DEFINE_float("level", 0.9, "Level of the intervals.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 2000, "Draws for the intervals.", lower_bound=100)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the draws.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "The directory for compare.json and report/; by default --workdir.")
_JSON = flags.DEFINE_bool("json", False, "Print the comparison as one line of JSON, and text to standard error.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "With --base and --change: print both plans, create nothing, and stop.")
_PACK = flags.DEFINE_integer("pack", 0, "Runs that one program trains together; 0 is one per device.", 0)
_MESH = flags.DEFINE_string("mesh", "", "Sizes of mesh axes, such as data=4,tensor=-1; the others are chosen.")

WAYS = {"base": ("base", "change", "workdir"), "base_workdir": ("base_workdir", "change_workdir"), "points": ("points",),
        "speedups": ("speedups",)}
ONLY = {"recipes": "points", "compute": "points", "where": "points", "dry_run": "base", "pack": "base", "mesh": "base"}


def main(argv):
    with in_one_sentence(in_flags), answering(_JSON.value) as answer:
        if len(argv) > 1:
            raise flags.Error(f"unexpected argument {argv[1]!r}: options start with --")
        way = _way()
        if way == "base":
            with ending_well():
                plans = _train()
            if _DRY_RUN.value:
                answer |= plans
                return
        found = _compared(way)
        print(found, flush=True)
        answer |= found.to_json()
        if output := _OUTPUT.value or (_WORKDIR.value if way == "base" else None):
            answer |= _write(found, epath.Path(output).expanduser())


def _way() -> str:
    """Which kind of comparison the flags ask for: a key of WAYS. Raises flags.Error unless they ask for one, and wholly."""
    asked = [way for way, names in WAYS.items() if any(flags.FLAGS[name].value for name in names if name != "workdir")]
    if len(asked) != 1:
        raise flags.Error("say what to compare, in one of four ways: --base=A.py --change=B.py --workdir=DIR, or "
                          "--base_workdir=DIR --change_workdir=DIR, or --points=TABLE, or --speedups=FLOPS:1.3,FLOPS:1.2")
    way = asked[0]
    if missing := [f"--{name}" for name in WAYS[way] if not flags.FLAGS[name].value]:
        raise flags.Error(f"{' and '.join(missing)} must be given too: --{'=... --'.join(WAYS[way])}=...")
    for name, of in (*ONLY.items(), *([("workdir", "base")] if way != "base" else [])):
        if of != way and flags.FLAGS[name].present:
            raise flags.Error(f"--{name} goes with --{of}" + (": write --output=DIR here" if name == "workdir" else ""))
    if way == "speedups" and (_LAW.value or _Y.value):
        raise flags.Error("--law and --y go with losses, and --speedups are given without any")
    if not 0 < _LEVEL.value < 1:
        raise flags.Error(f"--level must lie between 0 and 1, got {_LEVEL.value:g}")
    if _NOISE.value is not None and not 0 < _NOISE.value < 1:
        raise flags.Error(f"--noise is relative, such as 0.01 for one percent; got {_NOISE.value:g}")
    return way


def _train() -> dict:
    """Trains both recipes in --workdir, unless --dry_run is given. Prints and returns the plans."""
    from scaling.devices.layouts import one_cpu_device_per_core
    one_cpu_device_per_core()  # before JAX starts
    from scaling.devices import exits, hosts
    from scaling.devices.compilation import keep_compiled
    from scaling.study import configs, two_studies
    from scaling.sweeps.runner import TrainingOptions

    hosts.start("", 0, -1)
    keep_compiled()
    holders = [flags.FLAGS[name] for name in two_studies.NAMES]
    base, change = (configs.define_study(configs.load_config(config_flags.get_config_filename(each)), each.value)
                    for each in holders)
    studies = two_studies.two_studies((base, change), _WORKDIR.value, TrainingOptions(mesh=_MESH.value), _PACK.value,
                                      _command(), _Y.value)
    for name, study in zip(two_studies.NAMES, studies):
        print(f"{name}: {study.describe()}\n", flush=True)
    plans = {name: study.values() for name, study in zip(two_studies.NAMES, studies)}
    if _DRY_RUN.value:
        return plans
    exits.listen_for_signals()
    for study in studies:
        study.go()
    print()
    return plans


def _compared(way: str) -> laws.Speedup:
    """The comparison. Raises LawError, in one sentence, where there is none."""
    shared = {"target_flops": _TARGET.value, "noise": _NOISE.value, "level": _LEVEL.value, "draws": _BOOTSTRAP.value,
              "seed": _SEED.value}
    if way == "speedups":
        return laws.speedup_of_ratios(*_given(), **shared)
    if way == "points":
        columns = {name: flag.value for name, flag in (("y", _Y), ("compute", _COMPUTE), ("where", _WHERE)) if flag.value}
        base, change = laws.ladders_of_table(_POINTS.value, _RECIPES.value or None, **columns)
    else:
        paths = (_BASE_WORKDIR.value, _CHANGE_WORKDIR.value)
        if way == "base":
            paths = tuple(epath.Path(_WORKDIR.value).expanduser() / name for name in ("base", "change"))
        metric = _Y.value or laws.shared_metric(paths)
        base, change = (laws.ladder_of_workdir(path, name, metric) for path, name in zip(paths, ("base", "change")))
    return laws.speedup(base, change, law=_LAW.value, **shared)


def _given() -> tuple[list[float], list[float]]:
    """(FLOPs, speed-ups) of --speedups."""
    try:
        pairs = [tuple(map(float, part.split(":"))) for part in _SPEEDUPS.value]
        flops, ratios = zip(*pairs)
    except ValueError:
        raise flags.Error("--speedups takes pairs FLOPs:speed-up separated by commas, such as 2e18:1.315,1.1e19:1.228; "
                          f"got {','.join(_SPEEDUPS.value)!r}") from None
    return list(flops), list(ratios)


def _command() -> str:
    return "python -m experiments.compare " + " ".join(map(shlex.quote, sys.argv[1:]))


def _write(found: laws.Speedup, output: epath.Path) -> dict:
    """Writes compare.json and the page. Returns when and how the file was made, and both paths."""
    from scaling import report

    files.open_workdir(output)
    made = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "command": _command()}
    files.write_json(output / "compare.json", found.to_json() | {"made": made})
    page = report.write_speedup(found, output / "report")
    print(f"\nwritten: {output / 'compare.json'}\nreport: {page}", flush=True)
    return {"made": made, "written": output / "compare.json", "report": page}


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=refuse_unknown)
