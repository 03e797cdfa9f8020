"""Compiling for TPUs that are not here: does it fit, how is its work spread, how fast could it be.

    result = pods.attempt(experiment, "v5p:4x4x4")            # one compile, in a process of its own
    result = pods.nearest(experiment, "v5p:4x4x4")            # and, where that does not fit, what does
    print(pods.table(result))

See docs/hardware.md for what the figures mean and where those of the chips come from.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from scaling import experiment as experiments
from scaling.devices import chips, sharding
from scaling.devices.layouts import mesh_sizes
from scaling.fields import ConfigError
from scaling.pods.compiler import ENVIRONMENT, state_bytes
from scaling.pods.table import table  # noqa: F401
from scaling.training.step import init_state


class PodError(RuntimeError):
    """The compiler could not be started, or died."""


def attempt(experiment, topology: str, slices: int = 1, mesh: str = "", runs: int = 1) -> dict:
    """The report on `runs` packed runs of an experiment on one topology, or {"error": why it cannot be divided so}."""
    chips.parse_topology(topology, slices)
    experiment = streamed(experiment)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        request = {"experiment": experiments.to_dict(experiment), "topology": topology, "slices": slices, "mesh": mesh,
                   "runs": runs, "output": output}
        kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH", "")]))
        done = subprocess.run([sys.executable, "-m", "scaling.pods.compiler"], input=json.dumps(request), text=True,
                              capture_output=True, env={**kept, **ENVIRONMENT, "PYTHONPATH": path}, check=False)
        if done.returncode or not os.path.exists(output):
            raise PodError(_failure(done))
        with open(output, encoding="utf-8") as file:
            return json.load(file)


def streamed(experiment):
    """Reading batches from the host, as runs on many chips do; a program is compiled without any data."""
    return experiment.replace({"data.feed": "streamed"})


def _failure(done) -> str:
    if "libtpu" in done.stderr and ("No module" in done.stderr or "not found" in done.stderr.lower()):
        return "compiling for TPUs needs libtpu; write pip install -e '.[pods]'"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"the compiler ended with status {done.returncode}: " + (lines[-1] if lines else "no message")


# ------------------------------------------------------------------------------ what does fit


def nearest(experiment, topology: str, slices: int = 1, mesh: str = "", runs: int = 1, *,
            say: Callable[[str], None] = lambda _: None) -> dict:
    """`attempt`; when it does not fit, "instead" holds the report of the nearest choice that does, and "change" its
    sentence: remat, then a microbatch that is chosen, or of one example, both, other layouts, last a larger slice."""
    result = attempt(experiment, topology, slices, mesh, runs)
    if "error" in result or result["fits"]:
        return result
    tried = []
    for changes, where, divided in _candidates(experiment, topology, slices, mesh):
        other, words = experiment.replace(changes), _words(changes, where, topology)
        if not could_fit(other, where, slices, divided, runs):
            tried.append(f"{words}: its state alone does not fit")
            continue
        say(f"does not fit; trying {words}")
        found = attempt(other, where, slices, divided, runs)
        if found.get("fits"):
            return {**result, "change": words, "instead": found, "tried": tried}
        tried.append(f"{words}: {found.get('error') or found.get('why')}")
    return {**result, "change": None, "instead": None, "tried": tried}


def _candidates(experiment, topology, slices, mesh):
    """(changed fields, topology, mesh), nearest first."""
    remat = {"family.remat": True} if getattr(experiment.family, "remat", None) is False else {}
    smaller = [{"microbatch": n} for n in (0, 1) if n < (experiment.microbatch or 2)]
    smaller = [choice for choice in smaller if choice["microbatch"] != experiment.microbatch]
    small = smaller[-1] if smaller else {}
    layouts = [{"layout": name} for name in ("fsdp", "fsdp_tensor", "sequence") if name != experiment.layout]
    for changes in (remat, *smaller, *(remat | choice for choice in smaller if remat)):
        if changes:
            yield changes, topology, mesh
    for layout in layouts:
        yield layout | remat | small, topology, ""
    for where in _larger(topology):
        for layout in ({}, *layouts):
            yield layout | remat | small, where, ""


def _larger(topology):
    here = chips.parse_topology(topology)
    names = [f"{here.chip.name}:{shape}" for shape in chips.ladder(here.chip)]
    return [name for name in names if chips.parse_topology(name).chips > here.chips]


def _words(changes, where, topology) -> str:
    parts = [f"--config.{path}={value}" for path, value in changes.items()]
    return " ".join(parts + ([f"--topology={where}"] if where != topology else [])) or "as it is"


def smallest(experiment, chip: str, mesh: str = "", runs: int = 1, *, say: Callable[[str], None] = lambda _: None) -> dict:
    """The report on the smallest slice of the chip that the experiment fits, or {"error": why there is none}."""
    shapes = [f"{chip}:{shape}" for shape in chips.ladder(chips.CHIPS[chip])]
    last = "no slice is large enough for its state"
    for where in shapes:
        if not could_fit(experiment, where, 1, mesh, runs):
            continue
        say(f"trying {where}")
        found = attempt(experiment, where, 1, mesh, runs)
        if found.get("fits"):
            return found
        last = f"{where}: {found.get('error') or found.get('why')}"
    return {"error": last}


def could_fit(experiment, topology: str, slices: int = 1, mesh: str = "", runs: int = 1) -> bool:
    """Whether parameters, optimiser state and averages alone leave any memory: no compile can fit where they do not."""
    try:
        sizes = held(experiment, chips.parse_topology(topology, slices), mesh, runs)
    except ConfigError:
        return True  # the attempt will say what is wrong
    return math.fsum(sizes[k] for k in ("parameters", "optimiser", "average")) < sizes["memory"]


def held(experiment, slices, mesh: str = "", runs: int = 1) -> dict[str, int]:
    """`compiler.state_bytes` of an experiment, without compiling it."""
    sizes = mesh_sizes(slices.devices, runs, mesh, experiment.layout, slices.count)
    virtual = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    state = jax.eval_shape(lambda: jax.vmap(lambda _: init_state(experiment))(jnp.zeros(runs)))
    lies = sharding.shardings(state, virtual, experiment.layout)
    return state_bytes(jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, lies), slices)
