"""The parts of `tools.bench` that work in worker processes: rates, packing, microbatches, compilation, attention, memory;
and what other modules measure (start-up, loaders).

Every part takes a `Bench` and calls `bench.add(part, what, unit, ...)` for each result.
"""

import importlib.util
import math
import time

from scaling.figures.words import plural as counted
from tools import _bench_cases as cases
from tools._bench_workers import Failed, Side, Worker, in_turn, spread

PIECES = 32  # at most, into which a batch is divided where microbatches are compared
STARTS = 3  # at most, of a command, with cold and with warm caches


class Products:
    """Matrix products as one more contestant: what the devices can do at best, FLOP/s."""

    name, others = "products", 0.0

    def __init__(self, bench):
        self.measure = bench.products


def rates(bench):
    """Rates of each case: one run over all devices and, packed, one run per core; peers do the same."""
    for case in bench.cases:
        for mode in bench.modes:
            bench.attempt(f"{case.name}, {mode}", _rate, case, mode)
            bench.team.forget()


def _rate(bench, case, mode):
    packed = mode == "packed"
    runs = max(2, bench.devices) if packed else 1
    peers = [who for who in bench.team.peers if who == "torch" or (isinstance(case, cases.Text) and not packed)]
    sides = [Side(bench.team, "ours", "ours", case, runs, bench.how)]
    sides += [Side(bench.team, who, who, case, runs) for who in peers]
    for side in sides:
        bench.say(f"{case.name}, {mode}: {side.name} compiles")
        side.prepare(bench.seconds / bench.repeats)
    turns = in_turn([Products(bench), *sides], bench.repeats, bench.until,
                    lambda text: bench.say(f"{case.name}, {mode}: {text}"))
    ours = sides[0].prepared
    for side in sides[1:]:
        theirs = side.prepared["parameters"]
        if side.who == "torch" and abs(theirs / ours["parameters"] - 1) > 0.01:
            raise Failed(f"the twin in torch has {theirs:,} parameters, not {ours['parameters']:,}")
    products = turns.found.pop("products")
    scaled = {name: [case.per_step * value for value in values] for name, values in turns.found.items()}
    bench.add("rates", f"{case.name}, {'one run' if not packed else f'{runs} packed runs'}", case.unit, scaled.pop("ours"),
              scaled, parameters=ours["parameters"], compile_seconds=ours["compile"], pieces=ours.get("pieces"),
              mfu=spread([ours["flops"] * rate / peak for rate, peak in zip(turns.found["ours"], products)]),
              others=turns.others,
              peers_prepared={side.name: side.prepared for side in sides[1:]})


def packing(bench):
    """Packs of several runs of the smallest case, and the gain over one run."""
    case = next((case for case in bench.cases if isinstance(case, cases.Text)), bench.all_cases[0])
    sides = [Side(bench.team, f"{runs}", "ours", case, runs, bench.how) for runs in bench.packs]
    for side in sides:
        bench.say(f"{case.name}: a pack of {side.name} compiles")
        side.prepare(bench.seconds / bench.repeats)
    turns = in_turn(sides, bench.repeats, bench.until, lambda text: bench.say(f"{case.name}: packs, {text}"))
    found = {name: [case.per_step * value for value in values] for name, values in turns.found.items()}
    for side in sides:
        others = {} if side is sides[0] else {"one run": found[sides[0].name]}
        bench.add("packing", f"{case.name}, {side.name} packed", case.unit, found[side.name], others,
                  compile_seconds=side.prepared["compile"], others=turns.others)
    bench.team.forget()


def microbatch(bench):
    """The microbatch that the package chooses, beside all powers of two, for one run and for one run per core."""
    for case in bench.cases:
        for mode in bench.modes:
            bench.attempt(f"{case.name}, {mode}", _microbatches, case, max(2, bench.devices) if mode == "packed" else 1)
            bench.team.forget()


def _microbatches(bench, case, runs):
    rows = case.batch // (bench.devices // math.gcd(runs, bench.devices))  # of a device in one step
    sizes = [2**i for i in range(rows.bit_length()) if rows % 2**i == 0 and rows <= PIECES * 2**i]
    sides = [Side(bench.team, "chosen", "ours", case, runs)]
    sides += [Side(bench.team, counted(n, "example"), "ours", case._replace(name=f"{case.name} by {n}"), runs,
                   {"microbatch": n}) for n in sizes]
    for side in sides:
        bench.say(f"{case.name}: {side.name} compiles")
        side.prepare(bench.seconds / bench.repeats)
    turns = in_turn(sides, bench.repeats, bench.until, lambda text: bench.say(f"{case.name}: a microbatch of {text}"))
    found = {name: [case.per_step * value for value in values] for name, values in turns.found.items()}
    bench.add("microbatch", f"{case.name}, {counted(runs, 'run')}", case.unit, found.pop("chosen"), found,
              others=turns.others, chosen=rows // sides[0].prepared["pieces"])


def compilation(bench):
    """Seconds to trace and compile a step by depth, without any cache, and of nanodo's step for its smaller depths."""
    base = cases.TEXTS[0] if not bench.small else cases.TINY[0]
    found: dict = {}
    for repeat in range(max(1, min(3, bench.repeats))):
        for depth in bench.depths:
            case = base._replace(name=f"{depth} layers", layers=depth)
            for who in ("ours", *(["nanodo"] if "nanodo" in bench.team.peers and depth <= 16 else [])):
                bench.say(f"compiles {depth} layers ({who}, {repeat + 1})")
                answer = bench.team.worker(who).ask("compile", case=case._asdict())
                found.setdefault((who, depth), []).append(answer)
        if time.monotonic() > bench.until:
            break
    totals = {key: [a["trace"] + a["compile"] for a in answers] for key, answers in found.items()}
    for depth in bench.depths:
        others = {"nanodo": totals["nanodo", depth]} if ("nanodo", depth) in totals else {}
        bench.add("compile", f"{base.name} with {depth} layers", "s", totals["ours", depth], others,
                  trace=spread([a["trace"] for a in found["ours", depth]]))


def attention(bench):
    """Causal attention by the package's choice of kernel and by XLA's version of `jax.nn.dot_product_attention`."""
    worker = bench.team.worker("ours")
    for length, heads, size in bench.attentions:
        found: dict = {"auto": [], "xla": []}
        for repeat in range(bench.repeats):
            for implementation, values in found.items():
                bench.say(f"attention, length {length}, {implementation}, {repeat + 1}/{bench.repeats}")
                values.append(worker.ask("attention", length=length, heads=heads, size=size, implementation=implementation,
                                         seconds=bench.seconds / bench.repeats)["seconds"])
        bench.add("attention", f"length {length}, {heads} heads of {size}", "s", found["auto"], {"XLA's": found["xla"]})


def memory(bench):
    """The most memory that a new process needs to train each case, libraries included."""
    for case in bench.cases:
        found, device = {}, None
        for who in ("ours", *(p for p in bench.team.peers if p == "torch" or isinstance(case, cases.Text))):
            bench.say(f"{case.name}: memory of {who}")
            worker: Worker = bench.team.fresh(who)
            try:
                worker.ask("prepare", case=case._asdict(), runs=1, **({} if who == "ours" else {"threads": 1}))
                found[who] = worker.peak
                if who == "ours":
                    device = worker.ask("memory")["device"]
            except Failed as error:
                bench.note(f"{case.name}, memory: {error}")
            finally:
                worker.close()
        if "ours" in found:
            bench.add("memory", f"{case.name}, one run", "bytes", [found.pop("ours")],
                      {who: [value] for who, value in found.items()}, device_bytes=device)


def startup(bench):
    """Seconds from a command to its first step, without and with what earlier runs left in caches."""
    for name, cold in (("cold", True), ("warm", False)):
        bench.say(f"start-up, {name}")
        starts = [_elsewhere(bench, "tools._startup", "startup", cold=cold) for _ in range(min(STARTS, bench.repeats))]
        if found := [start for start in starts if start]:
            _dictionary(bench, "startup", name, {point: [each[point] for each in found] for point in found[0]}, "s")


def loader(bench):
    """Tokens a second that each way of feeding gives, and of a training run that streams beside one of resident data."""
    bench.say("loaders")
    if found := _elsewhere(bench, "tools._loader_rates", "rates", seconds=bench.seconds / 5):
        _dictionary(bench, "loader", "", found, "tokens/s")
        trained = _elsewhere(bench, "tools._loader_rates", "trained", seconds=bench.seconds / 5, repeats=bench.repeats)
        bench.add("loader", "training, streamed", "tokens/s", trained["streamed"], {"resident": trained["resident"]})


def _elsewhere(bench, module, function, **arguments) -> dict | None:
    """What a function of another tool finds, called in a process with one device per core. None if there is no such tool,
    which a note says."""
    if importlib.util.find_spec(module) is None:
        bench.note(f"{bench.part}: left out, there is no {module}")
        return None
    return bench.team.worker("ours").ask("call", module=module, function=function, arguments=arguments)["found"]


def _dictionary(bench, part, prefix, found, unit):
    """Adds every number of a dict; a list of numbers are repeats."""
    for name, value in found.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if values and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            bench.add(part, f"{prefix} {name}".strip(), unit, [float(v) for v in values], {})
