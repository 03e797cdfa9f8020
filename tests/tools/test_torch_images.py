"""The twins of tools/_torch_images.py have the package's losses and gradients, given the package's weights and noise."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import lively, once

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

from scaling import cost, families, nn  # noqa: E402
from scaling.families import _attacks  # noqa: E402
from scaling.families.fsq import FSQ  # noqa: E402

torch = pytest.importorskip("torch", reason="the twins are compared where torch is installed")

pytestmark = pytest.mark.slow
KEY, COUNT = jax.random.key(3), 6
TOKENIZER = {"tokenizer": FSQ(width=32, layers=1, code_levels="5,3,2")}
MEMBERS = {"diffusion": ("diffusion", {}), "diffusion-16": ("diffusion", {"levels": 16}),
           "fsq": ("fsq", {"code_levels": "5,4,3"}), "classifier": ("classifier", {}),
           "attacked": ("classifier", {"radius": 0.05}), "coded": ("coded", TOKENIZER),
           "labelled": ("coded", TOKENIZER | {"classes": 7}), "multimodal": ("multimodal", TOKENIZER | {"caption": 6})}


def named(family, tree):
    """{name of a parameter of the twin: the package's array} of one player."""
    pure = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x)
            for path, x in jax.tree_util.tree_leaves_with_path(tree.to_pure_dict())}
    pure = {name.removesuffix(".value"): x for name, x in pure.items()}
    renamed = {"down": "encoder", "up": "decoder", "layers": "blocks"}
    found, stacks = {}, {}
    for name, x in pure.items():
        head, _, rest = name.partition(".")
        if head in renamed and not rest.startswith("linear"):
            stacks.setdefault(renamed[head], {})[rest.removeprefix("attention.")] = x
        elif head in ("position", "seen", "drawn", "caption_place", "row", "column"):
            found[head] = x[None]
        elif name == "embed.weight":
            found[name] = x
        elif name == "styles.bias":
            found[name] = x.reshape(-1)
        elif head == "readout" and rest != "weight" or head == "leave":  # pixels first in the package, here last
            end = name.replace("linear.", "").replace("readout.norm.scale", "last.weight")
            pixels = x if x.shape == (family.width,) else np.moveaxis(
                x.reshape(*x.shape[:-1], patch(family), -1), -1, -2).reshape(x.shape)
            found[end] = pixels.T
        else:
            found[name.replace("scale", "weight")] = x.reshape(len(x), -1).T if name.endswith("weight") else x
    for stack, parts in stacks.items():
        for i in range(len(parts["attention_norm.scale"])):
            found |= {f"{stack}.{i}.{end}": x for end, x in of_block({end: x[i] for end, x in parts.items()}).items()}
    return found


def patch(family):
    return (family.cell if hasattr(family, "cell") else family.patch_size) ** 2


def of_block(parts):
    """A block's parameters, by the names of `TokenBlock` or of the block of a Transformer."""
    width = len(parts["attention_norm.scale"])

    def rows(*ends):
        return np.concatenate([parts[end].reshape(width, -1).T for end in ends])

    found = {"norm.weight": parts["attention_norm.scale"], "mlp_norm.weight": parts["mlp_norm.scale"],
             "qkv.weight": rows("q.weight", "k.weight", "v.weight"), "out.weight": parts["out.weight"].reshape(-1, width).T,
             "down.weight": parts["mlp.down.weight"].T}
    if "mlp.gate.weight" in parts:
        return found | {"gate_up.weight": rows("mlp.gate.weight", "mlp.up.weight"),
                        "q_norm.weight": parts["q_norm.scale"], "k_norm.weight": parts["k_norm.scale"]}
    return found | {"up.weight": rows("mlp.up.weight"), "up.bias": parts["mlp.up.bias"],
                    "down.bias": parts["mlp.down.bias"]}


def tensor(x):
    return torch.from_numpy(np.array(x))


def with_noise_of_the_package(family, twin, params, batch):
    """The twin's loss of the batch, with what `family.loss(params, batch, KEY)` draws."""
    x = tensor(nn.levels_to_signed(batch["image"], family.levels)).permute(0, 3, 1, 2)
    given = {"image": x} | {name: tensor(value).long() for name, value in batch.items() if name in ("label", "caption")}
    if hasattr(family, "highest"):
        level_key, _ = jax.random.split(KEY)
        sigma, _ = family.denoising(family.denoise(params, batch), batch, level_key)
        noise = np.moveaxis(np.asarray(family._noise(level_key, batch)), -1, 1)
        return twin.weighted(x, tensor(sigma), tensor(noise))
    if hasattr(family, "share"):
        first = nn.noise(jax.random.split(KEY)[0], batch["example"], (), "uniform") < family.share
        assert 0 < first.sum() < COUNT
        return twin.ordered(given, tensor(first))
    if getattr(family, "radius", 0):
        images, reach = nn.levels_to_signed(batch["image"], family.levels), 2 * family.radius
        start = (_attacks.random_start(KEY, images, batch["example"], reach) - images) / reach
        attacked = twin.attacked(x, given["label"], tensor(start).permute(0, 3, 1, 2))
        wanted = np.moveaxis(np.asarray(family.attacked(params, batch, KEY).images), -1, 1)
        assert np.mean(np.abs(attacked.numpy() - wanted) > 1e-5) < 0.01  # a slope of zero may have either sign
        return torch.nn.functional.cross_entropy(twin(tensor(wanted)), given["label"])
    return twin.model_loss(given)


@pytest.mark.parametrize("case", MEMBERS)
def test_losses_and_gradients_are_the_packages(case):
    from tools import _torch_twins

    name, fields = MEMBERS[case]
    family = families.find(name).ladder(2e4, **fields)
    params, batch = lively(family, 0.1), family.example_batch(COUNT, KEY)
    if "caption" in batch:
        batch["caption"] = jnp.where(np.arange(6) < np.arange(COUNT)[:, None] + 2, batch["caption"], 0)

    def loss(own):
        return family.loss(params | {"model": own}, batch, KEY)[0]

    ours, grads = once(jax.value_and_grad(loss))(params["model"])
    twin = _torch_twins.pictured(family)
    (player, module), = list(twin.players())
    assert player == "model"
    load(module, named(family, params["model"]))
    if "tokenizer" in params:
        load(twin.tokenizer, named(family.tokenizer, params["tokenizer"]["model"]))
        codes = family.tokenizer.encode_images(family.tokens_of(params), batch["image"])
        signed = tensor(nn.levels_to_signed(batch["image"], family.levels)).permute(0, 3, 1, 2)
        np.testing.assert_array_equal(twin.tokenizer.codes(signed), codes)
        assert len(np.unique(codes)) > 3
    theirs = with_noise_of_the_package(family, twin, params, batch)
    assert theirs.item() == pytest.approx(float(ours), rel=2e-6)
    theirs.backward()
    wanted = named(family, grads)
    for key, parameter in module.named_parameters():
        scale = np.abs(wanted[key]).max()
        np.testing.assert_allclose(parameter.grad, wanted[key], atol=2e-5 * scale + 1e-7, rtol=1e-3, err_msg=key)
    assert not any(parameter.grad is not None for key, parameter in twin.named_parameters()
                   if key.startswith("tokenizer."))


def load(module, values):
    module.load_state_dict({name: tensor(np.ascontiguousarray(value)) for name, value in values.items()})


@pytest.mark.parametrize("number", range(6))
def test_cases_have_twins_of_as_many_parameters(number):
    from tools import _bench_cases as cases
    from tools import _bench_ours, _torch_twins

    case = cases.OTHER_IMAGES[2 * number]._replace(size=1e4, batch=4)
    e, rows = _bench_ours.experiment(case), _bench_ours.Rows(case).rows
    step, count = _torch_twins.trainer(e.family, e.optim)
    assert count == cost.param_count(e.family)["total"]
    step({name: tensor(x[:4]) if name == "image" else tensor(x[:4]).long() for name, x in rows.items()})
