"""The metrics of a pack of runs: on evaluation sets and, where their data have a judge, of samples."""

from collections.abc import Mapping

import numpy as np

from scaling.devices import hosts
from scaling.families._sums import Each
from scaling.training import evaluation
from scaling.training.evaluator import Pending
from scaling.training.program import Program


def start_scoring(program: Program, state, sets: Mapping[str, dict], judge) -> Pending:
    """Starts the evaluation of a pack in `state` on evaluation `sets`, {split: examples}; `judge` may be None.

    The result is ({metric: [runs]}, {metric: `Each` of arrays [runs, examples]}). Metrics of the first set keep their
    names; others end in `_<split>`. The second part is about the first set and about samples, on the leading process alone.
    """
    evaluator = program.evaluator
    pending = [evaluator.evaluating(state, examples) for examples in sets.values()]
    if judge is not None:  # alike in every process
        pending.append(evaluator.sampling(state, next(iter(sets.values())), program.experiment.data.samples))

    def join(parts):
        found, each = {}, pending[0]()
        for index, (split, examples) in enumerate(sets.items()):
            suffix = f"_{split}" if index else ""
            values = evaluation.metrics_of(program.experiment.family, pending[index]() if index else each,
                                           examples.get(evaluation.CLUSTER))
            for name, value in values.items():
                metric = name.removesuffix("_se")
                found[metric + suffix + name.removeprefix(metric)] = value
        each = evaluation.ratios(each)
        if judge is None:
            return found, each
        samples, scored = pending[-1](), []

        def judge_all():
            scored.extend(judge.score(one) for one in samples)
            return [{name: float(value) for name, value in metrics.items()} for metrics, _ in scored]

        judged = hosts.by_lead(judge_all)
        for name in scored[0][1] if scored else ():
            values = np.stack([arrays[name] for _, arrays in scored])
            each = {**each, name: Each(values, np.ones_like(values))}
        return found | {name: np.array([one[name] for one in judged]) for name in judged[0]}, each

    return Pending([pending[-1].last], join)
