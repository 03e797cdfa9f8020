"""What runs fastest here: the microbatch, and how many runs train side by side, measured once for each shape and kept.

The first guess of both is computed (see `scaling.training.accumulation` and `scaling.devices.layouts.runs_at_once`). From
there on neighbours are tried as long as they are faster: the program is compiled with each of them and takes a few steps.
Neither changes results, so what one machine has measured never matters to another. A job of several processes uses no
measurement, since all of its processes must compile the same programs.
"""

import time
from collections.abc import Callable

import jax

from scaling import experiment as experiments
from scaling import families
from scaling.devices import remembered
from scaling.devices.layouts import batch_shards, make_mesh
from scaling.fields import replace
from scaling.sweeps.plan import Pack
from scaling.training import accumulation
from scaling.training.program import Program
from scaling.training.step import TRUNK

WORTH = 900.0  # expected seconds of training from which on a shape is measured if the user does not say
SECONDS = 0.7  # of steps in one measurement
FASTER = 0.97  # a neighbour is taken if it needs at most this share of the time


def climb(choices: list[int], guess: int, cost: Callable[[int], float]) -> tuple[int, dict[int, float]]:
    """(the choice of lowest cost that is reached from `guess` by steps to better neighbours, {tried choice: cost})."""
    tried: dict[int, float] = {}

    def of(place):
        if choices[place] not in tried:
            tried[choices[place]] = cost(choices[place])
        return tried[choices[place]]

    best = choices.index(guess)
    of(best)
    for way in (1, -1):
        while 0 <= best + way < len(choices) and of(best + way) < FASTER * of(best):
            best += way
    return choices[best], tried


class Measuring:
    """Measures programs for a runner, in its mesh and on its data. `say` takes sentences for the user."""

    def __init__(self, runner, say=print):
        self.runner, self.say = runner, say

    def measure(self, packs: list[Pack], rate: float, always: bool, widths: bool) -> bool:
        """Measures what is not known of each program of these packs that is expected to train for long, or of all.

        `rate` is that of matrix products here, in FLOP/s. With `widths` it measures how many runs train side by side too.
        Returns whether any program was asked about.
        """
        asked = False
        by_shape: dict[str, list[Pack]] = {}
        for pack in packs:
            by_shape.setdefault(experiments.program_key(pack.experiment), []).append(pack)
        for alike in by_shape.values():
            if families.is_solved(alike[0].experiment.family):
                continue
            if not always and sum(pack.flops_executed() for pack in alike) / rate < WORTH:
                continue
            asked = True
            experiment, width = alike[0].experiment, max(pack.width for pack in alike)
            if widths:
                width = self.width(experiment, width, sum(len(pack.trunks) for pack in alike))
            self.microbatch(experiment, width)
        return asked

    def microbatch(self, experiment, width: int) -> int:
        """Measures the microbatch of a pack of `width` runs, unless the experiment or an earlier measurement names it."""
        mesh = make_mesh(width, self.runner.options.mesh, experiment.layout)
        known = accumulation.known_microbatch(experiment, mesh, width)
        if known:
            return known
        rows = experiment.data.batch // batch_shards(mesh, experiment.layout)
        choices = [n for n in range(1, rows + 1) if rows % n == 0]
        guess = rows // accumulation.accumulation_steps(experiment, mesh, width)
        found, tried = climb(choices, guess, lambda n: self.seconds(replace(experiment, {"microbatch": n}), width))
        accumulation.keep_microbatch(experiment, mesh, width, found)
        self.say(f"measured the microbatch of {width} run(s) side by side: {_table(tried)}; {found} is used from now on")
        return found

    def width(self, experiment, guess: int, most: int) -> int:
        """Measures how many runs of a shape train side by side, from `guess` on by factors of two up to `most`."""
        if known := known_width(experiment, self.runner.options.mesh):
            return known
        choices = [guess]
        while choices[-1] * 2 <= most:
            choices.append(choices[-1] * 2)
        if len(choices) == 1:  # there are no more runs, which says nothing about other sweeps
            return guess
        found, tried = climb(choices, guess, lambda width: self.seconds(experiment, width) / width)
        remembered.remember(_width_key(experiment, self.runner.options.mesh), found)
        self.say(f"measured how many runs train side by side: {_table(tried)} for each; {found} is used from now on")
        return found

    def seconds(self, experiment, width: int) -> float:
        """Seconds of a step of `width` packed runs; inf where memory does not suffice."""
        try:
            program = Program(experiment, self.runner.source(experiment), width, self.runner.options.mesh,
                              self.runner.options.steps_per_call)
            pack, spans = [experiment] * width, [TRUNK] * width
            state, steps, took, each = program.init(pack), 1, 0.0, 0.0
            state, metrics = program.advance(state, pack, spans, 1)
            jax.block_until_ready((state, metrics))  # with its compilation
            while took < SECONDS:
                start = time.perf_counter()
                state, metrics = program.advance(state, pack, spans, steps)
                jax.block_until_ready((state, metrics))
                took = time.perf_counter() - start
                each, steps = took / steps, min(4 * steps, max(steps + 1, int(1.3 * SECONDS / took * steps)))
            return each
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return float("inf")


def known_width(experiment, mesh: str) -> int:
    """How many runs of this shape were measured to train best side by side, 0 where that was not measured."""
    return accumulation.measured(_width_key(experiment, mesh))


def _width_key(experiment, mesh) -> str:
    return f"width {accumulation.shape_key(experiment)} {mesh} {accumulation.devices_key(jax.devices())}"


def _table(tried: dict[int, float]) -> str:
    return ", ".join(f"{choice} takes {1e3 * seconds:.3g} ms a step" for choice, seconds in sorted(tried.items()))
