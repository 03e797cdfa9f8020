"""The check of a whole study before anything is trained: its metric, its law, its runs and its target."""

import functools
from collections.abc import Collection

import jax
import numpy as np

from scaling import cost, laws
from scaling import experiment as experiments
from scaling.devices.remembered import remembered
from scaling.fields import ConfigError, nearest
from scaling.figures import words
from scaling.study.definition import Definition
from scaling.training.evaluation import metrics_of

INPUTS = ("N", "D", "C", "U")  # what a study gives a law: parameters, data, compute and unique data


def check_study(definition: Definition, splits: Collection[str] | None = None) -> list[str]:
    """Raises a ConfigError for what would fail after training; returns sentences about what will be missing.

    `splits` are the names of the evaluation sets, if the data have been loaded: metrics on all but the first end in
    `_<split>`. Without them every such end is accepted.
    """
    runs = definition.sweep
    if not runs:
        raise ConfigError("the sweep has no runs; give every list of the config, such as its sizes, a value")
    target = None if definition.target is None else definition.target(runs[0].optim.learning_rate)
    for run in [*runs, *([] if target is None else [target])]:
        experiments.validate(run)
        for each in (run, *experiments.bases(run)):
            _check_family_fields(each)
    if len({run.data.unit for run in runs}) > 1:
        raise ConfigError("the sweep mixes data in tokens with data in examples; write one study for each")
    _check_metrics(definition, splits)
    return _check_law(definition, target)


def _check_family_fields(run):
    """The fields of a family that its data determine must be those of its data: a vocabulary, a size of images."""
    for name, value in experiments.determined(run.family, run.data).items():
        found = getattr(run.family, name, value)
        if found != value:
            raise ConfigError(f"family.{name}={found} is not the {value} of the data; leave it out, so that family_at and "
                              "replace take it from the data")


def _check_metrics(definition, splits):
    known = sorted(set.intersection(*(_metrics(run) for run in definition.sweep)))
    for field, name in (("metric", definition.metric), *(("beside", name) for name in definition.beside)):
        if not isinstance(name, str):
            raise ConfigError(f"{field}={name!r} is no name of a metric; write one of {', '.join(known)}")
        ends = None if splits is None else {f"_{split}" for split in list(splits)[1:]}
        plain = name in known
        on_split = any(name.startswith(f"{base}_") and (ends is None or name.removeprefix(base) in ends) for base in known)
        if not plain and not on_split:
            shown = nearest(name, known)
            judged = "" if not hasattr(definition.sweep[0].data, "samples") or definition.sweep[0].data.samples else (
                "; metrics of samples need data.samples")
            judged += "; excess needs data whose entropy is known, such as data.name=zipf" if name == "excess" else ""
            raise ConfigError(f"{field}={name!r} is no metric of these runs; {shown}{judged}")


def _metrics(run) -> set[str]:
    """The metrics that a run has in its record."""
    found = set(_evaluated(run.family, run.data.teacher is not None, bool(getattr(run.data, "sound", None))))
    return found | (set(run.data.judged()) if hasattr(run.family, "sample") else set())


@functools.lru_cache(maxsize=256)
@remembered()
def _evaluated(family, known: bool, sound: bool) -> list[str]:
    """The metrics that a family's evaluation gives, on data whose entropy is known or not, and on sound or on text."""
    key = jax.random.key(0)
    batch = dict(jax.eval_shape(lambda: family.example_batch(2, key)))
    batch["example"] = jax.ShapeDtypeStruct((2,), "int32")
    if known:
        batch["nats"] = jax.ShapeDtypeStruct((2,), "float32")
    if sound:
        batch["samples"] = batch.pop("bytes")
    found = jax.eval_shape(family.evaluate, jax.eval_shape(family.init, key), batch, key)
    with np.errstate(all="ignore"):  # of metrics whose numbers are all one
        return sorted(metrics_of(family, jax.tree.map(lambda x: np.ones(x.shape, x.dtype), found)))


def _check_law(definition, target) -> list[str]:
    if not definition.fits:
        return []
    try:
        form = laws.get_form("chinchilla" if definition.law in laws.RULES else definition.law)
    except (laws.LawError, TypeError) as error:
        raise ConfigError(f"law={definition.law!r} is no law: {error}. Or write one of the rules "
                          f"{', '.join(laws.RULES)}, which go by what held-out runs say") from None
    try:
        form = form.with_fixed(definition.fix)
    except laws.LawError as error:
        raise ConfigError(f"fix={definition.config.get('fix')!r} cannot be held: {error}") from None
    if unknown := [name for name in form.inputs if name not in INPUTS]:
        fitting = [name for name, known in laws.FORMS.items() if set(known.inputs) <= set(INPUTS)]
        raise ConfigError(f"law={form.name!r} takes {', '.join(unknown)}, which a study does not measure; write one of "
                          f"{', '.join(fitting)}")
    sizes = [(cost.param_count(run.family)["non_embedding"], run.data.steps * run.data.per_step, run.data.unique)
             for run in definition.sweep]
    cells, levels = {(n, d) for n, d, _ in sizes}, {"N": {n for n, _, _ in sizes}, "D": {d for _, d, _ in sizes}}
    said = []
    if len(cells) < len(form.free):
        said.append(f"the sweep has {words.plural(len(cells), 'combination')} of a size and an amount of data, and "
                    f"law={form.name!r} has {len(form.free)} parameters to fit: {', '.join(form.free)}")
    for name, what in (("N", "size"), ("D", "amount of data")):
        if name in form.inputs and name not in form.constant and len(levels[name]) == 1:
            said.append(f"the sweep has one {what}, and law={form.name!r} needs several levels of {name}")
    if said and target is not None:
        raise ConfigError(f"{said[0]}; add sizes or amounts of data to the sweep, or write another law")
    return [f"{sentence}, so no law will be fitted" for sentence in said]
