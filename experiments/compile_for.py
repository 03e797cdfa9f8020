"""Compile a train step for TPUs that are not here: does it fit, how is its work spread, how fast could it be.

    python -m experiments.compile_for --config=configs/pod.py --topology=v5p:8x8x8 --size=8e9 --layout=fsdp

Needs a CPU and `pip install -e '.[pods]'`. Any field of the config can be overridden as in experiments.run:
--config.family.remat=False. Without --size it takes the largest size of the sweep or its target. When the program does not
fit, what does is looked for. --sweep takes every size, each with the smallest slice of the chip that fits it.
docs/hardware.md says what the figures mean. Flags and fields can come from the environment, as SCALING_TOPOLOGY and
SCALING_CONFIG__FAMILY__REMAT; the command line wins.
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: devices of this machine have no part in it

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from experiments import run  # noqa: E402
from experiments._errors import EXPECTED  # noqa: E402
from scaling import cost, pods  # noqa: E402
from scaling import experiment as experiments  # noqa: E402
from scaling.devices import chips  # noqa: E402
from scaling.figures.words import count  # noqa: E402
from scaling.pods.table import header, row  # noqa: E402
from scaling.study import configs  # noqa: E402

flags.declare_key_flag("config")
flags.declare_key_flag("mesh")
flags.declare_key_flag("pack")
_TOPOLOGY = flags.DEFINE_string("topology", None, "A chip and the shape of a slice: v5p:8x8x16; the chip for --sweep.")
_SLICES = flags.DEFINE_integer("slices", 1, "Slices of that shape, joined over the data-centre network.", lower_bound=1)
_LAYOUT = flags.DEFINE_string("layout", None, "How parameters lie on the mesh; the config's unless given.")
_SIZE = flags.DEFINE_float("size", None, "Parameters: the size of the sweep nearest to it, else that rung of the ladder.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the report.")
_SWEEP = flags.DEFINE_bool("sweep", False, "Every size of the sweep and its target, each on the smallest slice that fits.")
NEAR = 0.25  # a size of the sweep is meant when it is within this of --size


def sizes(module, config) -> list:
    """One experiment of every size in the sweep and of its target, smallest first."""
    found = list(module.sweep(config))
    if hasattr(module, "target"):
        found.append(module.target(config, found[0].optim.learning_rate))
    by_family = {e.family: e for e in found}
    return sorted(by_family.values(), key=lambda e: cost.param_count(e.family)["total"])


def choose(module, config, size):
    """The experiment that --size means, the largest without it."""
    found = sizes(module, config)
    if size is None:
        return found[-1]

    def far(e):
        return abs(cost.param_count(e.family)["non_embedding"] / size - 1)

    near = min(found, key=far)
    return near if far(near) <= NEAR else found[-1].replace({"family": experiments.family_at(config, size)})


def runs() -> int:
    return flags.FLAGS.pack or 1  # packed along the mesh axis `run`, as experiments.run does with --pack


def say(text):
    print(text, file=sys.stderr, flush=True)


def check_all(found) -> list:
    """The smallest slice for every experiment, as a table; returns the reports."""
    chip = _TOPOLOGY.value.partition(":")[0]
    print(header())
    results = []
    for e in found:
        say(f"{count(cost.param_count(e.family)['total'])} parameters")
        result = pods.smallest(e, chip, flags.FLAGS.mesh, runs(), say=say)
        results.append(result)
        print(row(result) if "error" not in result else f"no slice of {chip}: {result['error']}", flush=True)
    return results


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    try:
        alone = _SWEEP.value and _TOPOLOGY.value in chips.CHIPS  # a chip without a shape
        chips.parse(f"{_TOPOLOGY.value}:{chips.ladder(chips.CHIPS[_TOPOLOGY.value])[0]}" if alone else _TOPOLOGY.value,
                    _SLICES.value)
        config = flags.FLAGS["config"].value
        if _LAYOUT.value:
            config.layout = _LAYOUT.value
        module = configs.load_config(config_flags.get_config_filename(flags.FLAGS["config"]))
        if _SWEEP.value:
            result = check_all(sizes(module, config))
        else:
            result = pods.nearest(choose(module, config, _SIZE.value), _TOPOLOGY.value, _SLICES.value, flags.FLAGS.mesh,
                                  runs(), say=say)
            print(pods.table(result))
    except (*EXPECTED, pods.PodError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    if isinstance(result, dict) and ("error" in result or not result["fits"]):
        sys.exit(1)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "topology"])
    logging.set_verbosity(logging.WARNING)
    app.run(main, flags_parser=run.refuse_unknown)
