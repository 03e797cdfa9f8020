"""Kept trunks: the last state of a trunk stays in the workdir, so that longer runs of a later command go on from it.

    workdir/trunks/<trunk>/<step>/         the state of one run at the last step of its trunk
    workdir/trunks/<trunk>-<step>.jsonl    its training curve until then

A trunk is named by all that determines it: everything in a run but its length. Each is kept by itself, so a later command
may pack it with others. Where a state or a curve is missing or damaged, the trunk is trained again from its start.
"""

import os
import warnings
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from scaling import cost, fields
from scaling import experiment as experiments
from scaling.devices import hosts
from scaling.figures import words
from scaling.results import logs
from scaling.store import checkpoint
from scaling.sweeps.clock import Spent
from scaling.training.counts import step_flops

KEEPING = ("auto", "all", "none")  # which trunks are kept
STATE = 3  # a state is at most so many times as large as its parameters: two moments of each; one more for averages


def trunk_name(trunk, content: str) -> str:
    """The name of a trunk whose data has the fingerprint `content`; the same for runs of all lengths."""
    e = trunk.runs[-1].experiment
    return experiments.fingerprint(fields.replace(e, {e.data.length_knob: 1}), content)


def is_kept(trunk, keeping: str) -> bool:
    """Whether the state of a trunk is kept. "auto" keeps those that take no more disk than the parameters of their runs,
    all of which stay: the trunks of three runs or more, or four where weights are averaged."""
    if keeping == "none" or not trunk.spans[-1].cooldown:
        return False
    return keeping == "all" or len(trunk.runs) >= _times(trunk)


def _times(trunk) -> int:
    return STATE + bool(trunk.runs[-1].experiment.optim.ema)


def kept_steps(runner, places):
    """A function from a trunk to the step at which one of the workdirs of the runners `places` keeps it, or 0 for none.

    A trunk that has gone past the first branch that is not done has no use. None for a trunk whose branches are all done.
    """
    held = {} if runner.options.keep_trunks == "none" else hosts.by_lead(lambda: _held(places))

    def missing(trunk):
        return [span.cooldown for span, run in zip(trunk.spans, trunk.runs)
                if not any(place.records.done(run.fingerprint) for place in places)]

    def step(trunk):
        steps = held.get(trunk_name(trunk, runner.content(trunk.runs[-1].experiment)), ()) if held else ()
        if not steps:
            return 0
        left = hosts.by_lead(lambda: missing(trunk))
        return max((at for at in steps if at <= min(left)), default=0) if left else None

    return step


def _held(places) -> dict[str, list[int]]:
    """{name of a trunk: steps at which it is kept}."""
    found: dict[str, list[int]] = {}
    folders = [place.workdir / "trunks" for place in places]
    for path in (path for folder in folders if folder.exists() for path in folder.glob("*-*.jsonl")):
        name, _, step = path.stem.rpartition("-")
        found.setdefault(name, []).append(int(step))
    return found


def describe_trunks(plan, runner) -> list[str]:
    """What kept trunks save in a plan, and what those that it will keep take on disk."""
    said, gone_on = [], [pack for pack in plan.packs if pack.start]
    if gone_on:
        saved = sum(pack.start * len(pack.trunks) * step_flops(pack.experiment) for pack in gone_on)
        said.append(f"{sum(len(pack.trunks) for pack in gone_on)} trunks go on from where an earlier command kept them, "
                    f"which saves {saved:.3g} FLOPs of the models")
    kept = [trunk for pack in plan.packs for trunk in pack.trunks if is_kept(trunk, runner.options.keep_trunks)]
    if kept:
        size = sum(4 * _times(t) * cost.param_count(t.runs[-1].experiment.family)["total"] for t in kept)
        said.append(f"the states of {len(kept)} trunks are kept for longer runs of later commands: at most "
                    f"{words.count(size)}B in {os.fspath(runner.workdir / 'trunks')} (--keep_trunks=none keeps none)")
    return said


# ------------------------------------------------------------------------------------------ training


def keep_trunks(training, state, segment) -> None:
    """Leaves to `runner.later` that the trunks of a pack are saved in `state`, at the end of their last segment."""
    pack, runner = training.pack, training.runner
    if is_kept(pack.trunks[0], runner.options.keep_trunks) and segment.at == pack.trunks[0].spans[-1].cooldown:
        runner.later.chore(partial(_save, training, training.program.copy(state), segment))


def _save(training, state, segment):
    pack, step = training.pack, segment.at
    joined = hosts.by_lead(lambda: [training.curves.join(index, {"trunk": step}) for index in range(len(pack.trunks))])
    if hosts.process_count() == 1:
        state = jax.tree.map(np.asarray, state)
    for index, (trunk, (points, lost)) in enumerate(zip(pack.trunks, joined, strict=True)):
        if lost:
            continue
        folder, curve = _places(training.runner, trunk, step)
        hosts.by_lead(partial(_write_curve, folder, curve, points))
        saved = checkpoint.Checkpoints(folder, keep=1)
        meta = {**segment.spent.share(len(pack.trunks)).as_values(), "curve": logs.curve_seal(points),
                "experiment": experiments.to_dict(trunk.runs[-1].experiment)}
        saved.save(step, jax.tree.map(lambda x, index=index: x[index], state), meta)
        saved.close()


def _write_curve(folder, curve, points):
    logs.write_curve(curve, points)
    for other in list(folder.parent.glob(f"{folder.name}-*.jsonl")):
        if other != curve and not (folder / other.stem.rpartition("-")[2]).exists():
            other.unlink()


def begin(training):
    """(state, meta) of a pack whose trunks go on where an earlier command kept them, or None."""
    pack, runner = training.pack, training.runner
    if not pack.start:
        return None
    places = [_places(runner, trunk, pack.start) for trunk in pack.trunks]
    one, states, metas = jax.tree.map(_of_one_run, training.program.abstract), [], []
    for folder, curve in places:
        try:
            saved = checkpoint.Checkpoints(folder, keep=1)
            state, meta = saved.restore(pack.start, one)
            saved.close()
        except (checkpoint.NoCheckpoint, checkpoint.CheckpointError) as error:
            return _from_the_start(folder, str(error))
        points, problem = hosts.by_lead(lambda curve=curve, meta=meta: logs.examine_curve(curve, meta["curve"]))
        if problem or meta["step"] != pack.start:
            return _from_the_start(folder, problem or f"it holds step {meta['step']} in place of {pack.start}")
        states.append(state)
        metas.append({**meta, "points": points})
    stack = jax.jit(lambda *runs: jax.tree.map(lambda *x: jnp.stack(x), *runs), out_shardings=training.program.shardings)
    hosts.by_lead(lambda: training.curves.put("trunk", [meta["points"] for meta in metas]))
    spent = reduce(Spent.plus, map(Spent.from_values, metas))
    meta = {"step": pack.start, **spent.as_values(), "logs": [meta["curve"] for meta in metas]}
    return stack(*states, *states[-1:] * pack.fillers), meta


def _from_the_start(folder, problem):
    warnings.warn(f"the trunk kept in {os.fspath(folder)} cannot be used, so it is trained from its start: {problem}",
                  stacklevel=2)


def _places(runner, trunk, step):
    """(the checkpoints of a kept trunk, its curve)."""
    folder = runner.workdir / "trunks" / trunk_name(trunk, runner.content(trunk.runs[-1].experiment))
    return folder, folder.parent / f"{folder.name}-{step}.jsonl"


def _of_one_run(x):
    """The abstract array of one run, from that of a pack."""
    spec = PartitionSpec(*x.sharding.spec[1:])
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=NamedSharding(x.sharding.mesh, spec))


# --------------------------------------------------------------------------------------------- forks


def copied(plan, old, new) -> list:
    """(file or folder in the workdir of the runner `old`, its place in that of `new`) of the trunks that a plan goes on
    from, each trunk after its curve."""
    pairs = [(place, new.workdir / "trunks" / place.name) for pack in plan.packs if pack.start for trunk in pack.trunks
             for place in reversed(_places(old, trunk, pack.start))]
    return pairs
