"""An experiment is everything that determines a run, as one frozen value. A run is a pure function of it.

`scaling.fields` says which fields are arguments of a compiled program (knobs), which are part of the program, and which do
not enter the run's name. Here each field also says which values it takes; `scaling.experiment.validation` has the rules
that several fields follow together.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scaling import families
from scaling.devices.layouts import LAYOUTS
from scaling.experiment.kinds._discovery import build_data, determined, kind_read, said_kind
from scaling.experiment.kinds.text import Text
from scaling.experiment.start import Start
from scaling.experiment.validation import validate
from scaling.fields import (
    ConfigError,
    build,
    convert_fields,
    fields,
    how,
    is_traced,
    knob,
    leaves,
    python_value,
    replace,
    shown,
    static,
)

if TYPE_CHECKING:
    from ml_collections import config_dict

SCHEDULES = ("wsd", "cosine", "constant")
ORTHOGONALISATIONS = ("auto", "plain")
PARAMETRIZATIONS = ("mup", "standard")
TYPES = ("float32", "bfloat16")
SEEDS = 2**32  # a seed is 32 bits of a key


@dataclasses.dataclass(frozen=True)
class Optim:
    """Optimiser, schedule and parametrisation; see `scaling.training.optim` and `scaling.experiment.parametrization`."""

    name: str = static("adamw")  # adamw, muon, or an optimiser of optax by its name; see scaling.experiment.optimisers
    learning_rate: float = knob(4e-3, above=0)  # the peak, at base_width; see scaling.experiment.parametrization
    table_rate: float = knob(1.0, least=0)  # learning rate of lookup tables (axis "vocab" first) over that of the others
    weight_decay: float = knob(0.1, least=0)  # decoupled, of matrices; 0 is none
    beta1: float = knob(0.9, least=0, below=1)  # decay of the first moments
    beta2: float = knob(0.95, least=0, below=1)  # decay of the second moments
    epsilon: float = knob(1e-10, above=0)  # what is added to the roots of the second moments
    clip: float = knob(1.0, least=0)  # global gradient norm; 0 is off
    skip: float = knob(0.0, least=0)  # steps of larger gradient norm are skipped (Child 2011.10650, table 7); 0 is off
    schedule: str = static("wsd", choices=SCHEDULES)  # after the warmup: constant and a cooldown, a cosine, or constant
    warmup: int = knob(32, least=0, most=2**24, meaning="a number of steps")
    cooldown: float = knob(0.2, least=0, most=1, meaning="a share of all steps, not a number of steps")  # wsd
    floor: float = knob(0.0, least=0, most=1, meaning="the last learning rate as a share of the peak")  # wsd, cosine
    parametrization: str = static("mup", choices=PARAMETRIZATIONS)  # mup: rates follow roles and widths
    base_width: int = static(64, least=1, most=2**20)  # the width at which rates were tuned
    moments: str = static("float32", later=True, choices=TYPES)  # type of first moments; see training.precision
    second_moments: str = static("float32", later=True, choices=TYPES)  # type of second moments
    parameters: str = static("float32", later=True, choices=TYPES)  # what losses see; the optimiser moves float32 ones
    reduction: str = static("auto", later=True, choices=("auto", *TYPES))  # of gradients over devices that divide batches
    ema: float = static(0.0, least=0, below=1, meaning="the decay of averaged weights")  # after 10/(1-ema) steps
    trainable: str = static("all", later=True)  # or head, or last:2 for the last two layers: axes.trainable_part
    orthogonalise: str = how("auto", choices=ORTHOGONALISATIONS)  # Muon's products; see scaling.training.muon

    def __post_init__(self):
        convert_fields(self)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run: a family at one size, its data, its optimisation, its seed, and the run that it begins with."""

    family: Any = dataclasses.field(default_factory=lambda: families.find("transformer").ladder(1e4))  # at one size
    data: Any = Text()  # the kind that the family reads
    optim: Optim = Optim()  # how its parameters are found
    seed: int = knob(0, least=0, most=SEEDS - 1)  # of the initialisation, the order of the data and all noise
    start: Start | None = dataclasses.field(default=None, metadata={"apart": True})  # None begins with fresh parameters
    microbatch: int = how(0, least=0)  # sequences per accumulated gradient on one device; 0 chooses
    layout: str = how("data", choices=tuple(LAYOUTS))  # how parameters lie on the mesh; see scaling.devices.layouts
    fast: bool = how(True)  # False: the plain form of all that has a fast one and that no other field chooses

    def __post_init__(self):
        convert_fields(self)

    @property
    def steps(self):
        return self.data.steps

    def replace(self, changes: Mapping[str, Any]) -> "Experiment":
        """The same experiment with dotted fields changed, validated: `replace({"optim.learning_rate": 1e-3})`.

        Fields of the family that the data determine follow the data: `replace({"data.length": 64})` changes both. So do
        those of the run that this one begins with: `replace({"start.experiment.seed": 1})`.
        """
        start, inner = changes.get("start", self.start), "start.experiment."
        of_start = {path.removeprefix(inner): value for path, value in changes.items() if path.startswith(inner)}
        if of_start and start is None:
            raise ConfigError(f"{inner}{next(iter(of_start))} changes nothing, since start is None; write start= as well, "
                              "or leave it out")
        if of_start:
            changes = {path: value for path, value in changes.items() if not path.startswith(inner)}
            changes |= {"start": dataclasses.replace(start, experiment=start.experiment.replace(of_start))}
        changed = replace(self, changes)
        if any(map(is_traced, changes.values())):  # in a program, whose experiment was validated before
            return changed
        validate(changed)
        given, before = determined(changed.family, changed.data), _determined(self)
        follow = {name: value for name, value in given.items() if name in before and value != before[name]
                  and f"family.{name}" not in changes and hasattr(changed.family, name)}
        follow = {name: value for name, value in follow.items() if getattr(changed.family, name) != value}
        return validate(replace(changed, {f"family.{k}": v for k, v in follow.items()})) if follow else changed


def _determined(experiment) -> dict:
    """The family's fields that the data of an experiment determine; none for data that cannot be used."""
    try:
        return determined(experiment.family, experiment.data)
    except ConfigError:
        return {}


def knobs(experiment: Experiment) -> dict[str, float]:
    """{path: value} of the fields that are arguments of the compiled program."""
    return {path: value for path, (value, kind) in leaves(experiment).items() if kind == "knob"}


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested dicts of plain values with the family's name, for records and people."""
    out = dataclasses.asdict(dataclasses.replace(experiment, start=None))
    out["family"] = {"name": families.name(experiment.family), **out["family"]}
    out["data"] |= said_kind(experiment.family, experiment.data)
    del out["start"]
    if (start := experiment.start) is not None:
        out["start"] = {"experiment": to_dict(start.experiment), "takes": dict(start.takes)}
    return out


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """The experiment of a dict of `to_dict`. It may be older than today's ranges, so only its fields are checked."""
    cls = families.find(values["family"]["name"])
    family = {k: v for k, v in values["family"].items() if k != "name"}
    parts = {"family": build(cls, family, "family."), "data": build_data(cls, values["data"]),
             "optim": build(Optim, values["optim"], "optim.")}
    if start := values.get("start"):
        parts["start"] = Start(from_dict(start["experiment"]), start["takes"])
    return build(Experiment, {**values, **parts}, "")


# ------------------------------------------------------------------------------------------- configs


@dataclasses.dataclass(frozen=True)
class StudyFields:
    """What a config says of its study, beside the fields of an experiment. No run depends on these."""

    title: str = ""  # of the report
    metric: str = ""  # of the records, which is fitted and forecast
    beside: tuple = ()  # other metrics that the law is fitted to
    law: str = "best"  # the name of a law, or a rule that chooses one by its held-out error: best, stacked or median
    fix: str = ""  # parameters that every law holds at a value: E=3.379 where the entropy of the data is known
    prompts: tuple = ()  # texts that models of text continue in the report
    stop_early: str = ""  # the rule by which learning rates are given up: median, halving or halving:3; empty is none
    tune: float = 0.25  # share of the sweep's FLOPs for which cells whose best rate is at the edge ask for more rates
    tune_sampler: str = "grid"  # what bracketed cells ask in that budget: nothing (grid), optuna:tpe or optuna:cmaes
    tune_trials: int = 8  # the most rates that a cell asks of a sampler
    fit_edges: bool = False  # whether cells that are still at the edge are fitted, which are otherwise left out
    target_seeds: int = 1  # seeds of the target, whose mean the forecast is compared with


def config(family: str = "transformer", kind: str = "", **changes) -> "config_dict.ConfigDict":
    """A config with every field of an experiment, so that flags can override all of them.

    A family that reads several kinds of data gets a config for the one called `kind`, or else for the first.

    `config.family.size` goes to the family's ladder. Fields that the ladder sets are empty (None), and so is `remat`; a
    value there overrides the ladder. The config also has the fields of a study, which are those of `StudyFields`.

    `config.start` is None. For runs that begin with another one it is {"experiment": a config like this, "takes": {}}, as
    the fields of `Start` are.
    """
    from ml_collections import config_dict  # only configs need it
    cls = families.find(family)
    data = kind_read(cls, kind)()
    small, large = fields(cls.ladder(cls.sizes()[0])), fields(cls.ladder(cls.sizes()[-1]))
    sizes = {"name": family, "size": 1e5}
    for f in dataclasses.fields(cls):
        if f.name in determined(cls, data):
            continue
        laddered = small[f.name] != large[f.name]
        wanted = object if f.metadata.get("also") else type(small[f.name])  # several types spell the values of such a field
        sizes[f.name] = config_dict.placeholder(wanted) if laddered or wanted is object else small[f.name]
    rest = {**fields(Experiment()), "data": data}
    rest = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in rest.items() if k != "family"}
    rest["data"] |= said_kind(cls, data)
    out = config_dict.ConfigDict({"family": sizes, **fields(StudyFields()), **rest})
    out.update_from_flattened_dict(changes)
    return out


def family_at(cfg, size: float):
    """The family of a config at one size of its ladder, with the fields that the config and its data set."""
    cls = families.find(cfg.family.name)
    size = python_value(size, float)
    if type(size) is not float or not size > 0:
        raise ConfigError(f"family.size={shown(size)} is no size of a {families.name(cls)}; write a number of parameters, "
                          f"such as {cls.sizes()[0]:g}")
    given = {k: v for k, v in cfg.family.items() if k not in ("name", "size") and v is not None}
    names = {f.name for f in dataclasses.fields(cls)}
    for name in given:
        if name not in names:
            raise ConfigError(f"no field family.{name} in {cls.__name__}; a config is made for one family: write "
                              f"experiment.config({families.name(cls)!r}), or the family.name that it was made for")
    given |= {k: v for k, v in determined(cls, _data(cfg, cls)).items() if k in names}
    return cls.ladder(size, **given)


def _data(cfg, cls):
    return build_data(cls, cfg.data.to_dict())


def _start(cfg) -> Start | None:
    if cfg is None:
        return None
    for name in ("experiment", "takes"):
        if name not in cfg:
            raise ConfigError(f"config.start has no field {name}; write {{'experiment': experiment.config(...), "
                              "'takes': {}}")
    return Start(from_config(cfg.experiment), cfg.takes.to_dict() if hasattr(cfg.takes, "to_dict") else cfg.takes)


def from_config(cfg) -> Experiment:
    """The experiment of a config. Fields of no experiment, such as those of a sweep, are ignored."""
    values = {"family": family_at(cfg, cfg.family.size), "data": _data(cfg, families.find(cfg.family.name)),
              "optim": build(Optim, cfg.optim.to_dict(), "optim."), "start": _start(cfg.get("start"))}
    values |= {name: cfg[name] for name in fields(Experiment()) if name not in values}
    return validate(Experiment(**values))
