"""The planned runs of a study as study.json lists them, so that others know of a run before it has a record."""

from __future__ import annotations

from collections.abc import Iterable

from scaling import families
from scaling.results.tuned import PARAMS
from scaling.sweeps.plan import Plan
from scaling.training.counts import counts, step_flops_executed


def list_runs(plans: Iterable[Plan]) -> dict[str, dict]:
    """{fingerprint: what it is, how long it is, and where its logs and its checkpoints are} of every run of some plans.

    Its logs are logs/<trunk>-trunk.jsonl up to the step `cooldown`, and logs/<trunk>-branch-<steps>.jsonl from there on.
    """
    found = {}
    for pack in (pack for plan in plans for pack in plan.packs):
        executed = step_flops_executed(pack.experiment)
        for trunk in pack.trunks:
            for run, span in zip(trunk.runs, trunk.spans, strict=True):
                e, counted = run.experiment, counts(run.experiment, 0)
                seen = f"{e.data.unit}_seen"
                solved = families.is_solved(e.family)
                found[run.fingerprint] = {
                    "role": run.role, "family": families.name(e.family), PARAMS: counted[PARAMS], seen: counted[seen],
                    "learning_rate": None if solved else e.optim.learning_rate, "seed": e.seed, "steps": span.steps,
                    "cooldown": span.cooldown, "flops_executed_per_step": executed,
                    "trunk": trunk.runs[-1].fingerprint, "pack": pack.name}
    return found
