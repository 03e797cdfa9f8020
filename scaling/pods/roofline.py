"""A lower bound of the time of a step: work over the published rates of the chip. Nothing is measured here.

`overlapped` is the longest of computing, memory, ICI and DCN, as if all ran at once. `serial` is their sum, as if they ran
one after the other. A real step lies between the two if every unit reaches its published rate, and is longer otherwise.
"""

import numpy as np

from scaling.devices.chips import Slices


def step_times(slices: Slices, flops: float, traffic: float, collectives, mesh) -> dict[str, float]:
    """Seconds of a step of one device: compute, hbm, ici and dcn."""
    chip = slices.chip
    return {"compute": flops / chip.share(chip.peak), "hbm": traffic / chip.share(chip.hbm_rate),
            "ici": sum(row.sent / ici_rate(slices, row.axes, mesh) for row in collectives if row.network == "ici"),
            "dcn": sum(row.sent / chip.share(chip.dcn) for row in collectives if row.network == "dcn")}


def step_bounds(slices: Slices, seconds: dict[str, float], model_flops: float) -> dict:
    """The seconds of `step_times`, the longest of them ("bound"), and the MFU of both bounds: the FLOPs of the model over
    those that the chip could have done."""
    bound = max(seconds, key=lambda unit: seconds[unit])
    overlapped, serial = seconds[bound], sum(seconds.values())
    peak = slices.chip.share(slices.chip.peak)
    return {**seconds, "bound": bound, "overlapped": overlapped, "serial": serial,
            "mfu_overlapped": model_flops / peak / overlapped, "mfu_serial": model_flops / peak / serial}


def ici_rate(slices: Slices, axes, mesh) -> float:
    """Bytes/s at which a device sends around a ring of these mesh axes. It uses both links along every dimension of the
    torus that the axes lie along, or one link if the ends of the dimension are not joined."""
    lead = [mesh.axis_names.index(axis) for axis in axes]
    devices = mesh.devices[tuple(slice(None) if i in lead else 0 for i in range(mesh.devices.ndim))].ravel()
    places = np.array([device.coords for device in devices])
    spread = [len(set(column.tolist())) > 1 for column in places.T][:len(slices.shape)]
    if not any(spread):  # two devices of one chip, whose connection is at least as fast as all links together
        spread = [True] * len(slices.shape)
    links = sum(2 if wraps and size > 2 else 1 for along, wraps, size in zip(spread, slices.wrap, slices.shape) if along)
    return slices.chip.share(slices.chip.link * links)
