"""The Transformer of tools/_torch_text.py has the package's logits and gradients, given the package's weights."""

import pathlib
import sys

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

from scaling.families.transformer import Transformer  # noqa: E402

torch = pytest.importorskip("torch", reason="the twin is compared where torch is installed")

FAMILY = Transformer(vocab=50, length=12, width=32, layers=3, heads=2)


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
