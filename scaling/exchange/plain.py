"""Transformers in the form that other programs know: without factors between their matrices.

The Transformer here multiplies residual branches by `Depth.branch`, logits by `logit_scale`, and tied embeddings by factors
of their own on the way in and out. Each is a factor of a linear map, so it can be part of the weights of that map.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families
from scaling.exchange.errors import ExchangeError
from scaling.families.masked import Masked
from scaling.families.transformer import Transformer
from scaling.store import checkpoint

ENDS = ("attention/out", "mlp/down")  # the maps that end the branches of a layer
EMBED, READOUT, MASK = "model/embed/weight", "model/readout/weight", "model/mask"


def flat_arrays(params) -> dict[str, np.ndarray]:
    """{path: array} of the parameters of a run, as host arrays; the paths are those of its checkpoint."""
    return {path: np.asarray(x) for path, x in checkpoint.flatten(params)[0]}


def abstract_arrays(family) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape and type} of the parameters of a family."""
    return dict(_abstract(family)[0])


@functools.lru_cache(maxsize=256)
def _abstract(family):
    return checkpoint.flatten(jax.eval_shape(family.init, jax.random.key(0)))


def from_flat(family, arrays: Mapping[str, np.ndarray]) -> Any:
    """The parameters of a family, given {path: array}. ExchangeError for a path too few or too many, and for another shape
    or type."""
    wanted, structure = _abstract(family)
    if (differs := sorted(dict(wanted).keys() ^ arrays.keys())):
        which = "lack" if differs[0] in dict(wanted) else "also have"
        raise ExchangeError(f"the arrays {which} {differs[0]!r}, so they are not those of this {families.name(family)}")
    for path, x in wanted:
        if (found := arrays[path]).shape != x.shape or found.dtype != x.dtype:
            raise ExchangeError(f"the array {path!r} is {found.dtype}{list(found.shape)}, and this {families.name(family)} "
                                f"has {x.dtype}{list(x.shape)}")
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[path]) for path, _ in wanted])


def as_decoder(family: Masked) -> Transformer:
    """The Transformer that has the parameters of an encoder of text, with one more token, the last, for hidden ones.

    It is a form of the parameters alone (`with_mask_token`): what a token sees is not said by it.
    """
    return _as(Transformer, family, family.vocab + 1)


def with_mask_token(family: Masked, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{path: array} of `as_decoder(family)`. The vector for hidden tokens is the last row of the table, and its logit is
    that of no text."""
    arrays = dict(arrays)
    row = arrays.pop(MASK) / np.float32(_factors(family)[0])
    arrays[EMBED] = np.concatenate([arrays[EMBED], row[None]])
    if not family.tied:
        arrays[READOUT] = np.pad(arrays[READOUT], ((0, 0), (0, 1)))
    return arrays


def as_encoder(family: Transformer, arrays: Mapping[str, np.ndarray], hides: int, apart: bool,
               ) -> tuple[Masked, dict[str, np.ndarray]]:
    """(the encoder of text that has the parameters of a Transformer, its {path: array}), the inverse of `as_decoder`.

    The token `hides` stands for hidden ones, so its embedding is the vector for them. `apart`: it is the last one and no
    token of a text, and the encoder does without it.
    """
    arrays, kept = dict(arrays), family.vocab - apart
    arrays[MASK] = arrays[EMBED][hides] * np.float32(_factors(family)[0])
    arrays[EMBED] = arrays[EMBED][:kept]
    if not family.tied:
        arrays[READOUT] = arrays[READOUT][:, :kept]
    return _as(Masked, family, kept), arrays


def _as(kind, family, vocab: int):
    """The family of another kind that has the fields which both have, but for the number of tokens."""
    own = {field.name for field in dataclasses.fields(family)}
    shared = [field.name for field in dataclasses.fields(kind) if field.name in own]
    return kind(**{name: getattr(family, name) for name in shared} | {"vocab": vocab})


def plain_family(family):
    """The Transformer of the same function without `base_layers` and `logit_scale`; see `plain_form`."""
    inwards, outwards = _factors(family)
    tied = family.tied and inwards == outwards
    biases = family.biases or family.norm == "layernorm"
    return dataclasses.replace(family, base_layers=0, depth_exponent=1.0, tied=tied,
                               logit_scale=family.logit_scale if tied else 1.0,
                               biases=biases, attention_biases="none" if biases else family.attention_biases)


def plain_form(family, arrays: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """(`plain_family(family)`, {path: array}) that compute the same logits.

    Embeddings stay tied where the table that is read equals the one that is multiplied with, which is where `logit_scale`
    is the width; else the two are apart afterwards. With LayerNorm there are biases, of zero where there were none, since
    no layout leaves them out.
    """
    plain, arrays, branch = plain_family(family), dict(arrays), np.float32(family.depth().branch)
    for end in (f"model/layers/{name}/{part}" for name in ENDS for part in ("weight", "bias")):
        if end in arrays and branch != 1:
            arrays[end] = arrays[end] * branch
    if not plain.tied:
        inwards, outwards = map(np.float32, _factors(family))
        table = arrays[EMBED]
        readout = np.ascontiguousarray(table.T) if family.tied else arrays[READOUT]
        arrays |= {EMBED: table * inwards, READOUT: readout * outwards}
    zeros = {path: np.zeros(x.shape, x.dtype) for path, x in abstract_arrays(plain).items() if path not in arrays}
    return plain, zeros | arrays


def table_factor(family) -> float:
    """What a tied table of a family in plain form is multiplied by in both of its uses; 1 for one that is not tied."""
    return math.sqrt(family.width) if family.tied else 1.0


def _factors(family) -> tuple[float, float]:
    """What embeddings are multiplied by on the way in, and the readout on the way out."""
    if not family.tied:
        return 1.0, family.logit_scale
    root = math.sqrt(family.width)
    return root, root if family.logit_scale == family.width else family.logit_scale / root
