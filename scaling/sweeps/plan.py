"""The plan that trains a sweep with the least compilation and compute: runs, trunks, packs and programs."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable

import jax

from scaling import experiment as experiments
from scaling.experiment.legacy import fingerprint_of_version_2
from scaling.training.counts import step_flops, step_flops_executed
from scaling.training.step import run_span

# FLOPs that a device executes in training while a program is compiled. Only the speed of a sweep depends on them.
COMPILATION, ACCELERATED = {"cpu": 2.5e11}, 1e15
DIVIDED = 0.75  # the rate of a run whose batch is divided among devices, over that of packed runs


@dataclasses.dataclass(frozen=True)
class Run:
    """One experiment with its fingerprint, and that of the run that it begins with."""

    experiment: experiments.Experiment
    fingerprint: str
    role: str = "sweep"  # or "target", or "start" for a run that nobody asked for and others begin with
    stands_on: str = ""


@dataclasses.dataclass(frozen=True)
class Trunk:
    """Runs that differ only in length. They share all steps before their cooldowns, which branch off the trunk."""

    runs: tuple[Run, ...]  # from the shortest to the longest

    @property
    def spans(self):
        return tuple(run_span(run.experiment) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Pack:
    """Trunks that one program trains side by side. Their branches begin and end at the same steps.

    A pack with fewer trunks than its `width` is filled up with copies of its last one, whose results are thrown away.
    """

    trunks: tuple[Trunk, ...]
    fillers: int = 0
    start: int = 0  # the step from which all trunks go on, where an earlier command kept them

    @property
    def width(self) -> int:
        """The number of trunks of the program."""
        return len(self.trunks) + self.fillers

    def filled(self) -> tuple[Trunk, ...]:
        """The trunks of the program, the fillers last."""
        return self.trunks + self.trunks[-1:] * self.fillers

    @property
    def runs(self) -> list[Run]:
        return [run for trunk in self.trunks for run in trunk.runs]

    @property
    def waits_for(self) -> set[str]:
        """The fingerprints of the runs that must have finished before this pack can begin."""
        return {run.stands_on for run in self.runs if run.stands_on}

    @property
    def name(self):
        prints = "".join(run.fingerprint for run in self.runs)
        return hashlib.sha256(prints.encode()).hexdigest()[:16]

    @property
    def experiment(self):
        """The longest experiment of the first trunk; all others differ from it only in knobs."""
        return self.trunks[0].runs[-1].experiment

    @property
    def program(self) -> tuple[str, int]:
        """Equal for two packs exactly if one compiled program can train both."""
        return experiments.program_key(self.experiment), self.width

    @property
    def steps(self) -> int:
        """Steps that each trunk takes, its branches included."""
        spans = self.trunks[0].spans
        return max(s.cooldown for s in spans) - self.start + sum(s.steps - s.cooldown for s in spans)

    def flops(self) -> float:
        """FLOPs of the models in training the pack: every trunk once, and every branch."""
        return self.steps * len(self.trunks) * step_flops(self.experiment)

    def flops_executed(self) -> float:
        """FLOPs that training the pack executes, with fillers, recomputation and the optimiser's matrix products."""
        return self.steps * self.width * step_flops_executed(self.experiment)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The packs of a sweep, in the order in which they are trained. A run comes after the run that it begins with."""

    packs: tuple[Pack, ...]

    @property
    def runs(self) -> list[Run]:
        """The runs that were asked for."""
        return [run for run in self.all_runs if run.role != "start"]

    @property
    def all_runs(self) -> list[Run]:
        """The runs that were asked for, and those that they stand on."""
        return [run for pack in self.packs for run in pack.runs]

    def with_bases(self, packs: Iterable[Pack]) -> "Plan":
        """The plan of some of the packs, and of those that they wait for."""
        wanted = set(packs)
        for pack in reversed(self.packs):
            if {run.fingerprint for run in pack.runs} & {name for other in wanted for name in other.waits_for}:
                wanted.add(pack)
        return Plan(tuple(pack for pack in self.packs if pack in wanted))

    @property
    def programs(self) -> int:
        """The number of programs that must be compiled."""
        return len({pack.program for pack in self.packs})

    def flops(self) -> float:
        return sum(pack.flops() for pack in self.packs)

    def flops_executed(self) -> float:
        return sum(pack.flops_executed() for pack in self.packs)


def make_plan(sweep, content, pack: int | Callable, role: str = "sweep", under_way=(), held=(),
              kept: Callable[[Trunk], int | None] = lambda trunk: 0, beside: Plan | None = None) -> Plan:
    """The plan of a list of experiments.

    Runs that differ only in length share a trunk. Trunks that differ only in knobs share a pack of at most `pack` trunks,
    which may be a function of an experiment of their shape. Packs of equal shape share a program, and so do narrow packs
    that are filled up, see `_fill`. `content(experiment)` is that of `experiments.made_from`. The runs that others begin
    with are planned first, once each; no pack waits for one of its own runs. Packs whose names are in
    `under_way` keep their trunks, so that they resume from their checkpoints on any number of devices. Runs that results
    version 2 began keep the name that it gave them, if the workdir holds that name: `held` are the names that it holds.
    `kept(trunk)` is the step at which an earlier command kept a trunk, or 0; the trunks of a new pack go on from the same.
    It is None for a trunk whose runs are all done: that one stays in the pack of its neighbours, so that a run of theirs
    that is trained again has the same bits. `beside` is a plan whose programs are compiled already: packs of their kind are
    filled up to their width.
    """
    compiled: dict = {}  # {program key: width}
    for pack_beside in beside.packs if beside is not None else ():
        key, width = pack_beside.program
        compiled[key] = max(width, compiled.get(key, 0))
    programs: dict = {}  # {program key: {what the runs of a trunk share: runs}}
    by_name: dict = {}
    own = dict.fromkeys(sweep)
    for e in dict.fromkeys([*own, *(base for each in own for base in experiments.bases(each))]):
        shared_knobs = tuple((k, v) for k, v in experiments.knobs(e).items() if k != e.data.length_knob)
        own_length = () if run_span(e).cooldown > 0 else (e.steps,)  # without a shared part every length is its own trunk
        on = "" if e.start is None else _name_in_workdir(e.start.experiment, content(e.start.experiment), held)
        run = Run(e, _name_in_workdir(e, content(e), held), role if e in own else "start", on)
        if by_name.setdefault(run.fingerprint, e) is not e:  # it differs only in how it is computed: the same run
            continue
        trunks = programs.setdefault(experiments.program_key(e), {})
        trunks.setdefault((shared_knobs, own_length, on), []).append(run)
    packs = []
    for key, trunks in programs.items():
        by_spans: dict = {}
        most = pack(next(iter(trunks.values()))[0].experiment) if callable(pack) else pack
        for runs in trunks.values():
            trunk = Trunk(tuple(sorted(runs, key=lambda r: r.experiment.steps)))
            by_spans.setdefault((trunk.spans, *_begins(trunk.runs[0].experiment)), []).append(trunk)
        found = [made for alike in by_spans.values() for made in _make_packs(alike, most, set(under_way), kept)]
        packs += _fill(found, most, compiled.get(key, 0))
    return Plan(tuple(sorted(packs, key=lambda pack: _begins(pack.experiment)[0])))


def _begins(experiment) -> tuple[int, tuple[str, ...]]:
    """(how many runs a run stands on, the paths of the parameters that it takes), which are the same in a pack."""
    return len(experiments.bases(experiment)), tuple(experiments.taken(experiment))


def _name_in_workdir(experiment, content, held) -> str:
    """The run's fingerprint, or its former one when only that is among the names `held`."""
    name, former = experiments.fingerprint(experiment, content), fingerprint_of_version_2(experiment, content)
    return former if former in held and name not in held else name


def _make_packs(trunks, most, under_way, kept) -> list[Pack]:
    """The trunks, in order, as packs under way of any size and new packs of at most `most` trunks."""
    packs, new, start, begun = [], [], 0, {trunk: kept(trunk) for trunk in trunks}
    while start < len(trunks):
        resumed = _pack_under_way(trunks[start:], under_way, begun)
        if new and (resumed or len(new) == most or len(_starts([*new, trunks[start]], begun)) > 1):
            packs.append(Pack(tuple(new), start=max(_starts(new, begun), default=0)))
            new = []
        if resumed:
            packs.append(resumed)
            start += len(resumed.trunks)
        else:
            new.append(trunks[start])
            start += 1
    if new:
        packs.append(Pack(tuple(new), start=max(_starts(new, begun), default=0)))
    return packs


def _starts(trunks, begun) -> set[int]:
    """The steps from which some trunks go on; one that is done goes on from any."""
    return {begun[trunk] for trunk in trunks} - {None}


def _fill(packs, most, compiled=0) -> list[Pack]:
    """Packs of one family and kind, where narrow ones train in the program of the widest new one, or in one of the width
    `compiled`, if that is faster.

    Three trunks on two devices are a pack of two and a pack of one. The second would need a program of its own, in which
    both devices train the one run. Instead it may train in the program of two, beside a copy of itself on the device that
    would be idle: that costs FLOPs, but no compilation. All packs of one width are filled, or none, since they share
    their program.
    """
    widest = max((width for width in (compiled, *(len(pack.trunks) for pack in packs)) if width <= most), default=0)
    worth = COMPILATION.get(jax.default_backend(), ACCELERATED) * jax.device_count()
    filled = set()
    for width in {len(pack.trunks) for pack in packs if len(pack.trunks) < widest}:
        more = (widest - width / DIVIDED) / width
        if more * sum(pack.flops_executed() for pack in packs if len(pack.trunks) == width) < worth:
            filled.add(width)
    return [dataclasses.replace(pack, fillers=widest - len(pack.trunks)) if len(pack.trunks) in filled else pack
            for pack in packs]


def _pack_under_way(trunks, under_way, begun) -> Pack | None:
    """The pack under way that begins with the first of `trunks`, if there is one.

    It goes on from its checkpoints, or from where its trunks were kept if it has none of its trunk.
    """
    if under_way:
        for size in range(1, len(trunks) + 1):
            steps = _starts(trunks[:size], begun)
            pack = Pack(tuple(trunks[:size]), start=steps.pop() if len(steps) == 1 else 0)
            if pack.name in under_way:
                return pack
    return None
