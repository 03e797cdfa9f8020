"""An experiment: everything that determines a run, as one frozen value.

A run is a pure function of its experiment. Fields are of three kinds:

* plain fields change shapes or the program (sizes, batch, optimiser): experiments that differ in them are
  different compiled programs;
* `knob` fields leave every shape alone (seed, learning rate, ...): they are arguments of the program, so
  experiments that differ only in them share one program and can be packed with `vmap`;
* `how` fields say how the work is done and not what is computed (feeding, microbatches): they are part of
  the program but not of the run's name.
"""

import dataclasses
import difflib
import hashlib
import json
from typing import Any

from ml_collections import config_dict

from scaling import families

RESULTS_VERSION = 1  # raise when a change of code changes what a given experiment computes


def knob(default):
    return dataclasses.field(default=default, metadata={"knob": True})


def how(default):
    return dataclasses.field(default=default, metadata={"how": True})


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says which field and what to write instead."""


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = "pycode/stdlib"  # also pycode/environment, tfds:<name>, text:<glob>
    tokenizer: str = "bytes"  # or bpe:<vocabulary size>
    length: int = 128  # predicted tokens per sequence
    batch: int = 8  # sequences per step
    tokens: int = knob(2**19)  # D: tokens seen; steps = tokens / (batch * length)
    unique_tokens: int = 0  # D unique: only the first so many tokens of the fixed shuffle; 0 is all
    feed: str = how("resident")  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets live; empty is the default of scaling.data
    evaluation_tokens: int = 2**16  # tokens of each evaluation set

    @property
    def tokens_per_step(self):
        return self.batch * self.length

    @property
    def steps(self):
        return self.tokens // self.tokens_per_step


@dataclasses.dataclass(frozen=True)
class Optim:
    name: str = "adamw"  # adamw, muon, or any optimiser of optax by its name
    learning_rate: float = knob(4e-3)  # peak, at base_width; see scaling.optim for other widths
    table_rate: float = knob(1.0)  # learning rate of lookup tables (axis "vocab" first) over that of the rest
    weight_decay: float = knob(0.1)
    beta1: float = knob(0.9)
    beta2: float = knob(0.95)
    epsilon: float = knob(1e-10)
    clip: float = knob(1.0)  # global gradient norm; 0 is off
    schedule: str = "wsd"  # wsd, cosine, constant
    warmup: int = knob(32)  # steps
    cooldown: float = knob(0.2)  # share of all steps (wsd)
    floor: float = knob(0.0)  # last learning rate as a share of the peak (wsd, cosine)
    parametrization: str = "mup"  # mup: matrices learn at base_width / width; or standard
    base_width: int = 64
    ema: float = 0.0  # decay of the averaged weights that are evaluated; 0 is off


@dataclasses.dataclass(frozen=True)
class Experiment:
    family: Any = dataclasses.field(default_factory=lambda: families.find("transformer").ladder(1e4))
    data: Data = Data()
    optim: Optim = Optim()
    seed: int = knob(0)
    microbatch: int = how(0)  # sequences per gradient on one device; 0 chooses
    layout: str = how("replicated")  # how parameters lie on the mesh; see scaling.sharding

    @property
    def steps(self):
        return self.data.steps

    def replace(self, changes: dict[str, Any]) -> "Experiment":
        """The same experiment with dotted fields changed: `replace({"optim.learning_rate": 1e-3})`."""
        out = self
        for path, value in changes.items():
            out = _replace(out, path.split("."), value, path)
        return out


def fields(node) -> dict[str, Any]:
    """Names and values of a (nested) dataclass's fields."""
    return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}


def nearest(name: str, names) -> str:
    close = difflib.get_close_matches(name, list(names), n=5, cutoff=0.3)
    return "nearest: " + ", ".join(close) if close else "there are: " + ", ".join(sorted(names))


def _replace(node, parts, value, path):
    names = fields(node)
    if parts[0] not in names:
        raise ConfigError(f"no field {path!r} in {type(node).__name__}; {nearest(parts[0], names)}")
    if len(parts) > 1:
        value = _replace(getattr(node, parts[0]), parts[1:], value, path)
    return dataclasses.replace(node, **{parts[0]: value})


def leaves(node, prefix="") -> dict[str, tuple[Any, str]]:
    """{dotted path: (value, kind)} of every leaf field; kind is "plain", "knob" or "how"."""
    out = {}
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            out |= leaves(value, f"{prefix}{f.name}.")
        else:
            kind = "knob" if f.metadata.get("knob") else "how" if f.metadata.get("how") else "plain"
            out[prefix + f.name] = (value, kind)
    return out


def knobs(experiment: Experiment) -> dict[str, float]:
    return {path: value for path, (value, kind) in leaves(experiment).items() if kind == "knob"}


def program_key(experiment: Experiment) -> str:
    """Equal for two experiments exactly if one compiled program can train both."""
    plain = {path: value for path, (value, kind) in leaves(experiment).items() if kind != "knob"}
    return _hash({"family": families.name(experiment.family), **plain})


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The experiment as nested plain values, with the family's name; for records and people."""
    out = dataclasses.asdict(experiment)
    out["family"] = {"name": families.name(experiment.family), **out["family"]}
    return out


def from_dict(values: dict[str, Any]) -> Experiment:
    """The experiment that `to_dict` was given."""
    family = {k: v for k, v in values["family"].items() if k != "name"}
    return Experiment(**{**values, "family": families.find(values["family"]["name"])(**family),
                         "data": Data(**values["data"]), "optim": Optim(**values["optim"])})


def fingerprint(experiment: Experiment, data_fingerprint: str) -> str:
    """Names a run: a hash of what it computes and of the data it saw; how it is computed does not enter."""
    what = {path: value for path, (value, kind) in leaves(experiment).items() if kind != "how"}
    what |= {"family": families.name(experiment.family), "content": data_fingerprint}
    return _hash({**what, "results_version": RESULTS_VERSION})


def _hash(values: dict) -> str:
    # 1 and 1.0 name the same run, whichever of them the config wrote
    canonical = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in values.items()}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, default=str).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------- configs


def config(family: str = "transformer", **changes) -> config_dict.ConfigDict:
    """A config in which every field of an experiment is present and can be overridden by a flag.

    `config.family.size` goes to the family's ladder. Fields that the ladder sets are empty (None); a value
    given there wins over the ladder's.
    """
    cls = families.find(family)
    small, large = fields(cls.ladder(1e5)), fields(cls.ladder(1e9))
    sizes = {"name": family, "size": 1e5}
    for f in dataclasses.fields(cls):
        if f.name in _from_data(Data()):
            continue
        laddered = small[f.name] != large[f.name]
        sizes[f.name] = config_dict.placeholder(type(small[f.name])) if laddered else small[f.name]
    out = config_dict.ConfigDict({"family": sizes, **{k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v
                                                      for k, v in fields(Experiment()).items() if k != "family"}})
    out.update_from_flattened_dict(changes)
    return out


def family_at(cfg, size: float):
    """The family of a config at one size of its ladder, with the config's own fields and its data's."""
    cls = families.find(cfg.family.name)
    given = {k: v for k, v in cfg.family.items() if k not in ("name", "size") and v is not None}
    names = {f.name for f in dataclasses.fields(cls)}
    given |= {k: v for k, v in _from_data(cfg.data).items() if k in names}
    return cls.ladder(size, **given)


def _from_data(data) -> dict[str, int]:
    """Fields of a family that its data decide, so that no config says them twice."""
    kind, _, size = data.tokenizer.partition(":")
    if not (data.tokenizer == "bytes" or (kind == "bpe" and size.isdigit())):
        raise ConfigError(f"data.tokenizer={data.tokenizer!r} is not known; write 'bytes' or 'bpe:4096'")
    return {"length": data.length, "vocab": int(size) if size else 256}


def from_config(cfg) -> Experiment:
    """The experiment of a config; fields that are not an experiment's (a sweep's, say) are left aside."""
    parts = {"data": Data, "optim": Optim}
    values = {"family": family_at(cfg, cfg.family.size)}
    for name in fields(Experiment()):
        if name in parts:
            values[name] = parts[name](**cfg[name].to_dict())
        elif name != "family":
            values[name] = cfg[name]
    return validate(Experiment(**values))


def validate(experiment: Experiment) -> Experiment:
    """The experiment itself, or a ConfigError that says what to change."""
    data, optim = experiment.data, experiment.optim
    from scaling import optim as optimisers  # a cycle otherwise: optim reads experiments

    for path, value, names in (
        ("data.feed", data.feed, ("resident", "streamed")),
        ("optim.schedule", optim.schedule, optimisers.SCHEDULES),
        ("optim.parametrization", optim.parametrization, ("mup", "standard")),
    ):
        if value not in names:
            raise ConfigError(f"{path}={value!r} is not known; {nearest(value, names)}")
    for path in ("data.length", "data.batch", "data.tokens", "optim.learning_rate"):
        if leaves(experiment)[path][0] <= 0:
            raise ConfigError(f"{path} must be positive, not {leaves(experiment)[path][0]}")
    if data.tokens < data.tokens_per_step:
        raise ConfigError(f"data.tokens={data.tokens} is less than one step of batch * length = "
                          f"{data.tokens_per_step} tokens; raise data.tokens or lower data.batch")
    return experiment
