"""Propose the runs that a study should buy next, and write them as a config that experiments.run takes.

    python -m experiments.plan --workdir=runs/quickstart --budget=1e13 --output=configs/next.py
    python -m experiments.run --config=configs/next.py --workdir=runs/quickstart

reads the records of runs/quickstart, fits its law, and chooses the sizes and amounts of data whose runs
shrink the standard error of one number most for the FLOPs, as counted, that they cost. That number is the
loss of the study's forecast, unless another is named:

    --target_params=1e7 --target_data=2e7         the loss of a model of 1e7 parameters on 2e7 tokens
    --target_compute=1e16                         the loss of the best model for so many FLOPs
    --target_compute=1e16 --quantity=best_size    the size of that model
    --quantity=alpha                              a parameter of the law

The file written holds the old runs too, so that the fit is of all; none of them is trained again. New runs
have the learning rate that those tuned so far lead to at their size, or --rates of them around it, and
lengths of one size share a trunk. With nothing in the workdir yet, a config says what kind of study it is to
be, and gets its first grid:

    python -m experiments.plan --workdir=runs/new --config=configs/quickstart.py --budget=1e13 --output=a.py

Without --output the table is printed and nothing is written. A file that exists is never overwritten. Any flag
can come from the environment, as SCALING_BUDGET and the like; the command line wins.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from experiments import run
from experiments._errors import EXPECTED
from scaling.store import files
from scaling.study import configs, next_config, next_runs

flags.declare_key_flag("config")
flags.declare_key_flag("workdir")
_BUDGET = flags.DEFINE_float(
    "budget", None, "FLOPs to spend on new runs; with an empty workdir, on the grid and the target.", 0.0)
_OUTPUT = flags.DEFINE_string("output", None, "Config file to write, such as configs/next.py.")
_PARAMS = flags.DEFINE_float(
    "target_params", None, "Non-embedding parameters of the run whose loss is wanted.", 0.0)
_DATA = flags.DEFINE_float("target_data", None, "Tokens or examples of the run whose loss is wanted.", 0.0)
_COMPUTE = flags.DEFINE_float("target_compute", None, "FLOPs whose best model is wanted.", 0.0)
_QUANTITY = flags.DEFINE_string(
    "quantity", None, "A parameter of the law, or best_size (with --target_compute).")
_LAW = flags.DEFINE_string("law", None, "The law to design for; by default the study's.")
_RATES = flags.DEFINE_integer(
    "rates", None, "Learning rates at each new size; by default 1, in a first grid the config's.", 1)
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Runs that one size and amount of data may have, those bought counted.", 1)
_RUNS = flags.DEFINE_integer("runs", None, "New sizes and amounts of data at most.", 1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if wrong := _wrong():
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)
    try:
        output = _OUTPUT.value and pathlib.Path(_OUTPUT.value)
        if output and output.exists():
            raise files.WorkdirError(f"{output} exists, and a config that runs may have come from is never "
                                     "overwritten; name another --output")
        workdir = flags.FLAGS["workdir"].value
        study = next_runs.Study(workdir, *_config(), law=_LAW.value)
        asked = next_runs.Asked(_PARAMS.value, _DATA.value, _COMPUTE.value, _QUANTITY.value)
        if study.runs is None:
            plan = next_runs.first(study, _BUDGET.value, asked, _RATES.value)
        else:
            plan = next_runs.following(study, _BUDGET.value, asked, _RATES.value or 1, _SEEDS.value, _RUNS.value)
        print(plan.text)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            files.atomic_write(output, next_config.source(study, plan, output), exclusive=True)
            print(f"written: {output}; next: python -m experiments.run --config={output} --workdir={workdir}")
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _config():
    """(config, module) of --config, (None, None) without."""
    holder = flags.FLAGS["config"]
    if holder.value is None:
        return None, None
    return config_dict.ConfigDict(holder.value.to_dict()), configs.load_config(config_flags.get_config_filename(holder))


def _wrong() -> str | None:
    """What is wrong with the flags together, in one sentence."""
    if (_PARAMS.value is None) != (_DATA.value is None):
        return "--target_params and --target_data go together: the loss of a run depends on both"
    if _PARAMS.value is not None and (_COMPUTE.value or _QUANTITY.value):
        return "name one target: --target_params and --target_data, or --target_compute, or --quantity"
    if _COMPUTE.value is not None and _QUANTITY.value not in (None, "best_size"):
        return "--target_compute goes with no --quantity (the loss of the best model) or --quantity=best_size"
    if _QUANTITY.value == "best_size" and _COMPUTE.value is None:
        return "--quantity=best_size needs --target_compute, the FLOPs whose best size is wanted"
    for flag in (_BUDGET, _PARAMS, _DATA, _COMPUTE):
        if flag.value is not None and not 0 < flag.value < float("inf"):
            return f"--{flag.name} must be a positive number, not {flag.value}"
    return None


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "budget"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=run.refuse_unknown)
