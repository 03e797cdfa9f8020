"""What families share that stand on a finished tokenizer of images: its parameters, and models that are fields."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from scaling import axes
from scaling.families.fsq import FSQ
from scaling.fields import ConfigError, shown


class Tokenized:
    """A family with a field `tokenizer`, a member of the family fsq, and fields of the data that say how images look.

    The tokenizer is part of the state, but no player moves it and N leaves it out: its arrays are buffers here.
    """

    def _seeing(self: Any) -> FSQ:
        """The tokenizer as a member of its family that sees the images of the data."""
        seen = {"image_size": self.image_size, "channels": self.channels, "levels": self.levels}
        return dataclasses.replace(self._member("tokenizer", FSQ), **seen)

    def _member(self: Any, name, cls):
        """The field as a member of a family, also where it is a mapping, as records hold it."""
        given = getattr(self, name)
        if isinstance(given, Mapping):
            return cls(**given)
        if not isinstance(given, cls):
            raise ConfigError(f"family.{name}={shown(given)} is no {cls.__name__}; write a member of that family, or leave "
                              "it out")
        return given

    @property
    def takes(self: Any) -> dict[str, str]:
        """What a run takes from a run of its tokenizer: `Start(base, family.takes)`."""
        names = ["model"] if self.tokenizer.quantiser == "fsq" else ["codebook", "model"]
        return {f"tokenizer/{name}": name for name in names}

    @property
    def width(self: Any) -> int:
        """The width of the model, for rules of rates."""
        return self.model.width

    def fresh_tokenizer(self: Any, key):
        """Parameters of a tokenizer that learned nothing, as buffers."""
        return _as_kind(axes.buffer, self.tokenizer.init(key))

    def tokens_of(self, params):
        """The parameters of the tokenizer, as its own family knows them."""
        return _as_kind(axes.param, params["tokenizer"])


def _as_kind(make, tree):
    """The tree with every variable made anew by `axes.param` or `axes.buffer`."""
    return jax.tree.map(lambda x: make(x.get_raw_value(), x.get_metadata()["axes"]), tree,
                        is_leaf=lambda x: isinstance(x, nnx.Variable))
