"""TPU chips and slices: published numbers, each with its source. Does not import JAX.

All figures are for one chip. `Chip.share` gives those of one JAX device. A device is a whole chip, except on TPU7x, where
each half of a chip is a device.
"""

import dataclasses
import glob
import importlib.util
import math
import os
import sys

from scaling.fields import ConfigError, nearest

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do, in FLOP/s, bytes and bytes/s."""

    name: str
    kind: str  # JAX's name for its devices, `device.device_kind`
    peak: float  # bfloat16 FLOP/s
    hbm: float  # bytes of memory, as published
    usable: float  # bytes that XLA lets the program of one device use, from its message about a program that is too large
    hbm_rate: float
    link: float  # bytes/s of one ICI link, one way
    torus: int  # dimensions of the ICI torus; a chip has two links along each
    dcn: float  # bytes/s one way over the data-centre network, this chip's share of its host's
    largest: int  # chips of the largest slice
    source: str  # of all figures except `usable`
    devices: int = 1  # JAX devices on one chip
    topology: tuple[tuple[str, str], ...] = ()  # further arguments of libtpu's topology

    def share(self, number: float) -> float:
        """The share of a chip's figure that one of its devices has."""
        return number / self.devices


# The published ICI rate of a chip counts both directions of all its links, so the rate of one link one way is that figure
# over twice the number of links. v4 has no such figure; its rates are those of its second source, with the DCN rate of a
# host shared by its four chips.
CHIPS = {chip.name: chip for chip in (
    Chip("v4", "TPU v4", 275e12, 32 * GIB, 30.75 * GIB, 1.2e12, 45e9, 3, 6.25e9, 4096,
         "https://cloud.google.com/tpu/docs/v4 and https://jax-ml.github.io/scaling-book/tpus",
         topology=(("chip_config_name", "megacore"),)),
    Chip("v5e", "TPU v5 lite", 197e12, 16e9, 15.75 * GIB, 819e9, 50e9, 2, 3.125e9, 256,
         "https://cloud.google.com/tpu/docs/v5e"),
    Chip("v5p", "TPU v5", 459e12, 95 * GIB, 95.73 * GIB, 2765e9, 100e9, 3, 6.25e9, 6144,
         "https://cloud.google.com/tpu/docs/v5p"),
    Chip("v6e", "TPU v6 lite", 918e12, 32e9, 31.24 * GIB, 1600e9, 100e9, 2, 12.5e9, 256,
         "https://cloud.google.com/tpu/docs/v6e"),
    Chip("tpu7x", "TPU7x", 2307e12, 192 * GIB, 94.74 * GIB, 7380e9, 100e9, 3, 12.5e9, 9216,
         "https://cloud.google.com/tpu/docs/tpu7x", devices=2),
)}

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16",
         "16x16x24")


def memory(device_kind: str) -> int | None:
    """Bytes that a program may use on a device of this kind (`jax.Device.device_kind`); None if it is not in CHIPS."""
    return next((int(chip.usable) for chip in CHIPS.values() if chip.kind == device_kind), None)


@dataclasses.dataclass(frozen=True)
class Slices:
    """`count` equal slices of `shape` chips each. Chips of a slice are joined by ICI, slices by DCN."""

    chip: Chip
    shape: tuple[int, ...]
    count: int = 1

    @property
    def name(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        return self.count * math.prod(self.shape)

    @property
    def devices(self) -> int:
        return self.chips * self.chip.devices

    @property
    def wrap(self) -> tuple[bool, ...]:
        """For each dimension, whether its links form a ring: multiples of 4 chips do in a 3-d torus, 16 do in a 2-d one."""
        return tuple(n % 4 == 0 if self.chip.torus == 3 else n == 16 for n in self.shape)


def parse_topology(topology: str, count: int = 1) -> Slices:
    """`"v5p:4x4x8"` as slices. Raises a ConfigError for a topology that does not exist."""
    name, colon, text = topology.partition(":")
    if name not in CHIPS:
        raise ConfigError(f"topology={topology!r}: the chip {name!r} is not known; {nearest(name, CHIPS)}")
    chip = CHIPS[name]
    example = f"{name}:{ladder(chip)[4]}"
    sizes = text.split("x")
    if not colon or not all(size.isdecimal() and int(size) for size in sizes):
        raise ConfigError(f"topology={topology!r}: write a chip and the shape of a slice, such as {example}")
    if len(sizes) != chip.torus:
        raise ConfigError(f"topology={topology!r}: a slice of {name} has {chip.torus} dimensions, such as {example}")
    shape = tuple(map(int, sizes))
    if count < 1:
        raise ConfigError(f"slices={count}: write 1 or more")
    if math.prod(shape) > chip.largest:
        raise ConfigError(f"topology={topology!r} has {math.prod(shape)} chips, the largest slice of {name} has "
                          f"{chip.largest}; write {name}:{ladder(chip)[-1]}, and slices=2 or more for more chips")
    cubes = chip.torus == 3 and all(n % 4 == 0 for n in shape)
    if text not in ladder(chip) and not cubes:
        raise ConfigError(f"topology={topology!r} is no slice of {name}; write one of {', '.join(ladder(chip))}"
                          + (", or a shape of multiples of 4" if chip.torus == 3 else ""))
    return Slices(chip, shape, count)


def ladder(chip: Chip) -> list[str]:
    """Shapes of slices of the chip, smallest first."""
    shapes = FLAT if chip.torus == 2 else SOLID
    return [s for s in shapes if math.prod(map(int, s.split("x"))) <= chip.largest]


def leave_absent_tpus_alone():
    """Keep JAX from loading libtpu on a machine without an accelerator. Call it before JAX starts a backend.

    Where libtpu is installed (as a compiler), JAX would load it, print a page of warnings and take a lock that the next
    compile then waits for.
    """
    if "JAX_PLATFORMS" not in os.environ and importlib.util.find_spec("libtpu") and not machine_has_accelerator():
        os.environ["JAX_PLATFORMS"] = "cpu"
        if "jax" in sys.modules:  # which has read the variable already
            sys.modules["jax"].config.update("jax_platforms", "cpu")


def machine_has_accelerator() -> bool:
    """Whether this machine has a device file of a TPU or a GPU."""
    return any(glob.glob(pattern) for pattern in ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*", "/dev/kfd"))
