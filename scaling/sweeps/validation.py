"""Evaluation of runs on their way, for their curves: a few times a run, at steps that depend on the run alone."""

import time
from collections.abc import Callable

import numpy as np

from scaling import cost
from scaling.results.logs import VALIDATION
from scaling.sweeps.clock import EVALUATION
from scaling.training.counts import step_flops
from scaling.training.evaluation import metrics_of, steps_on_the_way
from scaling.training.step import TRUNK


class Validation:
    """Evaluates a pack on the first examples of its first evaluation set, the same for every run on the same data.

    Steps are rounded up to multiples of `every`, at which points of curves end.
    """

    def __init__(self, runner, pack, program, every: int):
        self.program, self.clock, self.examples = program, runner.clock, runner.validation(pack.experiment)
        count = len(next(iter(self.examples.values())))
        due = steps_on_the_way(pack.experiment.steps, count * cost.forward_flops(pack.experiment.family, 1),
                               step_flops(pack.experiment))
        self.steps = sorted({-(-step // every) * every for step in due})
        self.ends = {span.steps for span in pack.trunks[0].spans if span.cooldown >= span.steps}  # of runs without a branch

    def steps_after(self, step: int) -> list[int]:
        """The steps at which an evaluation on the way is due, after this one."""
        return [due for due in self.steps if due > step]

    def evaluating(self, state, step: int, span) -> Callable[[], dict[str, np.ndarray]]:
        """Starts the evaluation of a segment at `step`, if one is due; one is also due at the end of a run.

        Returns the function that waits for {"validation/<metric>": [runs]}, which is {} where none is due.
        """
        last = step in self.ends if span is TRUNK else step == span.steps
        if not last and step not in self.steps:
            return dict
        asked = time.monotonic()
        evaluating = self.program.evaluator.evaluating(state, self.examples)
        self.clock.given(EVALUATION, asked, evaluating.last)
        family = self.program.experiment.family
        return lambda: {VALIDATION + name: values for name, values in metrics_of(family, evaluating()).items()
                        if not name.endswith("_se")}
