"""The twins of text in torch have the package's logits, losses and gradients, given the package's weights."""

import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

from scaling.families.textgan import TextGAN  # noqa: E402
from scaling.families.transformer import Transformer  # noqa: E402

torch = pytest.importorskip("torch", reason="the twin is compared where torch is installed")

FAMILY = Transformer(vocab=50, length=12, width=32, layers=3, heads=2)
GAME = TextGAN(vocab=50, length=12, width=32, layers=3, heads=2, critic_layers=2)


def flat(tree):
    """Weights of the package as matrices [outputs, inputs], layers first where they are stacked."""
    layers, width = FAMILY.layers, FAMILY.width

    def rows(x):
        return np.asarray(x).reshape(layers, width, -1).transpose(0, 2, 1)

    a, m = tree["layers"]["attention"], tree["layers"]["mlp"]
    return {
        "embed.weight": tree["embed"]["weight"], "readout.weight": np.asarray(tree["readout"]["weight"]).T,
        "norm.weight": tree["norm"]["scale"], "norm": tree["layers"]["attention_norm"]["scale"],
        "mlp_norm": tree["layers"]["mlp_norm"]["scale"], "q_norm": a["q_norm"]["scale"], "k_norm": a["k_norm"]["scale"],
        "qkv": np.concatenate([rows(a[name]["weight"]) for name in "qkv"], 1),
        "out": np.asarray(a["out"]["weight"]).reshape(layers, -1, width).transpose(0, 2, 1),
        "gate_up": np.concatenate([rows(m[name]["weight"]) for name in ("gate", "up")], 1),
        "down": np.asarray(m["down"]["weight"]).transpose(0, 2, 1)}


def named(tree):
    """{name of a parameter of the twin: the package's array}."""
    out = {}
    for name, value in flat(tree).items():
        if "." in name:
            out[name] = np.asarray(value)
        else:
            out |= {f"blocks.{i}.{name}.weight": np.asarray(value)[i] for i in range(FAMILY.layers)}
    return out


@pytest.mark.slow
def test_logits_loss_and_gradients_are_the_packages():
    from tools import _torch_text

    params = FAMILY.init(jax.random.key(0))
    batch = {"tokens": FAMILY.example_batch(4, jax.random.key(1))["tokens"]}
    loss, grads = jax.value_and_grad(lambda params: FAMILY.loss(params, batch, None)[0])(params)
    twin = _torch_text.make("torch", FAMILY.vocab, FAMILY.length, FAMILY.width, FAMILY.layers, FAMILY.heads)
    pure = jax.tree.map(np.asarray, params["model"].to_pure_dict())
    twin.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in named(pure).items()})
    tokens = torch.from_numpy(np.asarray(batch["tokens"]).astype(np.int64))
    np.testing.assert_allclose(twin(tokens[:, :-1]).detach(), FAMILY.logits(params, batch["tokens"][:, :-1]), atol=2e-5)
    theirs = twin.nats(tokens)
    assert theirs.item() == pytest.approx(float(loss), rel=1e-6)
    theirs.backward()
    ours = named(jax.tree.map(np.asarray, grads["model"].to_pure_dict()))
    for name, parameter in twin.named_parameters():
        np.testing.assert_allclose(parameter.grad, ours[name], atol=1e-6, rtol=2e-4, err_msg=name)


def named_critic(tree):
    """{name of a parameter of the discriminator's twin: the package's array}."""
    out = {"table": tree["table"]["weight"], "position": tree["position"]["weight"][None],
           "basis": tree["basis"]["weight"][None], f"blocks.{GAME.critic_layers}.weight": tree["norm"]["scale"],
           "score.weight": tree["score"]["weight"].T, "score.bias": tree["score"]["bias"]}
    layers, width = tree["layers"], GAME.critic_sizes[0]
    for i in range(GAME.critic_layers):
        rows = [np.asarray(layers[name]["weight"][i]).reshape(width, width) for name in "qkv"]
        out |= {f"blocks.{i}.{name}": np.asarray(value) for name, value in {
            "norm.weight": layers["attention_norm"]["scale"][i], "mlp_norm.weight": layers["mlp_norm"]["scale"][i],
            "qkv.weight": np.concatenate(rows, 1).T, "out.weight": layers["out"]["weight"][i].reshape(width, width).T,
            **{f"{name}.{kind}": layers["mlp"][name][kind][i].T for name in ("up", "down")
               for kind in ("weight", "bias")}}.items()}
    return {name: np.asarray(value) for name, value in out.items()}


@pytest.mark.slow
@pytest.mark.parametrize("player", ["disc", "gen"])
def test_both_players_of_a_game_of_text_have_the_packages_losses_and_gradients(player):
    from scaling.families._textgan_critic import gumbel_noise
    from tools import _torch_textgan

    params, key = GAME.init(jax.random.key(0)), jax.random.key(2)
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    batch = GAME.example_batch(4, jax.random.key(1))
    convert = {"gen": named, "disc": named_critic}
    pure = {name: convert[name](jax.tree.map(np.asarray, params[name].to_pure_dict())) for name in params}
    twin = _torch_textgan.TextGAN(GAME)
    for name, weights in pure.items():
        getattr(twin, name).load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    noise = gumbel_noise(key, batch["example"], (GAME.length, GAME.vocab))
    given = torch.from_numpy(np.array(noise))
    tokens = torch.from_numpy(np.asarray(batch["tokens"]).astype(np.int64))
    assert np.array_equal(twin.gen.write(tokens[:, :1], given), GAME.write(params, batch, key)[0])
    loss_of = {"disc": GAME.disc_loss, "gen": GAME.gen_loss}[player]
    (loss, _), grads = jax.value_and_grad(lambda params: loss_of(params, batch, key), has_aux=True)(params)
    theirs = getattr(twin, f"{player}_loss")({"tokens": tokens}, given)
    assert theirs.item() == pytest.approx(float(loss), rel=1e-5)
    theirs.backward()
    ours = convert[player](jax.tree.map(np.asarray, grads[player].to_pure_dict()))
    for name, parameter in getattr(twin, player).named_parameters():
        np.testing.assert_allclose(parameter.grad, ours[name], atol=1e-5, rtol=1e-3, err_msg=name)
