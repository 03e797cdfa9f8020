"""The search for a change of an experiment, or for a slice, with which its program fits."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from scaling.devices import chips, sharding
from scaling.devices.layouts import mesh_sizes
from scaling.fields import ConfigError
from scaling.pods.attempt import attempt
from scaling.pods.compiler import state_bytes
from scaling.training.step import init_state


def nearest_that_fits(experiment, topology: str, slices: int = 1, mesh: str = "", runs: int = 1, *,
                      say: Callable[[str], None] = lambda _: None) -> dict:
    """The report of `attempt`. If the program does not fit, "instead" holds the report of the nearest choice that does, and
    "change" the flags that make it. It tries rematerialisation, then a chosen microbatch or one of one example, then both,
    then other layouts, then larger slices."""
    result = attempt(experiment, topology, slices, mesh, runs)
    if "error" in result or result["fits"]:
        return result
    tried = []
    for changes, where, other_mesh in _candidates(experiment, topology, mesh):
        other, flags = experiment.replace(changes), _flags(changes, where, topology)
        if not could_fit(other, where, slices, other_mesh, runs):
            tried.append(f"{flags}: its state alone does not fit")
            continue
        say(f"does not fit; trying {flags}")
        found = attempt(other, where, slices, other_mesh, runs)
        if found.get("fits"):
            return {**result, "change": flags, "instead": found, "tried": tried}
        tried.append(f"{flags}: {found.get('error') or found.get('why')}")
    return {**result, "change": None, "instead": None, "tried": tried}


def _candidates(experiment, topology, mesh):
    """(changed fields, topology, mesh), nearest first."""
    remat = {"family.remat": "full"} if getattr(experiment.family, "remat", None) == "none" else {}
    smaller = [{"microbatch": n} for n in (0, 1) if n < (experiment.microbatch or 2)]
    smaller = [choice for choice in smaller if choice["microbatch"] != experiment.microbatch]
    smallest = smaller[-1] if smaller else {}
    layouts = [{"layout": name} for name in ("fsdp", "fsdp_tensor", "sequence") if name != experiment.layout]
    if remat:
        yield remat, topology, mesh
    for choice in smaller:
        yield choice, topology, mesh
    if remat:
        for choice in smaller:
            yield remat | choice, topology, mesh
    for layout in layouts:
        yield layout | remat | smallest, topology, ""
    for where in _larger(topology):
        for layout in ({}, *layouts):
            yield layout | remat | smallest, where, ""


def _larger(topology):
    """Larger slices of the same chip, smallest first."""
    here = chips.parse_topology(topology)
    names = [f"{here.chip.name}:{shape}" for shape in chips.ladder(here.chip)]
    return [name for name in names if chips.parse_topology(name).chips > here.chips]


def _flags(changes, where, topology) -> str:
    parts = [f"--config.{path}={value}" for path, value in changes.items()]
    if where != topology:
        parts.append(f"--topology={where}")
    return " ".join(parts) or "as it is"


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
    """Whether parameters, optimiser state and averages leave any memory. If they do not, no program can fit."""
    try:
        sizes = held_bytes(experiment, chips.parse_topology(topology, slices), mesh, runs)
    except ConfigError:
        return True  # `attempt` will say what is wrong
    return math.fsum(sizes[k] for k in ("parameters", "optimiser", "average")) < sizes["memory"]


def held_bytes(experiment, slices, mesh: str = "", runs: int = 1) -> dict[str, int]:
    """`compiler.state_bytes` of an experiment, without compiling it."""
    sizes = mesh_sizes(slices.devices, runs, mesh, experiment.layout, slices.count)
    virtual = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    state = jax.eval_shape(lambda: jax.vmap(lambda _: init_state(experiment))(jnp.zeros(runs)))
    placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state,
                          sharding.shardings(state, virtual, experiment.layout))
    return state_bytes(placed, slices)
