"""The text of a compiled program, parsed into computations of instructions, and how often each runs in one step."""

import dataclasses
import math
import re
from typing import NamedTuple

BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
         "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^{}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")


class Array(NamedTuple):
    """The type of an array."""

    dtype: str
    dims: tuple[int, ...]
    near: bool = False  # in a memory nearer than the main one, such as a TPU's VMEM

    @property
    def bytes(self) -> float:
        return math.prod(self.dims) * BYTES.get(self.dtype, 1)  # types that are not listed are 8-bit floats


@dataclasses.dataclass
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]  # the result; a tuple has several arrays
    operands: tuple[str, ...]
    text: str  # the operands as written, and the attributes
    root: bool

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute names, such as a loop's `body`."""
        found = re.search(rf"\b{name}=\{{?%?([\w.\-]+)", self.text)
        return found and found[1]

    @property
    def called(self) -> str | None:
        """The computation that a call runs, also that of a custom call if the text shows it, such as SparseCore work."""
        if self.opcode == "custom-call":
            return self.attribute("called_computations")
        return self.attribute("to_apply") or self.attribute("calls")


class HloModule:
    """A compiled program. `computations` is {name: {name of instruction: Instruction}} in order of execution, `entry` the
    name of the first computation."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        entry, here = None, None
        for line in text.splitlines():
            if line.startswith((" ", "\t")):
                found = None if here is None else _instruction(line)
                if here is not None and found is not None:
                    here[found.name] = found
            elif line.endswith("{") and " -> " in line:
                name = _NAME.search(line)[1] if "%" in line else line.split()[line.startswith("ENTRY")]
                here = self.computations.setdefault(name, {})
                entry = name if line.startswith("ENTRY") else entry
        if entry is None:
            raise ValueError("this text is no compiled program: no computation begins with ENTRY")
        self.entry: str = entry

    def executed(self):
        """(instruction, its computation, how often it runs, the loop bodies around it) for every instruction that runs,
        without those inside fusions. A loop without a known number of rounds is the loop over steps and counts once."""
        yield from self._run(self.entry, 1, ())

    def _run(self, name, times, loops):
        here = self.computations[name]
        for one in here.values():
            yield one, here, times, loops
            if one.opcode == "while":
                body = one.attribute("body")
                yield from self._run(body, times * (self.rounds(one, here) or 1), (*loops, body))
            elif one.opcode == "conditional":
                for branch in re.findall(r"%([\w.\-]+)", one.text.split("computation", 1)[-1]):
                    if branch in self.computations:
                        yield from self._run(branch, times, loops)
            elif one.opcode in ("call", "async-start", "custom-call") and one.called in self.computations:
                yield from self._run(one.called, times, loops)

    def inside(self, fusion: Instruction) -> dict[str, Instruction]:
        """The instructions inside a fusion."""
        return self.computations.get(fusion.attribute("calls"), {})

    def rounds(self, loop: Instruction, here) -> int | None:
        """How often the body of a loop runs; None if the program does not tell before it runs."""
        known = re.search(r'known_trip_count":?\s*=?\{"?n"?[:=]"?(\d+)', loop.text)
        if known:
            return int(known[1])
        condition, body = (self.computations[loop.attribute(name)] for name in ("condition", "body"))
        test = next((i for i in condition.values() if i.root), None)
        if test is None or test.opcode != "compare" or "direction=LT" not in test.text:
            return None
        start = here.get(loop.operands[0])
        index = _element(condition, test.operands[0])
        stop = self._number(condition, test.operands[1], start, here)
        first = self._number(condition, test.operands[0], start, here)
        if index is None or stop is None or first is None:
            return None
        result = next((i for i in body.values() if i.root), None)
        step = self._step(body, result.operands[index]) if result is not None and result.opcode == "tuple" else None
        return None if not step else max(0, math.ceil((stop - first) / step))

    def _number(self, condition, name, start, here):
        """The integer `name` in the condition of a loop, at its first round."""
        one = condition.get(name)
        if one is None:
            return None
        if one.opcode == "constant":
            return _constant(one)
        index = _element(condition, name)
        if index is None or start is None or start.opcode != "tuple":
            return None
        at, depth = here.get(start.operands[index]), 0
        while at is not None and at.opcode in ("copy", "bitcast", "copy-done", "copy-start") and depth < 8:
            at, depth = here.get(at.operands[0]), depth + 1
        return _constant(at) if at is not None and at.opcode == "constant" else None

    def _step(self, body, name):
        """The positive integer that the body of a loop adds to its counter `name`."""
        one = body.get(name)
        inside = body
        if one is not None and one.opcode == "fusion":
            inside = self.inside(one)
            one = next((i for i in inside.values() if i.root), None)
        if one is None or one.opcode != "add":
            return None
        numbers = [_constant(inside[o]) for o in one.operands if o in inside and inside[o].opcode == "constant"]
        if not numbers:  # the constant may be an argument of the fusion
            numbers = [_constant(i) for i in inside.values() if i.opcode == "constant"]
        if not numbers and body.get(name) is not None:
            numbers = [_constant(body[o]) for o in body[name].operands if o in body and body[o].opcode == "constant"]
        return numbers[0] if numbers and numbers[0] and numbers[0] > 0 else None


def _element(computation, name):
    """The index of a get-tuple-element instruction."""
    one = computation.get(name)
    if one is None or one.opcode != "get-tuple-element":
        return None
    return int(re.search(r"index=(\d+)", one.text)[1])


def _constant(one):
    found = re.match(r"\((-?\d+)\)", one.text)
    return int(found[1]) if found else None


def parse_arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type as written: `bf16[8,128]{1,0:T(8,128)S(1)}`, or a tuple of these."""
    out = []
    for dtype, dims, layout in _ARRAY.findall(text):
        sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
        out.append(Array(dtype, sizes, bool(re.search(r"S\([1-9]", layout or ""))))
    return tuple(out)


def _instruction(line: str) -> Instruction | None:
    left, equals, right = line.strip().partition(" = ")
    if not equals:
        return None
    end = _close(right, 0) if right.startswith("(") else right.find(" ")
    kind, rest = right[:end].rstrip(), right[end:].lstrip()
    opening = rest.find("(")
    if opening < 0:
        return None
    closing = _close(rest, opening)
    given = _NAME.findall(rest[opening:closing])
    return Instruction(left.removeprefix("ROOT ").lstrip("%"), rest[:opening].strip(), parse_arrays(kind), tuple(given),
                       rest[opening:], left.startswith("ROOT "))


def _close(text: str, at: int) -> int:
    """The position behind the bracket that closes the one at `at`."""
    depth = 0
    for match in re.finditer(r"[()]", text[at:]):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return at + match.end()
    return len(text)
