"""Rotary positions as config.json says them: their base, the share of a head that is rotated, and their scaling.

Newer files keep all of it in rope_parameters, older ones in rope_scaling and fields of their own.
"""

from collections.abc import Mapping
from typing import Any

from scaling.exchange.errors import ExchangeError
from scaling.nn import read_scaling

THEIRS = {"factor": "factor", "low": "low_freq_factor", "high": "high_freq_factor",
          "length": "original_max_position_embeddings"}  # {number of `scaling.nn.rotary`: its name in config.json}
NUMBERS = {"linear": ("factor",), "llama3": tuple(THEIRS)}
SAME = ("default", "dynamic")  # the second changes texts that are longer than those of the model, which are none here


def read_rope(config: Mapping[str, Any], share: str = "", base: str = "rope_theta") -> dict[str, Any]:
    """{"rope_base", "rope_share", "rope_scaling"} of a config.json. ExchangeError for those that are scaled otherwise.

    `share` and `base` are the names of older files; without a `share`, models of this kind rotate whole heads.
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in (*SAME, *NUMBERS):
        raise ExchangeError(f"config.json has rotary positions of the type {kind!r} (rope_parameters or rope_scaling), and "
                            f"scaling computes {', '.join((*SAME, *NUMBERS))} alone: it cannot be imported")
    part = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", config.get(share, 0.25 if share else 1.0)))
    if not share and part not in (1.0, None):
        raise ExchangeError(f"config.json rotates a part of each head alone (partial_rotary_factor={part}), which models "
                            "of this type here do not: it cannot be imported")
    scaling = ""
    if kind in NUMBERS:
        found = {name: rope.get(THEIRS[name], config.get(THEIRS[name])) for name in NUMBERS[kind]}
        if "length" in found:
            found["length"] = found["length"] or config["max_position_embeddings"]
        scaling = f"{kind}:{','.join(_short(float(number)) for number in found.values())}"
    return {"rope_base": float(rope.get("rope_theta", config.get(base, 10_000.0))), "rope_scaling": scaling,
            "rope_share": 1.0 if part is None else float(part)}


def write_rope(family) -> dict[str, Any]:
    """What config.json says of the scaling of a family, besides its base and its share."""
    said = read_scaling(family.rope_scaling)
    kind = family.rope_scaling.partition(":")[0]
    return {"rope_scaling": said and {"rope_type": kind, **{THEIRS[name]: number for name, number in said.items()}}}


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
