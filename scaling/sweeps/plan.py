"""The plan that trains a sweep with the least compiling and the least compute: runs, trunks and packs."""

import dataclasses
import hashlib

from scaling import experiment as experiments
from scaling.experiment.legacy import fingerprint_of_version_2
from scaling.training.counts import step_flops, step_flops_executed
from scaling.training.step import run_span


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
        return tuple(run_span(run.experiment) for run in self.runs)


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
        """FLOPs of the models in training the pack: the trunk once, and every branch."""
        return self.steps * len(self.trunks) * step_flops(self.experiment)

    def flops_executed(self) -> float:
        """FLOPs that training the pack executes, with recomputation and the optimiser's matrix products."""
        return self.steps * len(self.trunks) * step_flops_executed(self.experiment)


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

    def flops_executed(self) -> float:
        return sum(pack.flops_executed() for pack in self.packs)


def make_plan(sweep, content, pack: int, role: str = "sweep", under_way=(), held=()) -> Plan:
    """Groups a sweep: runs that differ only in length share a trunk, trunks that differ only in knobs a pack of at
    most `pack`, packs of equal shape a program. `content(experiment)` is the fingerprint of the data it sees. Packs whose
    names are `under_way` stay together, so that they go on where they were on more or fewer devices than they began on.
    Runs that results version 2 began keep the name that it gave them, if that is among the names `held` by the workdir.
    """
    groups: dict = {}
    named: dict = {}
    for e in dict.fromkeys(sweep):
        knobs = experiments.knobs(e)
        shared = tuple((k, v) for k, v in knobs.items() if k != e.data.length_knob)
        alone = () if run_span(e).cooldown > 0 else (e.steps,)  # nothing shared: every length is its own trunk
        name, former = experiments.fingerprint(e, content(e)), fingerprint_of_version_2(e, content(e))
        run = Run(e, former if former in held and name not in held else name, role)
        if named.setdefault(run.fingerprint, e) is not e:  # computed another way, it is the same run
            continue
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


