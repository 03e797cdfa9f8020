"""A plan of runs as a config file that experiments.run takes."""

import dataclasses

from scaling import cost as costs
from scaling import experiment as experiments
from scaling import families, fields

CONFIG = '''"""{title}

    python -m experiments.run --config={output} --workdir={workdir}

Written by experiments.plan. BOUGHT are the runs that the workdir holds: they are fitted with the rest, and
not trained again.

{text}
"""

import dataclasses

from scaling import experiment
from scaling.experiment import chain, grid

# fields of the family, and values of other fields, every combination of which is a run
BOUGHT = {bought}
SUGGESTED = {suggested}
{target}

def get_config():
    config = experiment.config({family!r})
    config.update_from_flattened_dict({settings})
    return config


def sweep(config):
    base = experiment.from_config(config)
    return chain(*(grid(base, {{"family": [dataclasses.replace(base.family, **sizes)], **values}})
                   for sizes, values in BOUGHT + SUGGESTED))
'''

TARGET = '''

def target(config, learning_rate):
    base = experiment.from_config(config)
    sizes, values = TARGET
    return base.replace({"family": dataclasses.replace(base.family, **sizes), **values,
                         "optim.learning_rate": learning_rate})
'''


def source(study, plan, output) -> str:
    """The text of the config file: of `_plan.Study`, `_plan.Plan`, and the path it is written to."""
    family = families.name(study.base.family)
    plain = dict(_leaves(experiments.config(family)))
    settings = {name: value for name, value in _leaves(study.config)
                if name in plain and plain[name] != value}
    target = ""
    if plan.target is not None:
        sizes, values = _changes(study.base, plan.target)
        target = f"TARGET = {(sizes, {k: v for k, v in values.items() if k != 'optim.learning_rate'})}\n"
    quiet = plan.text.replace("\\", "/").replace('"""', "'''")
    text = CONFIG.format(
        title=f"{study.config.title}: the runs that say most, for what they cost", output=output,
        workdir=study.workdir, text=quiet, bought=_entries(study, study.bought.values()),
        suggested=_entries(study, plan.new), target=target, family=family, settings=_dict(settings))
    return text + (TARGET if target else "")


def _changes(base, e) -> tuple[dict, dict]:
    """What makes `e` of `base`: fields of the family, and other fields, of what is computed and not of
    how."""
    before = fields.leaves(base)
    values = {path: value for path, (value, kind) in fields.leaves(e).items()
              if kind != "how" and before[path][0] != value}
    sizes = {path.removeprefix("family."): value for path, value in values.items()
             if path.startswith("family.")}
    return sizes, {path: value for path, value in values.items() if not path.startswith("family.")}


def _grids(base, runs) -> tuple:
    """(fields of the family, {path: values}) whose combinations are the runs: first lengths are joined, then
    rates."""
    joined = ("optim.learning_rate", base.data.length_knob)
    entries = []
    for e in dict.fromkeys(runs):
        sizes, values = _changes(base, e)
        always = {path: fields.leaves(e)[path][0] for path in joined}
        entries.append((sizes, {path: [value] for path, value in (values | always).items()}))
    for path in reversed(joined):
        groups: dict = {}
        for sizes, values in entries:
            rest = repr((sizes, {k: v for k, v in values.items() if k != path}))
            groups.setdefault(rest, (sizes, {**values, path: []}))[1][path].extend(values[path])
        entries = [(sizes, {**values, path: sorted(values[path])}) for sizes, values in groups.values()]
    return tuple(entries)


def _leaves(config, prefix=""):
    """Dotted paths and values of a config, lists as tuples."""
    for name in config:
        value = config[name]
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuples(value)


def tuples(value):
    """JSON has no tuples, and configs have no lists."""
    if isinstance(value, dict):
        return {name: tuples(v) for name, v in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _entries(study, runs) -> str:
    """Grids as Python, each under its number of parameters."""
    lines = []
    for sizes, values in _grids(study.base, runs):
        family = dataclasses.replace(study.base.family, **sizes)
        lines += [f"    # N = {costs.param_count(family)['non_embedding']:,}", f"    ({sizes},",
                  f"     {values}),"]
    return "\n".join(["(", *lines, ")"])


def _dict(values: dict) -> str:
    return "\n".join(["{", *(f"        {name!r}: {value!r}," for name, value in values.items()), "    }"])
