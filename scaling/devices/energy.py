"""The energy that the devices of this process use, where a counter of the machine can be read.

Accelerators of NVIDIA count it in their driver (NVML, through `pip install nvidia-ml-py`). CPUs of Intel and AMD count it
in Linux's powercap (RAPL), which on most machines only root may read: `chmod a+r /sys/class/powercap/*/energy_uj` lets
everyone. The counters are of whole chips, so what else runs on them counts too.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable

import jax

from scaling.devices import hosts

POWERCAP = pathlib.Path("/sys/class/powercap")


class Package:
    """A processor's counter in Linux's powercap, which begins again at 0 where it is full."""

    def __init__(self, folder: pathlib.Path):
        self.file = folder / "energy_uj"
        self.range = int((folder / "max_energy_range_uj").read_text())
        self.last, self.used = self._read(), 0

    def __call__(self) -> float:
        """Joules since the beginning. It has to be read before the counter was full twice, which takes hours."""
        now = self._read()
        self.used += now - self.last + (self.range if now < self.last else 0)
        self.last = now
        return self.used / 1e6

    def _read(self) -> int:
        return int(self.file.read_text())


def packages(folder: pathlib.Path = POWERCAP) -> list[Package]:
    """The counters of this machine's processors, of which each covers its cores and caches."""
    return [Package(zone) for zone in sorted(folder.glob("*-rapl:*")) if zone.name.count(":") == 1]


def accelerators(devices: Iterable[jax.Device]) -> list[Callable[[], float]]:
    """The counters of these GPUs of NVIDIA, in joules."""
    import pynvml  # optional

    pynvml.nvmlInit()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    handles = []
    for device in devices:
        number = device.local_hardware_id
        name = visible[number] if number < len(visible) else str(number)
        handles.append(pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else
                       pynvml.nvmlDeviceGetHandleByUUID(name))
    return [lambda handle=handle: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3 for handle in handles]


def counter() -> Callable[[], float]:
    """A function that gives the joules which this process's devices have used since some time, or NaN where there is no
    counter that may be read, or where the work is shared with other processes."""
    found: list[Callable[[], float]] = []
    if hosts.process_count() == 1:
        try:
            found = list(packages()) if jax.default_backend() == "cpu" else accelerators(jax.local_devices())
            _total(found)
        except (OSError, ValueError, ImportError):
            found = []
        except Exception as error:
            if not type(error).__module__.startswith("pynvml"):
                raise
            found = []
    return lambda: _total(found)


def _total(counters) -> float:
    return sum(read() for read in counters) if counters else float("nan")
