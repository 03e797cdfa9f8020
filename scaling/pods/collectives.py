"""The data that a compiled program sends between chips: kind, bytes, mesh axes and network."""

import dataclasses
import math
import re

import numpy as np

from scaling.pods import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast",
         "ragged-all-to-all")
_KIND = re.compile(rf"^({'|'.join(KINDS)})(-start)?$")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind over the same mesh axes, in one step of one device."""

    kind: str
    axes: tuple[str, ...]
    network: str  # "ici", or "dcn" between slices
    group: int  # devices that take part together
    count: int  # executions, with every round of a loop
    payload: float  # bytes of the result of an all-gather, or of the operand of another kind
    sent: float  # bytes that a device sends with ring algorithms


def read_collectives(program: hlo.HloModule, mesh: dict[str, int], slices=None) -> list[Collective]:
    """Collectives of a program for a mesh {axis: size}. `slices` holds the slice of each device, in the mesh's order."""
    found: dict = {}
    slices = np.zeros(math.prod(mesh.values()), int) if slices is None else np.asarray(slices)
    for one, here, times, loops in program.executed():
        for kind, operands, instruction in _collectives(program, one, here):
            members = replica_group(instruction, slices.size, kind)
            if members is None or len(members) < 2:
                continue
            axes, size = crossed_axes(members, mesh), len(members)
            payload = sum(a.bytes for a in operands)
            if kind == "collective-permute":
                kind, size = _inside_product(loops), 2
            network = "dcn" if len(set(slices[members])) > 1 else "ici"
            key = kind, axes, network, size
            count, held, sent = found.get(key, (0, 0, 0))
            found[key] = count + times, held + times * payload, sent + times * _sent(kind, payload, size)
        if _crosses_slices(one):
            kind = _megascale(one)
            axes, size = crossed_axes(_one_of_each(slices), mesh), len(set(slices))
            payload = sum(a.bytes for name in one.operands[:1] if name in here for a in here[name].arrays)
            key = kind, axes, "dcn", size
            count, held, sent = found.get(key, (0, 0, 0))
            found[key] = count + times, held + times * payload, sent + times * _sent(kind, payload, size)
    rows = [Collective(kind, axes, network, size, count, payload, sent)
            for (kind, axes, network, size), (count, payload, sent) in found.items()]
    return sorted(rows, key=lambda row: -row.sent)


def count_unread(program: hlo.HloModule) -> int:
    """The number of collectives of the program that `read_collectives` misses. If it is not 0, its figures are too low."""
    every = {one.name for here in program.computations.values() for one in here.values() if _KIND.match(one.opcode)}
    read = {found.name for one, here, _, _ in program.executed() for _, _, found in _collectives(program, one, here)}
    return len(every - read)


def _collectives(program, one, here):
    """(kind, arrays that it carries, instruction) of an instruction, or of each collective inside a fusion."""
    match = _KIND.match(one.opcode)
    if match:
        yield match[1], _carried(match[1], one, here), one
    elif one.opcode == "fusion":
        inside = program.inside(one)
        # An all-reduce of which each device keeps a part is a reduce-scatter. XLA names such a fusion after it.
        scatter = "reduce-scatter" in one.name or "reduce-scatter" in (one.attribute("calls") or "") \
            or "all-reduce-scatter" in one.text
        for other in inside.values():
            match = _KIND.match(other.opcode)
            if match:
                kind = "reduce-scatter" if match[1] == "all-reduce" and scatter else match[1]
                yield kind, _carried(kind, other, inside), other


def _carried(kind, one, here):
    """The arrays that are the payload of a collective."""
    if kind == "all-gather":
        # The result of an async start is (operands, results); the results are the gathered arrays.
        return one.arrays[len(one.arrays) // 2:] if one.opcode.endswith("start") else one.arrays
    known = [a for name in one.operands if name in here for a in here[name].arrays]
    return known or one.arrays


def _inside_product(loops) -> str:
    """The kind of a permute. XLA overlaps a gather or scatter with its product, as a loop of permutes around the ring."""
    body = loops[-1] if loops else ""
    if "windowed_dot_general" in body:
        return "reduce-scatter in a product" if "_rs" in body else "all-gather in a product"
    return "collective-permute"


def _sent(kind: str, payload: float, size: int) -> float:
    """Bytes that each of `size` devices sends."""
    if kind in ("collective-permute", "collective-broadcast") or kind.endswith("in a product"):
        return payload
    share = (size - 1) / size
    return payload * share * (2 if kind == "all-reduce" else 1)


# ------------------------------------------------------------------------- the devices of a group


def replica_group(one: hlo.Instruction, devices: int, kind: str) -> list[int] | None:
    """The positions in the mesh of the first group of devices that communicates."""
    if kind == "collective-permute":
        pairs = one.text.split("source_target_pairs=", 1)[-1].split("}}", 1)[0]
        moved = [(int(a), int(b)) for a, b in re.findall(r"(\d+),(\d+)", pairs) if a != b]
        return list(moved[0]) if moved else None
    text = one.text.split("replica_groups=", 1)
    if len(text) < 2:
        return list(range(devices))
    text = text[1]
    if text.startswith("{}"):
        return list(range(devices))
    explicit = re.match(r"\{\{([\d,]+)\}", text)
    if explicit:
        return [int(i) for i in explicit[1].split(",")]
    iota = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        return [int(i) for i in _iota(*iota.groups()).reshape(_sizes(iota[1]))[0].ravel()]
    named = re.match(r"@?mesh\[([^\]]+)\](?:, *device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? *\{([^}]*)\}", text)
    if named:
        sizes = {k.strip("'\" "): int(n) for k, n in (part.split("=") for part in named[1].split(","))}
        ids = np.arange(devices) if named[2] is None else _iota(str(devices), named[2], named[3])
        ids = ids.reshape(tuple(sizes.values()))
        return [int(i) for i in _along(ids, list(sizes), re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", named[4]))]
    raise ValueError(f"replica groups are written in a way that is not known here: {text[:120]!r}")


def _along(ids, names, axes):
    """Positions along some axes, starting at the first device. `'a':(p)n` is the part of size n of axis a, after parts
    whose sizes have the product p."""
    index = [np.zeros(1, int)] * len(names)
    for name, before, part in axes:
        at, size = names.index(name), ids.shape[names.index(name)]
        steps = np.arange(int(part or size)) * (size // (int(before or 1) * int(part or size)))
        total = index[0].size
        index = [np.repeat(i, steps.size) for i in index]
        index[at] = index[at] + np.tile(steps, total)
    return ids[tuple(index)]


def _sizes(text):
    return tuple(int(n) for n in text.split(","))


def _iota(shape, dims, order):
    ids = np.arange(math.prod(_sizes(dims))).reshape(_sizes(dims))
    return (ids.transpose(_sizes(order)) if order else ids).reshape(_sizes(shape))


def crossed_axes(members, mesh: dict[str, int]) -> tuple[str, ...]:
    """The mesh axes along which these devices differ."""
    places = np.unravel_index(np.asarray(members), tuple(mesh.values()))
    return tuple(axis for axis, at in zip(mesh, places) if len(set(at.tolist())) > 1)


# ------------------------------------------------------------------------------- between slices


def _crosses_slices(one: hlo.Instruction) -> bool:
    """Whether an instruction sends data to another slice. The compiler hands it to the host, which uses the network."""
    return one.opcode == "send" and "megascale" in one.text


def _megascale(one) -> str:
    """The kind of a collective between slices."""
    found = re.search(r'_xla_megascale_transfer_type="(\w+)"', one.text)
    kind = found[1].lower().replace("_", "-") if found else "collective-permute"
    return kind if kind in KINDS else "collective-permute"


def _one_of_each(slices):
    """The first device of every slice. They differ along the mesh axes that join the slices."""
    return [int(np.flatnonzero(slices == s)[0]) for s in sorted(set(slices.tolist()))]
