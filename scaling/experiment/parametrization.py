"""The parametrisation: how the learning rate and epsilon of each parameter follow from its role, the width and the depth.

The rule is the spectral condition (Yang, Simon, Bernstein 2310.17813, condition 1): the spectral norms of a matrix and of
its update are in proportion to sqrt(fan_out / fan_in), so that the sizes of activations and of their changes do not depend
on the width. Let m = width / base_width. Updates of elementwise optimisers (Adam) have entries of one size, and so a
spectral norm of sqrt(fan_in fan_out): the rate of a matrix whose fan-in grows falls as 1/m. Muon's update is orthogonal
and is then given the root mean square of Adam's, by a factor of sqrt(max(fan_in, fan_out)): its rate falls as 1/sqrt(m).

| role (`scaling.axes.role`) | initial std | rate, Adam | rate, Muon | epsilon |
| --- | --- | --- | --- | --- |
| vector: gains, biases | 1, 0 | 1 | Adam's | 1/m |
| input: tables, maps from pixels and latents | 1 / sqrt(fan_in) | 1 | Adam's | 1/m |
| hidden | 1 / sqrt(fan_in) | 1/m | 1/sqrt(m) | 1/m |
| output: logits, pixels, heads of latents, score | 1 / fan_in, or 0 | 1/m | Adam's | 1 |
| tied: a table that is the readout | 1 / sqrt(width) | 1/sqrt(m) | Adam's | 1/sqrt(m) |

The rate of tables is also multiplied by `optim.table_rate`. Gradients fall as epsilon does. A tied table is multiplied by
sqrt(width) as an input and by 1/sqrt(width) as the readout (`families.transformer`), so an update of size u changes
activations and logits by sqrt(width) u. Parameters of residual blocks, stacked along an axis of `axes.STACKED`, follow the
depth too (`families.Depth`): rates are multiplied by r^(alpha - 1) and epsilon by r^-alpha, with r the number of blocks
over those of the base (CompleteP, Dey et al. 2505.01618, table 1). Other optimisers take Adam's column.

Weight decay is added after these factors and `table_rate`: a step multiplies every matrix by 1 - rate weight_decay at every
width, so that AdamW's timescale of 1 / (rate weight_decay) steps is one (Wang & Aitchison 2405.13698, equation 4).
"""

import dataclasses
import functools

import jax

from scaling import axes

WIDTH_POWERS = {  # of width / base_width, by which a rate is divided
    "adam": {"vector": 0.0, "input": 0.0, "hidden": 1.0, "output": 1.0, "tied": 0.5},
    "muon": {"vector": 0.0, "input": 0.0, "hidden": 0.5, "output": 1.0, "tied": 0.5}}
EPSILON_POWERS = {"vector": 1.0, "input": 1.0, "hidden": 1.0, "output": 0.0, "tied": 0.5}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the optimiser of an experiment asks about a parameter."""

    table: bool  # a table of tokens or classes, whose rows few examples of a batch touch: `optim.table_rate`
    rate: float  # factor on its learning rate
    epsilon: float  # factor on its epsilon
    decays: bool


def kinds(experiment, params, player: str | None = None):
    """The `Kind` of every parameter of a player, its first one unless named. `params` may be abstract, or updates."""
    o = experiment.optim
    follows = o.parametrization == "mup"
    family = experiment.family
    depth = family.depth(player or family.players()[0].name) if hasattr(family, "depth") else None

    def kind(x, names, role, decays):
        rate = epsilon = 1.0
        if follows:
            rate, epsilon = factors(role, (axes.width(names, x.shape) or o.base_width) / o.base_width, o.name)
        if follows and depth and set(names) & set(axes.STACKED):
            rate, epsilon = rate * depth.rate, epsilon * depth.branch
        return Kind(is_table(names), rate, epsilon, decays)

    return axes.tree_map_with_axes(kind, params, axes.roles(params), axes.matrices(params))


def factors(role: str, m: float, optimiser: str = "adamw") -> tuple[float, float]:
    """(factor on the learning rate, factor on epsilon) of a parameter at `m` times the base width."""
    powers = WIDTH_POWERS["muon" if optimiser == "muon" else "adam"]
    return m ** -powers[role], m ** -EPSILON_POWERS[role]


def is_table(names) -> bool:
    """True for lookup tables of tokens and classes. Their rows have unit size, and few examples of a batch touch one."""
    return len(names) > 0 and names[0] in ("vocab", axes.TIED)


@functools.lru_cache(maxsize=1024)
def abstract_params(family):
    """{player: its parameters without their values}."""
    return jax.eval_shape(family.init, jax.random.key(0))


def all_kinds(experiment):
    """[(axis names, shape, role, Kind)] of every parameter of every player of an experiment."""
    found = []
    for player, own in abstract_params(experiment.family).items():
        of_player = kinds(experiment, own, player)
        parts = map(jax.tree.leaves, (axes.names(own), own, axes.roles(own), of_player))
        found += [(names, x.shape, role, kind) for names, x, role, kind in zip(*parts, strict=True)]
    return found
