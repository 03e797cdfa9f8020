"""Names of runs under every results version, and the records of old versions, so that old workdirs are read and resumed.

Versions 4 and 5 changed some results without changing the others. `results_version` says which: a run keeps the name of the
last version that changed its result, and workdirs with such runs go on. Version 4 repaired evaluation, decay of biases and
optimisers by name. In version 5 learning rates follow the roles of parameters, weight decay does not fall with the width,
schedules follow the step of the run, what leaves a GAN's networks starts smaller, and other seeds than 0 read the data in
orders of their own.

Version 2 named a run by `family.remat`, `family.scan` and `family.attention` as well, and its records hold the FLOPs that
training executed where later ones hold those of the model.
"""

import functools
from collections.abc import Callable

import jax

from scaling import axes, cost, families
from scaling.experiment import optimisers
from scaling.experiment.experiment import Experiment, Optim, from_dict
from scaling.experiment.names import named_by
from scaling.experiment.parametrization import all_kinds
from scaling.fields import leaves

ALSO_NAMED_BY = ("family.attention", "family.remat", "family.scan")
RESULTS_VERSION = 5  # raise it when a change of code changes what a given experiment computes


def fingerprint(experiment: Experiment, content: str) -> str:
    """The name of a run: a hash of all fields but `how` fields, and of the `content` that it is made from."""
    return named_by(experiment, content, results_version(experiment))


def made_from(experiment: Experiment, of_data: Callable[[Experiment], str]) -> str:
    """What a run is made from: the fingerprint `of_data(experiment)` and, where it begins with another run, its name."""
    if experiment.start is None:
        return of_data(experiment)
    base = experiment.start.experiment
    return f"{of_data(experiment)} {fingerprint(base, made_from(base, of_data))}"


def results_version(experiment: Experiment) -> int:
    """The last version that changed the result of an experiment: 5, 4 or 3."""
    return next((version for version, tests in CHANGED.items() if any(test(experiment) for test in tests)), 3)


def decayed_biases(experiment) -> bool:
    """Version 3 decayed biases of two and more axes, such as those of queries, keys and values."""
    return experiment.optim.weight_decay > 0 and _has_biases_like_matrices(experiment.family)


@functools.lru_cache(maxsize=1024)
def _has_biases_like_matrices(family) -> bool:
    params = jax.eval_shape(family.init, jax.random.key(0))
    shaped = [axes.is_matrix(names) for names in jax.tree.leaves(axes.names(params))]
    return sum(shaped) > sum(jax.tree.leaves(axes.matrices(params)))


def set_up_by_defaults(experiment) -> bool:
    """Version 3 gave optimisers by name their own defaults in place of the fields of the experiment."""
    return optimisers.differs_from_defaults(experiment.optim)


def left_out_evaluation(experiment) -> bool:
    """Version 3 evaluated whole training batches only, so it left out the end of an evaluation set that they do not fill.

    The size of a set of 0, which is all of a split, is not known here; its runs get new names.
    """
    data = experiment.data
    units = data.evaluated // (data.per_step // data.batch)
    return not units or units % data.batch > 0


def own_order(experiment) -> bool:
    """Version 4 read the first epoch in the same order for every seed; seed 0 still does."""
    return experiment.seed != 0


def counted_moves(experiment) -> bool:
    """Version 4 read the schedule at the number of times that a player had moved: twice as fast with two updates of the
    discriminator in a step, and later where steps were skipped."""
    names = [player.name for player in experiment.family.players()]
    return experiment.optim.skip > 0 or len(set(names)) < len(names)


def had_other_outputs(experiment) -> bool:
    """Version 4 started the pixels and logits of a GAN with std 1/sqrt(fan_in)."""
    return families.name(experiment.family) == "gan"


def had_other_rates(experiment) -> bool:
    """Version 4 had another rate or epsilon for some parameter, or multiplied its decay by the factor of its rate."""
    o = experiment.optim
    return _rates_differ(experiment.family, o.name, o.parametrization, o.base_width, o.weight_decay > 0, o.table_rate != 1)


@functools.lru_cache(maxsize=1024)
def _rates_differ(family, optimiser, parametrization, base_width, decays, tables_differ) -> bool:
    optim = Optim(name=optimiser, parametrization=parametrization, base_width=base_width)
    for names, shape, _, kind in all_kinds(Experiment(family=family, optim=optim)):
        before = _rate_of_version_4(names, shape, base_width) if parametrization == "mup" else 1.0
        if kind.rate != before or optimiser in optimisers.OWN and kind.epsilon != 1:
            return True
        if decays and kind.decays and (kind.rate != 1 or kind.table and tables_differ):
            return True
    return False


def _rate_of_version_4(names, shape, base_width) -> float:
    """The factor on the learning rate of a parameter, which "vocab" alone made an output."""
    named = list(zip(names, shape, strict=True))
    wide = [size for name, size in named if name in axes.WIDTH_AXES]
    inner = [size for name, size in named if name == "embed"]
    return base_width / (inner or wide)[0] if len(wide) >= 2 or names[-1] == "vocab" and wide else 1.0


CHANGED = {  # {version: tests of what it changed}, the newest first
    5: (own_order, counted_moves, had_other_outputs, had_other_rates),
    4: (decayed_biases, set_up_by_defaults, left_out_evaluation)}


def fingerprint_of_version_2(experiment: Experiment, data_fingerprint: str) -> str:
    """The name that results version 2 gave to a run."""
    values = leaves(experiment)
    also = {path: values[path][0] for path in ALSO_NAMED_BY if path in values}
    if "family.remat" in also:  # which was a bool
        also["family.remat"] = also["family.remat"] != "none"
    return named_by(experiment, data_fingerprint, 2, also)


def with_model_flops(record: dict) -> dict:
    """A record of results version 2 with `flops` of the model, and those that were executed as `flops_executed`.

    A record without a whole experiment, such as one written by hand, stays as it is.
    """
    try:
        experiment = from_dict(record["experiment"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return record
    players = cost.player_flops(experiment.family, experiment.data.batch)
    counted = {f"flops_{name}": flops * experiment.steps for name, flops in players.items() if f"flops_{name}" in record}
    return {**record, "flops": sum(players.values()) * experiment.steps, "flops_executed": record["flops"], **counted}
