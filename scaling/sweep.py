"""Sweeps: lists of experiments, and the plan that trains them with the least compiling and the least compute.

A sweep is a plain list, so it can be printed, filtered, counted and compared:

    runs = grid(base, {"family": families, "optim.learning_rate": [2e-3, 4e-3], "data.tokens": [2**18, 2**20]})
    runs = [e for e in runs if e.data.tokens < 2**20 or e.optim.learning_rate > 3e-3]
"""

import dataclasses
import functools
import hashlib
import itertools

import jax

from scaling import cost, experiment as experiments, train
from scaling.data import spec


def _bases(base):
    return list(base) if isinstance(base, (list, tuple)) else [base]


def grid(base, values: dict[str, list]) -> list:
    """Every combination of the values, for every base experiment; the last field varies fastest."""
    return [e.replace(dict(zip(values, combination, strict=True)))
            for e in _bases(base) for combination in itertools.product(*values.values())]


def zipped(base, values: dict[str, list]) -> list:
    """The first value of each field together, then the second of each, and so on, for every base experiment."""
    lengths = {path: len(v) for path, v in values.items()}
    if len(set(lengths.values())) > 1:
        raise experiments.ConfigError(f"zipped needs as many values for each field, not {lengths}; use grid for all pairs")
    return [e.replace(dict(zip(values, together, strict=True)))
            for e in _bases(base) for together in zip(*values.values(), strict=True)]


def chain(*sweeps) -> list:
    """One sweep after another, each experiment once."""
    return list(dict.fromkeys(e for sweep in sweeps for e in _bases(sweep)))


def where(sweep, **conditions) -> list:
    """Those experiments for which every condition holds: `where(runs, data=lambda d: d.tokens > 2**18)`."""
    return [e for e in sweep if all(test(getattr(e, name)) for name, test in conditions.items())]


@dataclasses.dataclass(frozen=True)
class Run:
    experiment: experiments.Experiment
    fingerprint: str
    role: str = "sweep"  # or "target"


@dataclasses.dataclass(frozen=True)
class Trunk:
    """Runs that differ only in length: what the longest does before a cooldown begins, all do."""

    runs: tuple[Run, ...]  # by length

    @property
    def spans(self):
        return tuple(train.span(run.experiment) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Pack:
    """Trunks trained side by side in one program. Their branches begin and end at the same steps."""

    trunks: tuple[Trunk, ...]

    @property
    def name(self):
        prints = "".join(run.fingerprint for trunk in self.trunks for run in trunk.runs)
        return hashlib.sha256(prints.encode()).hexdigest()[:16]

    @property
    def experiment(self):
        return self.trunks[0].runs[-1].experiment

    @property
    def program(self) -> tuple[str, int]:
        return experiments.program_key(self.experiment), len(self.trunks)

    @property
    def steps(self) -> int:
        """Steps that each trunk takes, its branches included."""
        spans = self.trunks[0].spans
        return max(s.cooldown for s in spans) + sum(s.steps - s.cooldown for s in spans)

    def flops(self) -> float:
        """FLOPs to train the pack: the trunk once, and every branch."""
        return self.steps * len(self.trunks) * step_flops(self.experiment)


@dataclasses.dataclass(frozen=True)
class Plan:
    packs: tuple[Pack, ...]

    @property
    def runs(self) -> list[Run]:
        return [run for pack in self.packs for trunk in pack.trunks for run in trunk.runs]

    @property
    def programs(self) -> int:
        return len({pack.program for pack in self.packs})

    def flops(self) -> float:
        return sum(pack.flops() for pack in self.packs)


def plan(sweep, content, pack: int, role: str = "sweep", under_way=()) -> Plan:
    """Groups a sweep: runs that differ only in length share a trunk, trunks that differ only in knobs a pack of at
    most `pack`, packs of equal shape a program. `content(experiment)` is the fingerprint of the data it sees. Packs whose
    names are `under_way` stay together, so that they go on where they were on more or fewer devices than they began on."""
    groups: dict = {}
    for e in dict.fromkeys(sweep):
        knobs = experiments.knobs(e)
        shared = tuple((k, v) for k, v in knobs.items() if k != e.data.length_knob)
        alone = () if train.span(e).cooldown > 0 else (e.steps,)  # nothing shared: every length is its own trunk
        run = Run(e, experiments.fingerprint(e, content(e)), role)
        groups.setdefault(experiments.program_key(e), {}).setdefault((shared, alone), []).append(run)
    packs = []
    for trunks in groups.values():
        alike: dict = {}
        for runs in trunks.values():
            trunk = Trunk(tuple(sorted(runs, key=lambda r: r.experiment.steps)))
            alike.setdefault(trunk.spans, []).append(trunk)
        for same in alike.values():
            packs += _cut(same, pack, set(under_way))
    return Plan(tuple(packs))


def _cut(trunks, most, under_way):
    """The trunks in order as packs of at most `most`, and those of any size that are under way."""
    packs, new = [], []
    while trunks:
        sizes = range(1, len(trunks) + 1) if under_way else ()
        begun = next((n for n in sizes if Pack(tuple(trunks[:n])).name in under_way), None)
        if new and (begun or len(new) == most):
            packs.append(Pack(tuple(new)))
            new = []
        if begun:
            packs.append(Pack(tuple(trunks[:begun])))
        else:
            new.append(trunks[0])
        trunks = trunks[begun or 1:]
    return packs + [Pack(tuple(new))] * bool(new)


def short(number: float) -> str:
    """12_345 as "12k": for tables and bars."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def step_flops(experiment) -> float:
    """FLOPs of one training step, the optimiser's matrix products included, counted from its jaxpr."""
    return _step_flops(experiment.family, experiment.data.batch, experiment.optim.name)


@functools.lru_cache(maxsize=1024)
def _step_flops(family, batch, optimiser):
    e = experiments.Experiment(family=family, data=spec.KINDS[family.reads]())
    e = e.replace({"data.batch": batch, "optim.name": optimiser})
    examples = jax.eval_shape(lambda: family.example_batch(batch, jax.random.key(0)))
    state = jax.eval_shape(lambda: train.init(e))
    return float(cost.flops(lambda state, examples: train.step(e, train.TRUNK, state, examples), state, examples))


def counts(experiment, available: int) -> dict[str, float]:
    """N, D and C of a run as records hold them, when its source gives `available` different units of data."""
    params = cost.param_count(experiment.family)
    data = experiment.data
    seen = data.steps * data.per_step
    players = params["by_player"] if len(params["by_player"]) > 1 else {}
    each = cost.player_flops(experiment.family, data.batch) if players else {}
    return {"params_total": params["total"], "params_non_embedding": params["non_embedding"],
            **{f"params_{player}": n for player, n in players.items()},
            f"{data.unit}_seen": seen, f"{data.unit}_unique": min(seen, data.unique or available), "steps": data.steps,
            "flops": step_flops(experiment) * experiment.steps,
            **{f"flops_{player}": n * experiment.steps for player, n in each.items()},
            "flops_6nd": cost.six_nd(params["non_embedding"], seen)}
