"""Model families: kinds of models whose size is one number.

A family is one file in this package. The file `wavenet.py` holds a frozen dataclass `WaveNet` (in any capitals), whose
fields are static sizes and whose methods are those of `Family`. The package then finds it by name, the one train loop
trains it, and the tests that all families share cover it. Files whose names start with an underscore are parts of them.
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
    """A minimiser: it owns `params[name]`, has one optimiser, and gets the parameters of all players.

    `loss(params, batch, key)` returns a scalar and metrics. The train step differentiates it by `params[name]` only.
    """

    name: str
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]


class Family(Protocol):
    """A frozen, hashable dataclass of static sizes. Two equal families are the same program.

    A family may also have these methods:

    * `begin(params, tokens, lengths, capacity)` and `decode(params, state, token)`, which continue text; see
      `scaling.families._generate` and `scaling.families.transformer`.
    * `sample(params, batch, key)`: one sample for each example of `batch`, given its condition and number (label,
      caption, "example"). The judge of its data scores them.
    * `pictures(params, batch, key)`: {name: images [rows, columns, H, W, C]} for the report.
    * `examine(params, batch, key)`: metrics as from `evaluate`, but too costly for every run. The report shows them for the
      best run of the smallest size and of the largest size.
    * `broken(curve, metrics)`: (step, reason) if the training curve, {metric: array over its points}, or the final metrics
      show that training broke down although all numbers are finite, else None.
    """

    reads: ClassVar[str]  # the kind of data, a key of scaling.experiment.data.KINDS

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters. Pure: may be vmapped, jitted with shardings, or only shape-evaluated."""

    def players(self) -> tuple[Player, ...]:
        """The players in the order one step updates them. A name may repeat: (D, D, G) is n-critic."""

    def evaluate(self, params: Params, batch: Batch, key: jax.Array) -> Metrics:
        """{metric: (sum, count)}, or (sum, count, sum of squares) to get the standard error `<metric>_se` as well.
        The caller adds over batches and divides at the end."""

    def example_batch(self, batch_size: int, key: jax.Array) -> Batch:
        """Random data of the right shapes and types, to count costs, to compile and to test."""

    @classmethod
    def ladder(cls, size: float, **overrides) -> "Family":
        """The member of the family with this size. Any field can be overridden."""

    @classmethod
    def sizes(cls) -> tuple[float, ...]:
        """Ascending sizes over the whole range of `ladder`."""


@functools.cache
def all() -> tuple[type, ...]:
    """Every family class in this package, in the order of file names."""
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return tuple(_load(module) for module in modules if not module.startswith("_"))


def find(name: str) -> type:
    """The family class called `name`, in any capitals: `find("transformer")`."""
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
    """The name of a family or of its class, as `find` takes it."""
    return (family if isinstance(family, type) else type(family)).__name__.lower()
