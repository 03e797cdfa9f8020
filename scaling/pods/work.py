"""The work of one device in one step, read off the compiled program: FLOPs of products, bytes of memory moved."""

import math
import re

from scaling.pods import hlo

# What moves no data of its own: views, tuples, control; asynchronous halves are counted where they end.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
         "after-all", "copy-start", "async-start", "async-update", "async-done", "send", "send-done", "recv", "recv-done",
         "partition-id", "all-gather-done", "all-reduce-done", "collective-permute-done", "opt-barrier", "iota",
         "replica-id"}


def flops(program: hlo.Program) -> float:
    """FLOPs of matrix products and convolutions as often as they run; recomputation and repeated work count again."""
    total = 0.0
    for one, here, times, _ in program.executed():
        if one.opcode == "fusion":
            total += times * sum(_product(i, inside) for i, inside in _nested(program, one))
        else:
            total += times * _product(one, here)
    return total


def traffic(program: hlo.Program) -> float:
    """Bytes that go to and from the main memory: operands and results of every executed instruction that lie there.

    Of an operand that a fusion only slices, or updates a slice of in place, the slice counts.
    """
    total = 0.0
    for one, here, times, _ in program.executed():
        if one.opcode in _FREE:
            continue
        total += times * (_fusion(program, one, here) if one.opcode == "fusion" else _plain(one, here))
    return total


def _plain(one, here):
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _far(one.arrays)
    if one.opcode == "dynamic-update-slice":
        update = here.get(one.operands[1])
        return 2 * _far(update.arrays) if update is not None else 0.0
    if one.opcode == "copy-done":  # of two places the one in main memory
        start = here.get(one.operands[0])
        return _far(start.arrays[:2]) if start is not None else 0.0
    return _far(one.arrays) + sum(_far(here[name].arrays) for name in one.operands if name in here)


def _fusion(program, one, here):
    inside = program.inside(one)
    parameters = {_number(i): i for i in inside.values() if i.opcode == "parameter"}
    users: dict[str, list] = {}
    for other in inside.values():
        for name in other.operands:
            users.setdefault(name, []).append(other)
    total = 0.0
    for index, name in enumerate(one.operands):
        given, used = here.get(name), parameters.get(index)
        if given is None or used is None or not _far(given.arrays):
            continue
        uses = _through(used, users)
        if uses and all(use.opcode in ("dynamic-slice", "slice", "gather") for use in uses):
            total += sum(sum(a.bytes for a in use.arrays) for use in uses)
        elif uses and all(use.opcode == "dynamic-update-slice" for use in uses):
            continue  # updated in place
        else:
            total += _far(given.arrays)
    updates = [i for i in inside.values() if i.opcode == "dynamic-update-slice"]
    written = [i for u in updates if (i := inside.get(u.operands[1])) is not None]
    whole = {u.arrays[0].dims for u in updates}
    total += sum(a.bytes for a in one.arrays if not a.near and a.dims not in whole)
    return total + sum(sum(a.bytes for a in i.arrays) for i in written)


def _through(used, users):
    """The uses of a parameter, seen through bitcasts."""
    out = []
    for use in users.get(used.name, []):
        out += _through(use, users) if use.opcode == "bitcast" else [use]
    return out


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
    return _convolution(one, here) if one.opcode == "convolution" else 0.0


def _convolution(one, here) -> float:
    """A multiply and an add for each output and tap whose input is neither padding nor a hole. TPUs do all products so."""
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
    """Pairs of output and tap that meet an input."""
    count = 0
    for tap in range(taps):
        offset = tap * spread - low
        if stride == 1 and holes == 1:
            count += max(0, min(places, size - offset) - max(0, -offset))
        else:
            count += sum(at % holes == 0 and 0 <= at < size * holes for at in
                         range(offset, offset + places * stride, stride))
    return count
