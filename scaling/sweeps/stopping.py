"""Early stopping: trunks whose learning rate is hopeless are not trained any longer. It is off unless a study asks for it.

The rule is the median rule of Google Vizier (Golovin et al. 2017, section 3.2), applied to finished runs of one length; of
two rates in the middle the better one counts. The losses of trunks before their cooldowns would favour low rates.

A pack cannot lose one of its runs without another compilation, so it stops only when all of its trunks are hopeless. The
packs of one size are trained one after another, so the first of them has too few rivals to stop.

The other rule, successive halving, trains all rates on one amount of data before any on the next one, and so makes other
packs: it is in `scaling.study.halving`. Both write the same records.
"""

import dataclasses
import datetime
import statistics
import warnings

from scaling import experiment as experiments
from scaling import families
from scaling.devices import hosts
from scaling.results import metrics, records
from scaling.training.counts import counts

MEDIAN, HALVING = "median", "halving"
LEAST = 3  # rates with a result, without which the median rule stops nothing
SENTENCES = {
    MEDIAN: "a learning rate is not trained on more data once its result on less data is worse than the median of the "
            f"rates tried there, at least {LEAST}, unless it is a neighbour of the best",
    HALVING: "the learning rates of a size are trained on the least data first, and on each further amount only the better "
             "1/{part} of them, the neighbours of the best, and those that turn out to be neighbours of the best there"}


def parse_rule(rule: str) -> tuple[str, int] | None:
    """(the name of a rule, one over the part of the rates that it keeps): ("halving", 3) for "halving:3".

    None for no rule, and for a text that is none.
    """
    name, colon, part = rule.partition(":")
    if name == MEDIAN and not colon:
        return MEDIAN, 2
    if name == HALVING and (not colon or part in PARTS):
        return HALVING, int(part or 2)
    return None


PARTS = tuple(map(str, range(2, 10)))


def describe_rule(rule: str) -> str:
    """What a rule does."""
    name, part = parse_rule(rule) or ("", 0)
    return SENTENCES[name].format(part=part)


@dataclasses.dataclass(frozen=True)
class StopRule:
    """The rule of a study, and the metric that it reads."""

    name: str
    metric: str


def is_hopeless(rate: float, found: dict[float, float], rates) -> bool:
    """Whether a rate is worse than the median of `found`, {rate: loss}, and no neighbour of the best among all `rates`."""
    if len(found) < LEAST or rate not in found:
        return False
    order, best = sorted(rates), min(found, key=found.__getitem__)
    near = abs(order.index(rate) - order.index(best)) <= 1
    return found[rate] > statistics.median_low(found.values()) and not near


def stops(training, runs, later) -> bool:
    """Whether a pack stops after its `runs` of one length. If so, the groups of longer runs `later` get their records."""
    rule = training.runner.options.stop_early
    if rule is None or rule.name != MEDIAN or not later:
        return False
    training.runner.later.settle()  # the verdict reads the records of these runs
    if not hosts.by_lead(lambda: _all_hopeless(training.runner, rule, runs)):
        return False
    hosts.by_lead(lambda: [_record(training.runner, rule, run, shorter) for group in later
                           for run, shorter in zip(group, runs, strict=True)])
    return True


def _all_hopeless(runner, rule, runs) -> bool:
    return all(is_hopeless(run.experiment.optim.learning_rate, *_rivals(runner, rule, run)) for run in runs)


def _rivals(runner, rule, run) -> tuple[dict[float, float], set[float]]:
    """({rate: loss} of the finished runs of the plan that differ from a run in their learning rate alone, all their rates).

    Runs that diverged have an infinite loss.
    """
    at, found, rates = run.experiment.optim.learning_rate, {}, set()
    sign = -1 if metrics.find_metric(rule.metric).rises else 1
    for other in runner.planned:
        rate = other.experiment.optim.learning_rate
        if other.experiment.replace({"optim.learning_rate": at}) != run.experiment:
            continue
        rates.add(rate)
        if not runner.records.finished(other.fingerprint):
            continue
        record = runner.records.read(other.fingerprint)
        value = record.get(rule.metric)
        if record["diverged"]:
            found[rate] = float("inf")
        elif value is None:
            warnings.warn(f"the record of {other.fingerprint} has no {rule.metric}, by which runs are stopped early; it "
                          "counts as no rival", stacklevel=2)
        else:
            found[rate] = sign * value
    return found, rates


def _record(runner, rule, run, shorter):
    """Records that a run was stopped early, by the result of the `shorter` run of its learning rate."""
    found, _ = _rivals(runner, rule, shorter)
    value, middle = found[shorter.experiment.optim.learning_rate], statistics.median_low(found.values())
    because = (f"{rule.metric} {abs(value):.4g} after {shorter.experiment.steps} steps was worse than "
               f"{abs(middle):.4g}, the median of {len(found)} learning rates")
    record(runner, run, shorter.experiment.steps, because, rule.name)


def record(runner, run, step: int, because: str, rule: str) -> None:
    """Records that a run was stopped early by a rule, after the run of its learning rate that ended at `step`."""
    if runner.records.done(run.fingerprint):
        return
    source, knobs = runner.source(run.experiment), experiments.knobs(run.experiment)
    runner.records.stop({
        "fingerprint": run.fingerprint, "role": run.role, "family": families.name(run.experiment.family),
        **counts(run.experiment, run.experiment.data.available(source)),
        **{path.rpartition(".")[2]: v for path, v in knobs.items() if path != run.experiment.data.length_knob},
        "diverged": False, "diverged_step": None, "diverged_because": None,
        "stopped_step": step, "stopped_because": because, "stopped_by": rule,
        "data_fingerprint": source.fingerprint, "experiment": experiments.to_dict(run.experiment),
        "versions": records.versions(), "git_commit": records.git_commit(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})
