"""An experiment is everything that determines a run, as one frozen value. A run is a pure function of it.

`scaling.fields` says which fields are arguments of a compiled program (knobs), which are part of the program, and which do
not enter the run's name.
"""

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from scaling import families
from scaling.experiment.data import KINDS, Text
from scaling.fields import ConfigError, fields, how, knob, leaves, nearest, replace

if TYPE_CHECKING:
    from ml_collections import config_dict

SCHEDULES = ("wsd", "cosine", "constant")
RESULTS_VERSION = 3  # raise it when a change of code changes what a given experiment computes


@dataclasses.dataclass(frozen=True)
class Optim:
    """Optimiser, schedule and parametrisation; see `scaling.training.optim`."""

    name: str = "adamw"  # adamw, muon, or any optimiser of optax by its name
    learning_rate: float = knob(4e-3)  # the peak, at base_width; scaling.training.optim has other widths
    table_rate: float = knob(1.0)  # learning rate of lookup tables (axis "vocab" first) over that of other parameters
    weight_decay: float = knob(0.1)
    beta1: float = knob(0.9)
    beta2: float = knob(0.95)
    epsilon: float = knob(1e-10)
    clip: float = knob(1.0)  # global gradient norm; 0 is off
    skip: float = knob(0.0)  # steps of larger gradient norm are skipped (Child 2011.10650, table 7); 0 is off
    schedule: str = "wsd"  # wsd, cosine, constant
    warmup: int = knob(32)  # steps
    cooldown: float = knob(0.2)  # share of all steps (wsd)
    floor: float = knob(0.0)  # last learning rate as a share of the peak (wsd, cosine)
    parametrization: str = "mup"  # mup (matrices learn at base_width / width) or standard
    base_width: int = 64
    ema: float = 0.0  # decay of the evaluated averaged weights, reached after 10 / (1 - ema) steps; 0 is off


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run: a family at one size, its data, its optimisation and its seed."""

    family: Any = dataclasses.field(default_factory=lambda: families.find("transformer").ladder(1e4))
    data: Any = Text()  # the kind that the family reads
    optim: Optim = Optim()
    seed: int = knob(0)
    microbatch: int = how(0)  # sequences per accumulated gradient on one device; 0 chooses
    layout: str = how("data")  # how parameters lie on the mesh; see scaling.devices.sharding

    @property
    def steps(self):
        return self.data.steps

    def replace(self, changes: dict[str, Any]) -> "Experiment":
        """The same experiment with dotted fields changed: `replace({"optim.learning_rate": 1e-3})`."""
        return replace(self, changes)


def knobs(experiment: Experiment) -> dict[str, float]:
    """{path: value} of the fields that are arguments of the compiled program."""
    return {path: value for path, (value, kind) in leaves(experiment).items() if kind == "knob"}


def program_key(experiment: Experiment) -> str:
    """Equal for two experiments exactly if one compiled program can train both."""
    plain = {path: value for path, (value, kind) in leaves(experiment).items() if kind != "knob"}
    return _hash({"family": families.name(experiment.family), **plain})


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested dicts of plain values with the family's name, for records and people."""
    out = dataclasses.asdict(experiment)
    out["family"] = {"name": families.name(experiment.family), **out["family"]}
    return out


def from_dict(values: dict[str, Any]) -> Experiment:
    """The experiment of a dict of `to_dict`."""
    family = {k: v for k, v in values["family"].items() if k != "name"}
    cls = families.find(values["family"]["name"])
    return Experiment(**{**values, "family": cls(**family), "data": KINDS[cls.reads](**values["data"]),
                         "optim": Optim(**values["optim"])})


def fingerprint(experiment: Experiment, data_fingerprint: str) -> str:
    """The name of a run: a hash of all fields but `how` fields, and of the content of its data."""
    return named_by(experiment, data_fingerprint, RESULTS_VERSION)


def named_by(experiment: Experiment, data_fingerprint: str, version: int, also=()) -> str:
    """The name of a run under a results version, which may have hashed the `how` fields `also` too."""
    what = {path: value for path, (value, kind) in leaves(experiment).items() if kind != "how" or path in also}
    what |= {"family": families.name(experiment.family), "content": data_fingerprint}
    return _hash({**what, "results_version": version})


def _hash(values: dict) -> str:
    # 1 and 1.0 in a config name the same run.
    canonical = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in values.items()}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, default=str).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------- configs


def config(family: str = "transformer", **changes) -> "config_dict.ConfigDict":
    """A config with every field of an experiment, so that flags can override all of them.

    `config.family.size` goes to the family's ladder. Fields that the ladder sets are empty (None); a value there overrides
    the ladder. The config also has the fields of a study: its title, the metric to fit and forecast, other metrics to fit
    beside it, the law, and prompts for text.
    """
    from ml_collections import config_dict  # only configs need it
    cls = families.find(family)
    data = KINDS[cls.reads]()
    small, large = fields(cls.ladder(cls.sizes()[0])), fields(cls.ladder(cls.sizes()[-1]))
    sizes = {"name": family, "size": 1e5}
    for f in dataclasses.fields(cls):
        if f.name in data.family_fields():
            continue
        laddered = small[f.name] != large[f.name]
        sizes[f.name] = config_dict.placeholder(type(small[f.name])) if laddered else small[f.name]
    rest = {**fields(Experiment()), "data": data}
    study = {"title": "", "metric": "", "beside": (), "law": "chinchilla", "prompts": ()}
    rest = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in rest.items() if k != "family"}
    out = config_dict.ConfigDict({"family": sizes, **study, **rest})
    out.update_from_flattened_dict(changes)
    return out


def family_at(cfg, size: float):
    """The family of a config at one size of its ladder, with the fields that the config and its data set."""
    cls = families.find(cfg.family.name)
    given = {k: v for k, v in cfg.family.items() if k not in ("name", "size") and v is not None}
    names = {f.name for f in dataclasses.fields(cls)}
    given |= {k: v for k, v in _data(cfg, cls).family_fields().items() if k in names}
    return cls.ladder(size, **given)


def _data(cfg, cls):
    return KINDS[cls.reads](**cfg.data.to_dict())


def from_config(cfg) -> Experiment:
    """The experiment of a config. Fields of no experiment, such as those of a sweep, are ignored."""
    values = {"family": family_at(cfg, cfg.family.size), "data": _data(cfg, families.find(cfg.family.name)),
              "optim": Optim(**cfg.optim.to_dict())}
    values |= {name: cfg[name] for name in fields(Experiment()) if name not in values}
    return validate(Experiment(**values))


def validate(experiment: Experiment) -> Experiment:
    """Returns the experiment, or raises a ConfigError that says what to change."""
    data, optim = experiment.data, experiment.optim

    for path, value, names in (
        ("optim.schedule", optim.schedule, SCHEDULES),
        ("optim.parametrization", optim.parametrization, ("mup", "standard")),
    ):
        if value not in names:
            raise ConfigError(f"{path}={value!r} is not known; {nearest(value, names)}")
    if optim.learning_rate <= 0:
        raise ConfigError(f"optim.learning_rate must be positive, not {optim.learning_rate}")
    data.check()
    return experiment
