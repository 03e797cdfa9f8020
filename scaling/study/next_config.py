"""Proposed runs as the text of a config file for experiments.run."""

import dataclasses
import os
from collections.abc import Iterable, Iterator

from scaling import cost as costs
from scaling import experiment as experiments
from scaling import families, fields
from scaling.experiment import Experiment
from scaling.study.next_runs import Proposal
from scaling.study.workspace import Workspace, as_tuples

CONFIG = '''"""{title}

    python -m experiments.run --config={output} --workdir={workdir}

Written by experiments.plan. BOUGHT are the runs that the workdir holds: the fit uses them, and they are not
trained again.

{text}
"""

import dataclasses

from scaling import experiment
from scaling.experiment import chain, grid

# (fields of the family, values of other fields): every combination of the values is a run
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


def config_source(space: Workspace, proposal: Proposal, output: str | os.PathLike) -> str:
    """The Python source of a config with the runs of the workspace and those of the proposal.

    output: the path that the source will be written to, for its docstring.
    """
    family = families.name(space.base.family)
    plain = dict(_leaves(experiments.config(family)))
    settings = {name: value for name, value in _leaves(space.config)
                if name in plain and plain[name] != value}
    target = ""
    if proposal.target is not None:
        sizes, values = _changes(space.base, proposal.target)
        target = f"TARGET = {(sizes, {k: v for k, v in values.items() if k != 'optim.learning_rate'})}\n"
    quiet = proposal.text.replace("\\", "/").replace('"""', "'''")
    text = CONFIG.format(
        title=f"{space.config.title}: the runs that tell most for their cost", output=output,
        workdir=space.workdir, text=quiet, bought=_entries(space, space.bought.values()),
        suggested=_entries(space, proposal.new), target=target, family=family, settings=_dict(settings))
    return text + (TARGET if target else "")


def _changes(base: Experiment, e: Experiment) -> tuple[dict, dict]:
    """({field of the family: value}, {other path: value}) that turn `base` into `e`. Fields that only change how a
    result is computed are left out."""
    before = fields.leaves(base)
    values = {path: value for path, (value, kind) in fields.leaves(e).items()
              if kind != "how" and before[path][0] != value}
    sizes = {path.removeprefix("family."): value for path, value in values.items()
             if path.startswith("family.")}
    return sizes, {path: value for path, value in values.items() if not path.startswith("family.")}


def _grids(base: Experiment, runs: Iterable[Experiment]) -> list[tuple[dict, dict]]:
    """(fields of the family, {path: values}) whose combinations are the runs. Runs that differ only in length are
    joined first, then those that differ only in learning rate."""
    joined = ("optim.learning_rate", base.data.length_knob)
    entries = []
    for e in dict.fromkeys(runs):
        sizes, values = _changes(base, e)
        always = {path: fields.leaves(e)[path][0] for path in joined}
        entries.append((sizes, {path: [value] for path, value in (values | always).items()}))
    for path in reversed(joined):
        groups: dict[str, tuple[dict, dict]] = {}
        for sizes, values in entries:
            rest = repr((sizes, {k: v for k, v in values.items() if k != path}))
            _, alike = groups.setdefault(rest, (sizes, {**values, path: []}))
            alike[path].extend(values[path])
        entries = [(sizes, {**values, path: sorted(values[path])}) for sizes, values in groups.values()]
    return entries


def _leaves(config, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted path, value) of every field of a config, with lists as tuples."""
    for name in config:
        value = config[name]
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, as_tuples(value)


def _entries(space: Workspace, runs: Iterable[Experiment]) -> str:
    """The grids of runs as Python source, each under its number of parameters."""
    lines = []
    for sizes, values in _grids(space.base, runs):
        family = dataclasses.replace(space.base.family, **sizes)
        lines += [f"    # N = {costs.param_count(family)['non_embedding']:,}", f"    ({sizes},",
                  f"     {values}),"]
    return "\n".join(["(", *lines, ")"])


def _dict(values: dict) -> str:
    return "\n".join(["{", *(f"        {name!r}: {value!r}," for name, value in values.items()), "    }"])
