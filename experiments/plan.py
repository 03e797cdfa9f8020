"""Propose the runs that a study should buy next, and write them as a config that experiments.run takes.

    python -m experiments.plan --workdir=runs/quickstart --budget=1e13 --output=configs/next.py
    python -m experiments.run --config=configs/next.py --workdir=runs/quickstart

reads the records of runs/quickstart, fits its law, and chooses sizes and amounts of data. Within the budget
of FLOPs, as counted, their runs shrink the standard error of one number most. That number is the loss of the
study's forecast, unless another is named:

    --target_params=1e7 --target_data=2e7         the loss of a model of 1e7 parameters on 2e7 tokens
    --target_compute=1e16                         the loss of the best model for so many FLOPs
    --target_compute=1e16 --quantity=best_size    the size of that model
    --quantity=alpha                              a parameter of the law

The file written holds the old runs too, so the fit uses all runs; the old ones are not trained again. The
learning rate of new runs is extrapolated from the tuned runs to their size (--rates tries several around it),
and lengths of one size share a trunk. For an empty workdir, name the config of the study to get a first grid:

    python -m experiments.plan --workdir=runs/new --config=configs/quickstart.py --budget=1e13 --output=a.py

Without --output the table is printed and nothing is written. --json prints it as one line of JSON, and text to
standard error. A file that exists is never overwritten. Any flag can come from the environment, such as
SCALING_BUDGET; the command line wins.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_dict, config_flags

from experiments import run
from experiments._errors import expected
from experiments._json import answering
from scaling.fields import ConfigError
from scaling.store import files
from scaling.study import configs, next_config, next_runs
from scaling.study.workspace import Workspace

flags.declare_key_flag("config")
flags.declare_key_flag("workdir")
flags.declare_key_flag("json")
_BUDGET = flags.DEFINE_float(
    "budget", None, "FLOPs to spend on new runs; with an empty workdir, on the grid and the target.", 0.0)
_OUTPUT = flags.DEFINE_string("output", None, "Config file to write, such as configs/next.py.")
_PARAMS = flags.DEFINE_float(
    "target_params", None, "Non-embedding parameters of the run whose loss is the goal.", 0.0)
_DATA = flags.DEFINE_float("target_data", None, "Tokens or examples of the run whose loss is the goal.", 0.0)
_COMPUTE = flags.DEFINE_float("target_compute", None, "FLOPs of the best model, whose loss is the goal.", 0.0)
_QUANTITY = flags.DEFINE_string(
    "quantity", None, "A parameter of the law, or best_size (with --target_compute).")
_LAW = flags.DEFINE_string("law", None, "The law to design for; by default the study's.")
_RATES = flags.DEFINE_integer(
    "rates", None, "Learning rates at each new size; by default 1, in a first grid the config's.", 1)
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "The most runs at one size and amount of data, old runs included.", 1)
_RUNS = flags.DEFINE_integer("runs", None, "The most new sizes and amounts of data.", 1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if wrong := _wrong():
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)
    try:
        with answering(flags.FLAGS["json"].value) as answer:
            answer |= propose()
    except expected() as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def propose() -> dict:
    """Proposes runs, prints them, and with --output writes them. Returns the proposal as values."""
    output = _OUTPUT.value and pathlib.Path(_OUTPUT.value)
    if output and output.exists():
        raise files.WorkdirError(f"{output} exists, and a config is never overwritten, since runs may have come "
                                 "from it; name another --output")
    workdir = flags.FLAGS["workdir"].value
    space = Workspace(workdir, *_config(), law=_LAW.value)
    if output and space.unfinished:
        raise ConfigError(f"{workdir} has {len(space.unfinished)} planned runs that are not finished, and a config of "
                          "the others would not be of its study; finish the study first, or leave out --output")
    goal = next_runs.Goal(_PARAMS.value, _DATA.value, _COMPUTE.value, _QUANTITY.value)
    if space.runs is None:
        proposal = next_runs.propose_first(space, _BUDGET.value, goal, _RATES.value)
    else:
        proposal = next_runs.propose_next(space, _BUDGET.value, goal, _RATES.value or 1, _SEEDS.value, _RUNS.value)
    print(proposal.text)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.atomic_write(output, next_config.config_source(space, proposal, output), exclusive=True)
        print(f"written: {output}; next: python -m experiments.run --config={output} --workdir={workdir}")
    return proposal.found | {"written": output or None}


def _config():
    """(config, module) of --config; (None, None) without the flag."""
    holder = flags.FLAGS["config"]
    if holder.value is None:
        return None, None
    return config_dict.ConfigDict(holder.value.to_dict()), configs.load_config(config_flags.get_config_filename(holder))


def _wrong() -> str | None:
    """One sentence about flags that do not go together, or None."""
    if (_PARAMS.value is None) != (_DATA.value is None):
        return "--target_params and --target_data go together: the loss of a run depends on both"
    if _PARAMS.value is not None and (_COMPUTE.value or _QUANTITY.value):
        return "name one target: --target_params and --target_data, or --target_compute, or --quantity"
    if _COMPUTE.value is not None and _QUANTITY.value not in (None, "best_size"):
        return "--target_compute goes with no --quantity (the loss of the best model) or --quantity=best_size"
    if _QUANTITY.value == "best_size" and _COMPUTE.value is None:
        return "--quantity=best_size needs --target_compute, the FLOPs of the best model"
    for flag in (_BUDGET, _PARAMS, _DATA, _COMPUTE):
        if flag.value is not None and not 0 < flag.value < float("inf"):
            return f"--{flag.name} must be a positive number, not {flag.value}"
    return None


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "budget"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=run.refuse_unknown)
