"""The work of one device in one step, read from the compiled program: FLOPs of products, bytes of memory traffic."""

import math
import re

from scaling import cost
from scaling.pods import hlo

# Instructions that move no data of their own: views, tuples, control. Asynchronous pairs are counted at their end.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
         "after-all", "copy-start", "async-start", "async-update", "async-done", "send", "send-done", "recv", "recv-done",
         "partition-id", "all-gather-done", "all-reduce-done", "collective-permute-done", "opt-barrier", "iota",
         "replica-id"}


def compiled_flops(program: hlo.HloModule) -> float:
    """FLOPs of all executed matrix products, convolutions and kernels of attention, recomputation and repeated work
    included."""
    total = 0.0
    for one, here, times, _ in program.executed():
        if one.opcode == "fusion":
            total += times * sum(_product(i, inside) for i, inside in _nested(program, one))
        else:
            total += times * _product(one, here)
    return total


def memory_traffic(program: hlo.HloModule) -> float:
    """Bytes to and from the main memory: the operands and results there of every executed instruction.

    If a fusion only slices an operand, or updates a slice of it in place, only the slice counts.
    """
    total = 0.0
    for one, here, times, _ in program.executed():
        if one.opcode in _FREE or one.opcode == "custom-call" and one.called in program.computations:
            continue
        total += times * (_fusion(program, one, here) if one.opcode == "fusion" else _plain(one, here))
    return total


def _plain(one, here):
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _far(one.arrays)
    if one.opcode == "dynamic-update-slice":
        update = here.get(one.operands[1])
        return 2 * _far(update.arrays) if update is not None else 0.0
    if one.opcode == "copy-done":  # between a near memory and the main one: only one of the two counts
        start = here.get(one.operands[0])
        return _far(start.arrays[:2]) if start is not None else 0.0
    return _far(one.arrays) + sum(_far(here[name].arrays) for name in one.operands if name in here)


def _fusion(program, one, here):
    inside = program.inside(one)
    total = 0.0
    for index, name in enumerate(one.operands):
        given = here.get(name)
        if given is not None and _far(given.arrays):
            total += min(_far(given.arrays), _touched(program, inside, index))
    updates = [(i, within) for i, within in _nested(program, one) if i.opcode == "dynamic-update-slice"]
    whole = {math.prod(i.arrays[0].dims) for i, _ in updates}
    total += sum(a.bytes for a in one.arrays if not a.near and math.prod(a.dims) not in whole)
    return total + sum(sum(a.bytes for a in within[i.operands[1]].arrays) for i, within in updates)


def _touched(program, inside, index) -> float:
    """Bytes that a fusion reads of its argument number `index`: those of the slices if it is only sliced, none if it is
    only updated in place, else infinity, which stands for the whole argument."""
    argument = next((i for i in inside.values() if i.opcode == "parameter" and _number(i) == index), None)
    return math.inf if argument is None else _read(program, inside, argument.name)


def _read(program, inside, name) -> float:
    total = 0.0
    for use in inside.values():
        for place, operand in enumerate(use.operands):
            if operand != name:
                continue
            if use.opcode == "bitcast":
                total += _read(program, inside, use.name)
            elif use.opcode == "fusion":
                total += _touched(program, program.inside(use), place)
            elif use.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
                total += sum(a.bytes for a in use.arrays)
            elif use.opcode != "dynamic-update-slice" or place:
                return math.inf
    return total


def _nested(program, fusion):
    inside = program.inside(fusion)
    for one in inside.values():
        if one.opcode == "fusion":
            yield from _nested(program, one)
        else:
            yield one, inside


def _number(one):
    return int(re.match(r"\((\d+)\)", one.text)[1])


def _far(arrays):
    return sum(a.bytes for a in arrays if not a.near)


# ------------------------------------------------------------------------------------- products


def _product(one, here) -> float:
    if one.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.text)
        lhs = here[one.operands[0]].arrays[0].dims
        return 2.0 * math.prod(one.arrays[0].dims) * math.prod(lhs[int(i)] for i in contracted[1].split(",") if i)
    if one.opcode == "custom-call" and "splash_mha" in one.name:  # queries, keys [B, H, S, d]; scratch [..., block, lanes]
        *sequences, length, size = here[one.operands[2]].arrays[0].dims
        keys = here[one.operands[3]].arrays[0].dims[-2]
        return float(cost.splash_flops(one.name, math.prod(sequences), length, keys, size, one.arrays[0].dims[-2]))
    return _convolution(one, here) if one.opcode == "convolution" else 0.0


def _convolution(one, here) -> float:
    """A multiply and an add for each output and tap whose input is neither padding nor a hole. XLA for TPUs writes all
    products as convolutions."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.text)
    lhs, rhs = (here[name].arrays[0].dims for name in one.operands[:2])
    out, (ins, kernel, outs) = one.arrays[0].dims, labels.groups()
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", (re.search(r"window=\{([^}]*)\}", one.text) or [0, ""])[1]))
    pairs = 1
    for label in sorted(c for c in outs if c.isdigit()):
        at, taps = int(label), rhs[kernel.index(label)]
        low = int(_at(window.get("pad", ""), at, "0_0").split("_")[0])
        stride, holes, spread = (int(_at(window.get(k, ""), at, "1")) for k in ("stride", "lhs_dilate", "rhs_dilate"))
        pairs *= _valid(lhs[ins.index(label)], out[outs.index(label)], taps, low, stride, holes, spread)
    return 2.0 * pairs * out[outs.index("b")] * out[outs.index("f")] * rhs[kernel.index("i")]


def _at(text, index, default):
    parts = text.split("x") if text else []
    return parts[index] if index < len(parts) else default


def _valid(size, places, taps, low, stride, holes, spread) -> int:
    """The number of pairs of output and tap that meet an input, along one dimension."""
    count = 0
    for tap in range(taps):
        offset = tap * spread - low
        if stride == 1 and holes == 1:
            count += max(0, min(places, size - offset) - max(0, -offset))
        else:
            count += sum(at % holes == 0 and 0 <= at < size * holes for at in
                         range(offset, offset + places * stride, stride))
    return count
