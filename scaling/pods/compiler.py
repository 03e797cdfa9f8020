"""Compiles one train step for chips that are not here: `python -m scaling.pods.compiler`, in a process of its own.

libtpu reads its environment when it is loaded and takes a lock, so `scaling.pods.attempt` starts this module as a child
process and sets the environment. The request is JSON on standard input. The result is JSON in the file that the request
names.
"""

import dataclasses
import glob
import json
import math
import os
import re
import resource
import sys
import tempfile
import time

import jax
from jax.experimental import topologies

from scaling.devices import chips
from scaling.experiment import from_dict, to_dict
from scaling.fields import ConfigError
from scaling.pods import collectives, hlo, roofline, work
from scaling.training.counts import counts, step_flops
from scaling.training.program import Program

# No metadata server, one host. libtpu needs the name of an accelerator; which one does not matter.
ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-8",
               "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def devices(slices):
    """Abstract devices of the slices. Needs `ENVIRONMENT` and libtpu."""
    arguments = {**dict(slices.chip.topology), "wrap": (*slices.wrap, *[False] * (3 - len(slices.wrap)))}
    if slices.count > 1:
        arguments["num_slices"] = slices.count
    return topologies.get_topology_desc(slices.name, platform="tpu", **arguments).devices


def report(experiment, slices, mesh: str = "", runs: int = 1) -> dict:
    """The figures that `docs/hardware.md` explains, for `runs` packed runs of one experiment on these slices."""
    start = time.perf_counter()
    program = Program(experiment, None, runs, mesh, devices=devices(slices))
    out = {"experiment": to_dict(experiment), "params": counts(experiment, experiment.data.seen)["params_total"],
           "runs": runs, "topology": slices.name, "slices": slices.count, "chips": slices.chips, "devices": slices.devices,
           "mesh": dict(program.mesh.shape), "layout": experiment.layout, "gradients_per_step": program.accumulation_steps,
           "chip": dataclasses.asdict(slices.chip), "bytes": state_bytes(program.abstract, slices)}
    lowered = program.lower()
    lowered_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            compiled = lowered.compile({"xla_dump_to": folder})
        except Exception as error:  # JAX raises the same class for everything that the compiler refuses
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            compiled, out["why"] = None, _sentence(str(error))
        seconds = time.perf_counter() - lowered_at
        out["fits"] = compiled is not None
        if compiled is not None:
            out |= _figures(experiment, slices, program, compiled, folder, out["bytes"])
        else:
            out["bytes"]["peak"] = _needed(out["why"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    out["compile"] = {"lower_seconds": lowered_at - start, "compile_seconds": seconds, "memory": used.ru_maxrss * 1024,
                      "cpu_seconds": used.ru_utime + used.ru_stime}
    return out


def state_bytes(abstract, slices) -> dict:
    """Bytes on one device: those of parameters, optimiser state and averages, and "memory", all that a program may use."""
    def held(tree):
        return sum(int(x.dtype.itemsize) * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))

    return {"parameters": held(abstract.params), "optimiser": held(abstract.opt), "average": held(abstract.ema),
            "memory": int(slices.chip.usable)}


def _figures(experiment, slices, program, compiled, folder, sizes) -> dict:
    """The figures of the report that come from the compiled program; the compiler has dumped its text in the folder."""
    memory = compiled.memory_analysis()
    state = sum(sizes[k] for k in ("parameters", "optimiser", "average"))
    sizes = {**sizes, "arguments": memory.argument_size_in_bytes, "batch": max(0, memory.argument_size_in_bytes - state),
             "temporaries": memory.temp_size_in_bytes, "code": memory.generated_code_size_in_bytes,
             "peak": memory.peak_memory_in_bytes}
    (path,) = glob.glob(os.path.join(folder, "*.after_optimizations.txt"))
    with open(path, encoding="utf-8") as file:
        module = hlo.HloModule(file.read())
    slice_of = [getattr(device, "slice_index", 0) for device in program.mesh.devices.flat]
    rows = collectives.read_collectives(module, dict(program.mesh.shape), slice_of)
    model = program.runs * step_flops(experiment) / slices.devices
    once = compiled.cost_analysis()
    done, moved = work.compiled_flops(module), work.memory_traffic(module)
    seconds = roofline.step_times(slices, done, moved, rows, program.mesh)
    return {"bytes": sizes, "flops": {"model": model, "compiled": done, "loops_once": once.get("flops")},
            "traffic": moved, "collectives": [dataclasses.asdict(row) for row in rows],
            "unread": collectives.count_unread(module), "roofline": roofline.step_bounds(slices, seconds, model)}


def _sentence(message: str) -> str:
    """The sentence about memory in a message of the compiler."""
    line = next((line for line in message.splitlines() if "HBM" in line or "hbm" in line), message.splitlines()[0])
    return line.split("CompileTimeHbmOom: ")[-1].split(" HLO module")[0].strip()


def _needed(why: str) -> int | None:
    """Bytes that the program would need, if the compiler's message gives them."""
    found = re.search(r"Used ([\d.]+)([KMGT]?)", why) or re.search(r"\(([\d.]+)([KMGT]?)\) exceeds", why)
    return int(float(found[1]) * UNITS[found[2]]) if found else None


def main():
    request = json.load(sys.stdin)
    try:
        slices = chips.parse_topology(request["topology"], request["slices"])
        result = report(from_dict(request["experiment"]), slices, request["mesh"], request["runs"])
    except ConfigError as error:
        result = {"error": str(error)}
    with open(request["output"], "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
