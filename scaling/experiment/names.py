"""Names of programs and of runs: hashes of the fields of an experiment."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from scaling import families
from scaling.experiment.kinds._discovery import said_kind
from scaling.fields import leaves


def program_key(experiment, data: bool = True) -> str:
    """Equal for two experiments exactly if one compiled program can train both. Without `data`, equal as well for two that
    differ in their data only, for functions that get all they need of these as arguments."""
    plain = {path: value for path, (value, kind) in leaves(experiment).items()
             if kind != "knob" and (data or not path.startswith("data."))}
    kind = said_kind(experiment.family, experiment.data)
    return _hash({"family": families.name(experiment.family), **kind, **plain})


def named_by(experiment, content: str, version: int, also: Mapping | None = None) -> str:
    """The name of a run under a results version, which may have hashed the values `also` of `how` fields too."""
    left_out = unnamed(experiment)
    what = {path: value for path, (value, kind) in leaves(experiment).items() if kind != "how" and path not in left_out}
    what |= dict(also or {})
    what |= {"family": families.name(experiment.family), "content": content}
    what |= said_kind(experiment.family, experiment.data)
    if experiment.start is not None:  # the content names the run itself
        what["start.takes"] = experiment.start.takes
    return _hash({**what, "results_version": version})


def unnamed(node, prefix: str = "") -> set[str]:
    """Dotted paths of the fields that are younger than the names of runs and at their defaults."""
    out = set()
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value) and not f.metadata.get("apart"):
            out |= unnamed(value, f"{prefix}{f.name}.")
        elif f.metadata.get("later") and value == f.default:
            out.add(prefix + f.name)
    return out


def _hash(values: dict) -> str:
    # 1 and 1.0 in a config name the same run.
    canonical = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in values.items()}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, default=str).encode()).hexdigest()[:16]
