"""The one check of an experiment: the types and ranges of its fields, and what several fields must satisfy together.

`validate` is called for experiments of configs, flags, `replace`, `grid` and `zipped`, so that nothing which training would
refuse, or would quietly compute otherwise than it is written, reaches a plan.
"""

import dataclasses
from functools import partial

import jax

from scaling import axes, families
from scaling.experiment import optimisers
from scaling.experiment.kinds._discovery import find_kind
from scaling.experiment.parametrization import abstract_params
from scaling.fields import ConfigError, check_fields, shown

MOST_STEPS = 2**30  # steps are counted in 32 bits


def validate(experiment):
    """Returns the experiment, or raises a ConfigError that names the field, its value, and what to write instead."""
    _check_kinds(experiment)
    check_fields(experiment)
    check_fields(experiment.family, "family.")
    check_fields(experiment.data, "data.")
    check_fields(experiment.optim, "optim.")
    experiment.data.check()
    _check_length(experiment)
    _check_microbatch(experiment)
    if families.is_solved(experiment.family):
        _check_no_optimiser(experiment)
    else:
        _check_warmup(experiment)
        optimisers.check_optimiser(experiment.optim)
        if experiment.optim.trainable != "all":
            for own in abstract_params(experiment.family).values():
                jax.eval_shape(partial(axes.trainable_part, rule=experiment.optim.trainable), own)
    if experiment.start is not None:
        validate(experiment.start.experiment)
    return experiment


def _check_kinds(experiment):
    family, data, optim = experiment.family, experiment.data, experiment.optim
    if not isinstance(family, families.all()):
        raise ConfigError(f"family={shown(family)} is no family; write a member of one, such as "
                          "experiment.family_at(config, 1e5)")
    wanted = [find_kind(name) for name in families.reads(family)]
    if type(data) not in wanted:
        names = " or ".join(kind.__name__ for kind in wanted)
        raise ConfigError(f"data={shown(data)} is no {names}, which a {families.name(family)} reads; write "
                          f"experiment.{wanted[0].__name__}(...)")
    if not hasattr(optim, "learning_rate"):
        raise ConfigError(f"optim={shown(optim)} is no Optim; write experiment.Optim(...)")
    start = experiment.start
    if start is not None and not hasattr(getattr(start, "experiment", None), "start"):
        raise ConfigError(f"start={shown(start)} is no Start; write experiment.Start(experiment, {{here: there}}), "
                          "or None for fresh parameters")


def _check_length(experiment):
    data, path = experiment.data, experiment.data.length_knob
    if data.steps >= MOST_STEPS:
        raise ConfigError(f"{path}={data.seen} is {data.steps} steps of {data.per_step} {data.unit}, and a run may have "
                          f"fewer than {MOST_STEPS}; lower {path} or raise data.batch")


def _check_warmup(experiment):
    data, optim, path = experiment.data, experiment.optim, experiment.data.length_knob
    if optim.warmup > data.steps:
        raise ConfigError(f"optim.warmup={optim.warmup} is more than the {data.steps} steps of {path}={data.seen}, so the "
                          f"learning rate would never reach its peak; write {data.steps} or less, or raise {path}")


def _check_no_optimiser(experiment):
    """Refuses values that would name runs apart which are the same."""
    if experiment.start is not None:
        raise ConfigError(f"start= has no effect, since the family {families.name(experiment.family)} is solved from its "
                          "data; leave it out")
    for f in dataclasses.fields(experiment.optim):
        value = getattr(experiment.optim, f.name)
        if value != f.default and not f.metadata.get("how"):
            raise ConfigError(f"optim.{f.name}={shown(value)} has no effect, since the family "
                              f"{families.name(experiment.family)} is solved from its data and has no optimiser; write "
                              f"{shown(f.default)}, its default, and leave optim.{f.name} out of sweeps")


def _check_microbatch(experiment):
    batch, chosen = experiment.data.batch, experiment.microbatch
    if chosen and batch % chosen:
        fits = [n for n in range(1, min(batch, 4096) + 1) if batch % n == 0]
        shown = fits if len(fits) <= 16 else [*fits[:15], "..."]
        raise ConfigError(f"microbatch={chosen} does not divide data.batch={batch}; write one of "
                          f"{', '.join(map(str, shown))}, or 0 for an automatic choice")
