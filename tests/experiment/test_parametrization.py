"""Every parameter of every family has its role, and its rate follows from the role, the width and the depth."""

import jax
import numpy as np
import pytest
from sources import tiny

from scaling import axes, families
from scaling.experiment import Experiment, Optim, parametrization

ROLES = {  # (axes, whether it is a bias): role
    (("vocab", "embed"), False): "input", (("position", "embed"), False): "input", (("tied_vocab", "embed"), False): "tied",
    (("embed", "vocab"), False): "output", (("layers", "embed", "heads", "head_dim"), False): "hidden",
    (("layers", "heads", "head_dim", "embed"), False): "hidden", (("layers", "mlp", "embed"), False): "hidden",
    (("layers", "heads", "head_dim"), True): "vector", (("layers", "head_dim"), False): "vector",
    (("layers", "embed", "gates", "state"), False): "hidden", (("layers", "state_in", "gates", "state"), False): "hidden",
    (("layers", "gates", "state"), True): "vector", (("states", "next_states"), False): "input",
    (("layers", "experts", "embed", "mlp"), False): "hidden", (("layers", "experts", "mlp"), True): "vector",
    (("layers", "embed", "choices"), False): "output",
    (("layers", "embed"), False): "vector", (("pixels", "embed"), False): "input", (("embed", "pixels"), False): "output",
    (("layers", "mlp", "latents"), False): "output", (("layers", "latents", "embed"), False): "input",
    (("latent", "layers", "style", "embed"), False): "input", (("layers", "style", "embed"), True): "vector",
    (("embed", "logit"), False): "output", (("channels_in", "latent"), False): "output",
    (("latent", "map", "channels_in"), False): "input", (("map", "channels_in"), True): "vector",
    (("kernel_height", "kernel_width", "pixel", "channels_out"), False): "input",
    (("kernel_height", "kernel_width", "channels_in", "pixel"), False): "output",
    (("kernel_height", "kernel_width", "channels_in", "channels_out"), False): "hidden"}
MEMBERS = {  # every family, its bodies and options
    "transformer": {},
    "transformer options": {"biases": True, "norm": "layernorm", "activation": "gelu", "positions": "learned"},
    "transformer experts": {"experts": 4, "biases": True},
    "transformer tied": {"tied": True}, "transformer grouped": {"heads": 4, "kv_heads": 2},
    "recurrent": {}, "recurrent gru": {"cell": "gru", "tied": True}, "recurrent minlstm": {"cell": "minlstm"},
    "masked": {}, "masked options": {"biases": True, "norm": "layernorm", "activation": "gelu", "positions": "learned"},
    "masked tied": {"tied": True, "classes": 5}, "masked classes": {"classes": 5},
    "vae": {}, "vae conv": {"body": "conv"}, "vae linear": {"body": "linear", "layers": 2},
    "vae conditioned": {"classes": 5, "caption": 4, "likelihood": "gaussian"},
    "classifier": {}, "gan": {}, "gan conv": {"body": "conv"}, "gan dcgan": {"body": "dcgan"},
    "gan conditioned": {"classes": 5, "caption": 4}}


def member(name, width):
    cls = families.find(name.partition(" ")[0])
    return cls(**{"layers": 2, **MEMBERS[name], "width": width})


@pytest.mark.parametrize(("names", "bias"), ROLES)
def test_roles_are_read_from_axes(names, bias):
    assert axes.role(names, bias) == ROLES[names, bias]


@pytest.mark.parametrize("name", MEMBERS)
def test_roles_say_which_sides_of_a_parameter_grow(name):
    """The shapes at two widths tell which dimensions grow; the role must agree with them, for every parameter."""
    shapes = [parametrization.abstract_params(member(name, width)) for width in (32, 64)]  # which other tests have, too
    found = zip(*(jax.tree.leaves(tree) for tree in (*shapes, axes.names(shapes[0]), axes.roles(shapes[0]))), strict=True)
    for small, large, names, role in found:
        grew = {axis: b > a for axis, a, b in zip(names, small.shape, large.shape, strict=True)}
        inputs, outputs = (any(grew[axis] for axis in side) for side in axes.sides(names))
        if role in ("input", "tied"):  # the conditions of a GAN are as large as its latents, which do not grow
            assert not inputs and (outputs or names[0] == "vocab" and small.shape[-1] == 64), names
        elif role != "vector":
            assert (inputs, outputs) == (True, role == "hidden"), names
        else:
            assert len(names) < 4


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_updates_have_the_spectral_norm_of_their_condition(name, optimiser):
    """rate * norm of an update is in proportion to sqrt(fan_out / fan_in): entries of +-1 for Adam, orthogonal for Muon."""
    norms = []
    for width in (64, 256):
        e = Experiment(family=member(name, width), optim=Optim(name=optimiser))
        norms.append([_in_proportion(*own, optimiser) for own in parametrization.all_kinds(e)])
    np.testing.assert_allclose(norms[1], norms[0], rtol=0.05)  # hidden units and heads are rounded


def _in_proportion(names, shape, role, kind, optimiser):
    """The spectral norm of an update over sqrt(fan_out / fan_in), or the size of its entries for vectors and tables."""
    if role == "vector" or role == "input" and kind.table:
        return kind.rate
    if role == "tied":
        return kind.rate * axes.width(names, shape) ** 0.5
    sizes = dict(zip(names, shape))
    fan_in, fan_out = (np.prod([sizes[axis] for axis in side]) for side in axes.sides(names))
    if role == "input":
        return kind.rate
    wanted = (fan_out / fan_in) ** 0.5
    if role == "hidden" and optimiser == "muon":
        return kind.rate * max(fan_in, fan_out) ** 0.5 / wanted
    return kind.rate * (fan_in * fan_out) ** 0.5 / wanted


def test_standard_rates_are_equal():
    for name in ("transformer", "vae", "gan"):
        e = Experiment(family=member(name, 256), optim=Optim(parametrization="standard"))
        assert {(kind.rate, kind.epsilon) for *_, kind in parametrization.all_kinds(e)} == {(1.0, 1.0)}


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_rates_and_epsilons_of_blocks_follow_the_depth(exponent):
    deep = {"base_layers": 2, "depth_exponent": exponent}
    for cls, layers in (("transformer", 8), ("gan", 8), ("vae", 8), ("recurrent", 8), ("masked", 8)):
        family = families.find(cls)(width=64, layers=layers, **deep)
        kinds = parametrization.all_kinds(Experiment(family=family))
        shallow = parametrization.all_kinds(Experiment(family=families.find(cls)(width=64, layers=2)))
        plain = {_unstacked(names, shape): kind for names, shape, _, kind in shallow}
        for names, shape, _, kind in kinds:
            inside, before = "layers" in names, plain[_unstacked(names, shape)]
            assert kind.rate == pytest.approx(before.rate * (4 ** (exponent - 1) if inside else 1))
            assert kind.epsilon == pytest.approx(before.epsilon * (4**-exponent if inside else 1))


def _unstacked(names, shape):
    return tuple((name, size) for name, size in zip(names, shape) if name != "layers")


@pytest.mark.parametrize("name", ["transformer", "recurrent", "masked", pytest.param("vae", marks=pytest.mark.slow),
                                  "gan"])
def test_branches_are_multiplied_where_a_base_is_named(name):
    cls = families.find(name)
    plain, same, deep = (cls(width=32, layers=4, base_layers=base) for base in (0, 4, 2))
    for player in (p.name for p in plain.players()):
        assert plain.depth(player).branch == same.depth(player).branch == 1.0 and deep.depth(player).branch == 0.5
    params = [jax.jit(f.init)(jax.random.key(0)) for f in (plain, same, deep)]
    for a, b, c in zip(*map(jax.tree.leaves, params), strict=True):
        np.testing.assert_array_equal(a, b)
        if not np.any(a):  # biases, and heads that start at zero
            assert not np.any(c)
            continue
        ratio = np.linalg.norm(c) / np.linalg.norm(a)
        assert ratio == pytest.approx(1, rel=1e-5) or ratio == pytest.approx(2**0.5, rel=1e-5)
    batch = {**plain.example_batch(2, jax.random.key(1)), "example": np.arange(2)}
    losses = [float(jax.jit(lambda p, f=f: f.players()[0].loss(p, batch, jax.random.key(2))[0])(params[0]))
              for f in (plain, same, deep)]
    assert losses[0] == losses[1] != losses[2]


def test_a_body_without_blocks_takes_no_base():
    with pytest.raises(ValueError, match="family.base_layers=2 is not for family.body='dcgan'"):
        families.find("gan")(body="dcgan", base_layers=2)
    with pytest.raises(ValueError, match="depth_exponent=1"):
        families.find("gan")(body="conv", base_layers=2, depth_exponent=0.5)


def test_no_rate_depends_on_packed_runs():
    e = tiny("transformer")
    params = jax.eval_shape(e.family.init, jax.random.key(0))["model"]
    packed = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), params)
    assert jax.tree.leaves(parametrization.kinds(e, packed)) == jax.tree.leaves(parametrization.kinds(e, params))
