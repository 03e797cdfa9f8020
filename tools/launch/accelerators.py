"""TPU slices by name: generations, valid sizes, chips per host, runtime versions.

Sources, read in 2026: the pages of each generation at docs.cloud.google.com/tpu/docs/ (v4, v5e, v5p, v6e, tpu7x: shapes,
chips, hosts), docs.cloud.google.com/tpu/docs/runtimes (runtime versions), and for GKE the table of xpk,
src/xpk/core/system_characteristics.py. In brief:

* Sizes of v5e (v5litepod in gcloud and xpk) and v6e count chips. Their slices are two-dimensional: 1x1 to 16x16. A TPU VM
  has 1, 4 or 8 chips in slices of up to 8 chips, and 4 chips in larger ones. On GKE, xpk uses machines of 4 chips, and no
  v5e slice is smaller than 2x4.
* Sizes of v4, v5p and tpu7x count TensorCores, two per chip. Their slices are three-dimensional: 2x2x1 up to 2x4x4, then
  whole cubes of 4x4x4 with no side above 256. v4 goes up to 4096 chips, one v5p job up to 6144, tpu7x up to 9216. A host
  has 4 chips.
* tpu7x is available through GKE or Compute Engine, not through the TPU VM commands.

A slice is written by its size (`v5e-16`, `v5litepod-16`, `v5p-32`) or by its shape, as in experiments.compile_for
(`v5e:4x4`, `v5p:4x4x8`).
"""

import difflib
import functools
import math
import re
from typing import NamedTuple


class AcceleratorError(ValueError):
    """The slice does not exist; the message says which ones do."""


class Generation(NamedTuple):
    cloud: str  # its name in gcloud and xpk
    cores: int  # units per chip that the number in a name counts
    flat: bool  # True: the two-dimensional shapes of PLANE; False: three-dimensional shapes
    cubes: int  # the largest three-dimensional slice, in cubes of 4x4x4
    runtime: str  # runtime version of a TPU VM with JAX; empty where there are no TPU VMs


PLANE = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
LONGEST = 256  # the longest side of a three-dimensional slice, in chips
SMALL = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
GENERATIONS = {
    "v4": Generation("v4", 2, False, 64, "tpu-ubuntu2204-base"),
    "v5e": Generation("v5litepod", 1, True, 0, "v2-alpha-tpuv5-lite"),
    "v5p": Generation("v5p", 2, False, 96, "v2-alpha-tpuv5"),
    "v6e": Generation("v6e", 1, True, 0, "v2-alpha-tpuv6e"),
    "tpu7x": Generation("tpu7x", 2, False, 144, ""),
}
ALIASES = {"v5litepod": "v5e", "trillium": "v6e", "ironwood": "tpu7x", "v7x": "tpu7x"}


class Slice(NamedTuple):
    """One slice. `topology` is empty where only the size was given, so that the cloud chooses the shape."""

    generation: str
    chips: int
    topology: str

    @property
    def of(self) -> Generation:
        return GENERATIONS[self.generation]

    @property
    def accelerator_type(self) -> str:
        """The name by size, such as v5litepod-16 (16 chips) or v5p-32 (16 chips, 32 TensorCores)."""
        return f"{self.of.cloud}-{self.chips * self.of.cores}"

    @property
    def hosts(self) -> int:
        """The number of TPU VMs of the slice; each of them runs the command."""
        return 1 if self.of.flat and self.chips <= 8 else math.ceil(self.chips / 4)

    @property
    def xpk_type(self) -> str:
        """The value of xpk's --tpu-type; AcceleratorError for a slice that xpk does not know."""
        if self.generation == "v5e" and self.chips < 8:
            raise AcceleratorError(f"xpk has no {self.accelerator_type}: on GKE v5e starts at v5e-8")
        return f"{self.of.cloud}-{self.topology}" if self.topology else self.accelerator_type


def parse(text: str) -> Slice:
    """The Slice called `v5e-16` or `v5e:4x4`; AcceleratorError where there is no such slice."""
    found = re.fullmatch(r"([a-z0-9]+)([-:])(\d+(?:x\d+)*)", text.lower())
    if not found:
        raise AcceleratorError(f"accelerator {text!r} is not a slice; write v5e-16, v5p-32 or v5p:4x4x8")
    name, mark, size = found.groups()
    name = ALIASES.get(name, name)
    if name not in GENERATIONS:
        near = difflib.get_close_matches(name, [*GENERATIONS, *ALIASES], n=1, cutoff=0.5)
        raise AcceleratorError(f"TPU generation {name!r} is not known; there are {', '.join(GENERATIONS)}"
                               + (f" (did you mean {near[0]}?)" if near else ""))
    if (mark == ":") != ("x" in size):
        raise AcceleratorError(f"accelerator {text!r} mixes two forms; write {name}-<size> or {name}:<shape>")
    return _by_shape(name, size) if mark == ":" else _by_size(name, int(size))


def _by_size(name: str, size: int) -> Slice:
    of = GENERATIONS[name]
    sizes = {chips(shape) * of.cores for shape in shapes(name)}
    if size not in sizes:
        near = sorted(sorted(sizes, key=lambda s: (abs(s - size), s))[:3])
        counts = "TensorCores (two a chip)" if of.cores == 2 else "chips"
        raise AcceleratorError(f"there is no {name}-{size}: the number counts {counts}; "
                               f"nearest: {', '.join(f'{name}-{s}' for s in near)}")
    return Slice(name, size // of.cores, "")


def _by_shape(name: str, shape: str) -> Slice:
    of, valid = GENERATIONS[name], shapes(name)
    if shape not in valid:
        known = ", ".join(valid if of.flat else SMALL) + ("" if of.flat else (
            f", and multiples of 4 in ascending order up to {of.cubes * 64} chips"))
        raise AcceleratorError(f"{name} has no slice {shape}; its shapes are {known}")
    return Slice(name, chips(shape), "" if of.flat else shape)


@functools.cache
def shapes(name: str) -> tuple[str, ...]:
    """Every shape of a generation, with its sides in ascending order."""
    of = GENERATIONS[name]
    if of.flat:
        return PLANE
    sides = [(a, b, c) for a in range(1, of.cubes + 1) for b in range(a, of.cubes // a + 1)
             for c in range(b, min(of.cubes // (a * b), LONGEST // 4) + 1)]
    one = ("1x1x1",) if name == "tpu7x" else ()
    return one + SMALL + tuple(f"{4 * a}x{4 * b}x{4 * c}" for a, b, c in sides)


def chips(shape: str) -> int:
    return math.prod(map(int, shape.split("x")))


def check_runtime(part: Slice, version: str) -> str:
    """The runtime version of a new TPU VM: `version`, or the default of its generation where that is empty.

    Variants of the generation's default (v2-alpha-tpuv6e-next) are valid; versions of other generations are refused.
    """
    own = part.of.runtime
    if not own:
        raise AcceleratorError(f"{part.generation} has no TPU VMs; use python -m tools.launch.gke")
    closest = max((g.runtime for g in GENERATIONS.values() if g.runtime and version.startswith(g.runtime)),
                  key=len, default="")
    if version and (closest != own or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", version)):
        raise AcceleratorError(f"runtime version {version!r} does not belong to {part.generation}, "
                               f"whose default is {own}")
    return version or own
