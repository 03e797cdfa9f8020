"""What a layout of checkpoints is, and tensors of other names and shapes as the arrays of a family, and back."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from scaling.exchange.errors import ExchangeError
from scaling.fields import ConfigError

PLAIN = {"logit_cap": 0, "document_masking": False, "rope_share": 1, "rope_scaling": "", "parallel": False,
         "attention_biases": "none"}  # fields that few layouts have, or none, and their values in the others
GELU = {"gelu": "exact_gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu"}  # {there: here}


class Match(NamedTuple):
    """A tensor of a layout, and the arrays here that it is made of.

    theirs: its name, in which {layer} and {expert} stand for numbers.
    ours: paths of arrays under "model/", joined along their outputs.
    inputs: how many axes of an array, after those of layers and experts, are inputs of the map; 0 for a vector.
    rows: whether the rows of the tensor are outputs, as in torch's Linear, and not inputs.
    by_head: whether the outputs of each head come together, so that those of `ours` alternate.
    """

    theirs: str
    ours: tuple[str, ...]
    inputs: int = 0
    rows: bool = True
    by_head: bool = False

    def paths(self) -> list[str]:
        return [f"model/{path}" for path in self.ours]

    def leading(self, shape) -> tuple[int, ...]:
        """The sizes of the axes of layers and experts."""
        return shape[:("{layer}" in self.theirs) + ("{expert}" in self.theirs)]

    def named(self, index) -> str:
        return self.theirs.format(**dict(zip(("layer", "expert"), index)))

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """(name, tensor) for every layer and expert."""
        own = [arrays[path] for path in self.paths()]
        for index in np.ndindex(self.leading(own[0].shape)):
            parts = [self._matrix(x[index]) for x in own]
            if self.by_head:
                parts = [part.reshape(*part.shape[:-1], *x[index].shape[-2:]) for part, x in zip(parts, own, strict=True)]
            joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
            joined = joined.reshape(*joined.shape[:-2], -1) if self.by_head else joined
            yield self.named(index), np.ascontiguousarray(joined.T if self.inputs and self.rows else joined)

    def arrays(self, read: Callable[[str], np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """{path: array} of tensors that `read(name)` gives; ExchangeError for a tensor of another shape."""
        own = {path: np.empty(shapes[path], np.float32) for path in self.paths()}
        leading = self.leading(next(iter(own.values())).shape)
        for index in np.ndindex(leading):
            widths = [self._matrix(x[index]).shape[-1] for x in own.values()]
            first = self._matrix(next(iter(own.values()))[index])
            wanted = (*first.shape[:-1], sum(widths))
            tensor = read(self.named(index))
            if tensor.shape != (wanted[::-1] if self.rows else wanted):
                raise ExchangeError(f"the tensor {self.named(index)} has the shape {list(tensor.shape)}, and config.json "
                                    f"asks for {list(wanted[::-1] if self.rows else wanted)}")
            tensor = tensor.T if self.inputs and self.rows else tensor
            if self.by_head:
                *_, heads, size = next(iter(own.values())).shape
                tensor, widths = tensor.reshape(*tensor.shape[:-1], heads, -1), [size] * len(own)
            for x, part in zip(own.values(), np.split(tensor, np.cumsum(widths)[:-1], axis=-1), strict=True):
                x[index] = part.reshape(x[index].shape)
        return own

    def _matrix(self, x: np.ndarray) -> np.ndarray:
        """[inputs, outputs], or [outputs] of a vector."""
        return x.reshape(math.prod(x.shape[:self.inputs]), -1) if self.inputs else x.reshape(-1)


class CheckpointLayout:
    """A kind of checkpoint. Subclasses say what it has."""

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    wants: ClassVar[Mapping[str, Any]]  # the family's fields that all its models share; experts and window: whether any
    varies: ClassVar[tuple[str, ...]] = ()  # those of PLAIN and `wants` of which it has every value
    fixed: ClassVar[Mapping[str, tuple]]  # values of config.json of which a model here computes nothing else
    encodes: ClassVar[bool] = False  # whether a token sees those after it too, and some tokens are hidden

    def differs(self, family) -> list[str]:
        """The family's fields that the layout does not have."""
        shown = {"experts": family.experts > 0, "window": family.window > 0}
        return [name for name, value in {**PLAIN, **self.wants}.items()
                if name not in self.varies and shown.get(name, getattr(family, name)) != value]

    def own(self) -> dict[str, Any]:
        """The fields of a family that follow from the layout alone."""
        return {name: value for name, value in self.wants.items() if name not in ("window", "experts", *self.varies)}

    def config(self, family) -> dict[str, Any]:
        """The content of config.json of a family in plain form, without what all layouts share."""
        raise NotImplementedError

    def fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The family's fields, without its length, of a config.json. KeyError for one that is incomplete."""
        raise NotImplementedError

    def matches(self, family) -> list[Match]:
        """Every tensor of the checkpoint."""
        raise NotImplementedError

    def constants(self, family) -> dict[str, np.ndarray]:
        """{name: tensor} of those that are the same in every checkpoint of a family."""
        return {}

    def check(self, config: Mapping[str, Any]) -> None:
        """Raises an ExchangeError for a value in config.json that changes what the model computes."""
        for name, allowed in self.fixed.items():
            if name in config and config[name] not in allowed:
                raise ExchangeError(f"config.json has {name}={config[name]!r}, and the Transformer of scaling computes "
                                    f"{name}={allowed[0]!r} alone: such a {self.model_type} cannot be imported")


class GeluLayout(CheckpointLayout):
    """A layout of models with GELU, exact or approximate, and as many keys as queries, which fill the width."""

    def differs(self, family):
        return super().differs(family) + [name for name, fits in (
            ("activation", family.activation in GELU.values()), ("kv_heads", family.kv_heads == family.heads),
            ("head_dim", family.heads * family.head_dim == family.width)) if not fits]

    def activation(self, family) -> str:
        """What config.json calls the activation of a family."""
        return "gelu" if family.activation == "exact_gelu" else "gelu_new"


def checked_fields(layout: CheckpointLayout, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The family's fields of a config.json; ExchangeError where it lacks one or holds what is not computed here."""
    layout.check(config)
    try:
        return layout.fields(config)
    except KeyError as error:
        raise ExchangeError(f"{where} has no {error.args[0]}, which a {layout.model_type} needs; restore it") from None
    except (TypeError, ConfigError) as error:
        raise ExchangeError(f"{where} cannot be read as that of a {layout.model_type}: {error}") from None
