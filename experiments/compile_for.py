"""Compile a train step for TPUs that are not here: whether it fits, how its work is spread, how fast it could be.

    python -m experiments.compile_for --config=configs/pod.py --topology=v5p:8x8x8 --size=8e9 --layout=fsdp

Needs a CPU and `pip install -e '.[pods]'`. Any field of the config can be overridden as in experiments.run:
--config.family.remat=False. Without --size it takes the largest size of the sweep or of its target. If the program does
not fit, the command searches for a change with which it does. --sweep reports the smallest slice of the chip that fits
each size. --remat compiles one size with every rematerialisation (family.remat) and prints a table of memory and times.
docs/hardware.md explains the figures. --json prints the report, or with --sweep and --remat all reports, as one line of
JSON, and text to standard error. Flags and fields can come from the environment, as SCALING_TOPOLOGY and
SCALING_CONFIG__FAMILY__REMAT; the command line wins.
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: the devices of this machine are not used

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from experiments import run  # noqa: E402
from experiments._errors import expected  # noqa: E402
from experiments._json import answering  # noqa: E402
from scaling import cost, families  # noqa: E402
from scaling import experiment as experiments  # noqa: E402
from scaling.devices import chips  # noqa: E402
from scaling.fields import ConfigError  # noqa: E402
from scaling.figures.words import count  # noqa: E402
from scaling.nn import remat  # noqa: E402
from scaling.pods.attempt import PodError, attempt  # noqa: E402
from scaling.pods.search import nearest_that_fits, smallest  # noqa: E402
from scaling.pods.table import format_report, policies_header, policy_row, report_header, report_row  # noqa: E402
from scaling.study import configs  # noqa: E402

flags.declare_key_flag("config")
flags.declare_key_flag("mesh")
flags.declare_key_flag("pack")
flags.declare_key_flag("json")
_TOPOLOGY = flags.DEFINE_string("topology", None, "A chip and the shape of a slice: v5p:8x8x16; the chip for --sweep.")
_SLICES = flags.DEFINE_integer("slices", 1, "Slices of that shape, joined by the data-centre network.", lower_bound=1)
_LAYOUT = flags.DEFINE_string("layout", None, "The layout; that of the config unless given.")
_SIZE = flags.DEFINE_float("size", None, "Parameters: takes the size of the sweep near it, else that rung of the ladder.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the report.")
_SWEEP = flags.DEFINE_bool("sweep", False, "Every size of the sweep and its target, each on the smallest slice that fits.")
_REMAT = flags.DEFINE_bool("remat", False, "The size with every rematerialisation by name: a table of memory and times.")
NEAR = 0.25  # a size of the sweep within this share of --size is taken in place of a rung of the ladder


def sizes(module, config) -> list:
    """One experiment of every size in the sweep, and that of its target, smallest first."""
    found = list(module.sweep(config))
    if hasattr(module, "target"):
        found.append(module.target(config, found[0].optim.learning_rate))
    by_family = {e.family: e for e in found}
    return sorted(by_family.values(), key=lambda e: cost.param_count(e.family)["total"])


def choose(module, config, size):
    """The experiment of this size, or the largest if it is None."""
    found = sizes(module, config)
    if size is None:
        return found[-1]

    def distance(e):
        return abs(cost.param_count(e.family)["non_embedding"] / size - 1)

    near = min(found, key=distance)
    return near if distance(near) <= NEAR else found[-1].replace({"family": experiments.family_at(config, size)})


def runs() -> int:
    """The number of packed runs, along the mesh axis `run`, as with --pack of experiments.run."""
    return flags.FLAGS.pack or 1


def say(text):
    print(text, file=sys.stderr, flush=True)


def check_all(found) -> list:
    """Print the smallest slice for every experiment as a table, and return the reports."""
    chip = _TOPOLOGY.value.partition(":")[0]
    print(report_header())
    results = []
    for e in found:
        say(f"{count(cost.param_count(e.family)['total'])} parameters")
        result = smallest(e, chip, flags.FLAGS.mesh, runs(), say=say)
        results.append(result)
        print(report_row(result) if "error" not in result else f"no slice of {chip}: {result['error']}", flush=True)
    return results


def check_policies(e) -> list:
    """Print memory and times with every rematerialisation as a table, and return the reports."""
    if not hasattr(e.family, "remat"):
        raise ConfigError(f"--remat: the family {families.name(e.family)!r} has no field remat; leave the flag out")
    print(policies_header())
    results = []
    for name in remat.NAMES:
        try:
            result = attempt(e.replace({"family.remat": name}), _TOPOLOGY.value, _SLICES.value, flags.FLAGS.mesh, runs())
        except PodError as error:
            result = {"error": str(error)}
        results.append({"remat": name, **result})
        print(policy_row(name, result) if "error" not in result else f"{name}: {result['error']}", flush=True)
    return results


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        with answering(flags.FLAGS["json"].value) as answer:
            result = compiled()
            if _OUTPUT.value:
                with open(_OUTPUT.value, "w", encoding="utf-8") as file:
                    json.dump(result, file, indent=1)
            answer |= result if isinstance(result, dict) else {"reports": result}
            answer["written"] = _OUTPUT.value
    except (*expected(), PodError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if isinstance(result, dict) and ("error" in result or not result["fits"]):
        sys.exit(1)


def compiled() -> dict | list[dict]:
    """Compiles what the flags name and prints the report or reports, which it returns."""
    topology = _TOPOLOGY.value
    if _SWEEP.value and topology in chips.CHIPS:  # a chip without a shape
        topology = f"{topology}:{chips.ladder(chips.CHIPS[topology])[0]}"
    chips.parse_topology(topology, _SLICES.value)
    config = flags.FLAGS["config"].value
    if _LAYOUT.value:
        config.layout = _LAYOUT.value
    module = configs.load_config(config_flags.get_config_filename(flags.FLAGS["config"]))
    if _SWEEP.value:
        result = check_all(sizes(module, config))
    elif _REMAT.value:
        result = check_policies(choose(module, config, _SIZE.value))
    else:
        result = nearest_that_fits(choose(module, config, _SIZE.value), _TOPOLOGY.value, _SLICES.value,
                                   flags.FLAGS.mesh, runs(), say=say)
        print(format_report(result))
    return result


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "topology"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=run.refuse_unknown)
