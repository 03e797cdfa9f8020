"""Compiled functions on disk, with all that calling them takes, so that a later process neither traces nor compiles them.

JAX's cache (see `scaling.devices.compilation`) is asked with a lowered program, and to trace and lower a function takes
longer than to read its program. Here a function is asked for by what determines its program: what its caller says of it,
the shapes and places of its arguments, this package's code, versions, devices, and JAX's and XLA's settings. They share the
files and the limit of that cache. Whatever differs, cannot be kept or cannot be read is traced and compiled as ever.
"""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import pickle
import platform

import jax
from jax.experimental import serialize_executable

from scaling.devices import compilation, hosts

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes", "libtpu")
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def key_of_call(what: str, args) -> str | None:
    """The name of a function for arguments like these; `what` says everything else that determines it. None where nothing
    is kept: without a directory of programs, in jobs of several processes, or for an installation without source."""
    code = _surroundings() if compilation.files() is not None and hosts.process_count() == 1 else None
    if code is None:
        return None
    leaves, structure = jax.tree.flatten(args)
    shapes = [(x.shape, str(x.dtype), str(getattr(x, "sharding", None))) for x in leaves]
    return "function-" + hashlib.sha256(f"{what} {code} {structure} {shapes}".encode()).hexdigest()


def load(name: str | None) -> jax.stages.Compiled | None:
    """The function that was kept under this name, None where there is none."""
    kept = compilation.files()
    found = None if name is None or kept is None else kept.get(name)
    if found is None:
        return None
    try:
        places, *function = pickle.loads(found)
        devices = {device.id: device for device in jax.devices()}
        return serialize_executable.deserialize_and_load(*function, execution_devices=[devices[place] for place in places])
    except Exception:  # of any kind, of JAX, XLA or pickle
        return None


def compile_and_keep(name: str | None, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """The compiled function, kept under this name where it can be kept.

    A program that JAX's cache gave is not: XLA for CPUs cannot write in full what it has read.
    """
    kept = compilation.files()
    if name is None or kept is None:
        return lowered.compile()
    before = kept.puts()
    compiled = lowered.compile()
    if kept.puts() == before:
        return compiled
    try:
        places = [device.id for device in compiled.runtime_executable().local_devices()]
        content = pickle.dumps((places, *serialize_executable.serialize(compiled)))
    except Exception:  # a program with constants of its own, a platform that cannot write programs
        return compiled
    kept.put(name, content)
    return compiled


@functools.cache
def _surroundings() -> str | None:
    """What programs of this process depend on beside what callers say; None where that cannot be told."""
    root, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    try:
        for path in sorted(root.rglob("*.py")):
            digest.update(path.read_bytes())
    except OSError:
        return None
    for package in PACKAGES:
        try:
            digest.update(f"{package} {importlib.metadata.version(package)} ".encode())
        except importlib.metadata.PackageNotFoundError:
            continue
    settings = {name: value for name, value in jax.config.values.items() if "cache" not in name}
    devices = [(device.id, device.device_kind) for device in jax.devices()]
    variables = {name: os.environ.get(name) for name in VARIABLES}
    backend = jax.devices()[0].client.platform_version
    digest.update(f"{devices} {backend} {sorted(settings.items(), key=str)} {variables} {_processor()}".encode())
    return digest.hexdigest()


def _processor() -> str:
    """What programs for CPUs are made for: homes are shared by machines whose processors differ."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    named = ("model name", "flags", "Features")
    return " ".join(next((line for line in lines if line.startswith(name)), "") for name in named)
