"""Model families: everything that can be scaled by one knob.

A family is one file in this package and nothing else. The file `wavenet.py` holds a frozen dataclass
`WaveNet` (any capitals), whose fields are static sizes and whose methods are those of `Family`; it is then
found by name, trained by the one train loop, and covered by the tests that all families share.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from scaling.fields import nearest

Params = Mapping[str, Any]  # {player name: tree of parameters with named axes, see scaling.axes}
Batch = Mapping[str, jax.Array]
Metrics = Mapping[str, Any]


class Player(NamedTuple):
    """One minimiser: it owns `params[name]`, has one optimiser, and is handed the parameters of all players.

    `loss(params, batch, key)` returns a scalar and metrics; the step differentiates it by `params[name]`
    alone.
    """

    name: str
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]


class Family(Protocol):
    """A frozen, hashable dataclass of static sizes. Two equal families are the same program.

    Beside these methods a family may have, and is then asked for:

    * `begin(params, tokens, lengths, capacity)` and `decode(params, state, token)`, by which a family continues text;
      see `scaling.families._generate` and `scaling.families.transformer`;
    * `sample(params, batch, key)`: as many samples as `batch` has examples, under their conditions and numbers
      (label, caption, "example"), which the judge of its data scores;
    * `pictures(params, batch, key)`: {name: images [rows, columns, H, W, C]} for the report;
    * `examine(params, batch, key)`: metrics as from `evaluate`, too costly for every run: the report has them for the
      best run of the smallest and of the largest size;
    * `broken(curve, metrics)`: (step, reason) when the training curve, {metric: array over its points}, or the final
      metrics tell that training broke down without a number that is not finite, else None.
    """

    reads: ClassVar[str]  # the kind of data, a key of scaling.experiment.data.KINDS

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters. Pure: may be vmapped, jitted with shardings, or only shape-evaluated."""

    def players(self) -> tuple[Player, ...]:
        """The players in the order one step updates them. A name may repeat: (D, D, G) is n-critic."""

    def evaluate(self, params: Params, batch: Batch, key: jax.Array) -> Metrics:
        """{metric: (sum, count)}, or (sum, count, sum of squares) to get the standard error `<metric>_se` as well;
        the caller adds up over batches, then divides."""

    def example_batch(self, batch_size: int, key: jax.Array) -> Batch:
        """Random data of the right shapes and types, for costs, compilation and tests."""

    @classmethod
    def ladder(cls, size: float, **overrides) -> "Family":
        """The family member of that size; any field can be overridden."""

    @classmethod
    def sizes(cls) -> tuple[float, ...]:
        """Sizes, ascending, over the whole range that `ladder` is meant for."""


@functools.cache
def all() -> tuple[type, ...]:
    """Every family class in this package, by file name."""
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return tuple(_load(module) for module in modules if not module.startswith("_"))


def find(name: str) -> type:
    """The family class called `name`, whatever its capitals: `find("transformer")`."""
    known = {cls.__name__.lower(): cls for cls in all()}
    if name.lower() not in known:
        raise ValueError(f"no family called {name!r}; {nearest(name.lower(), known)}")
    return known[name.lower()]


def _load(module_name):
    module = importlib.import_module(f"{__name__}.{module_name}")
    wanted = module_name.replace("_", "")
    for name, value in vars(module).items():
        if isinstance(value, type) and name.lower() == wanted:
            return value
    raise ImportError(f"{module.__file__} must define the family's class, called {wanted!r} in any capitals")


def name(family) -> str:
    """The name that `find` takes for a family or its class."""
    return (family if isinstance(family, type) else type(family)).__name__.lower()
