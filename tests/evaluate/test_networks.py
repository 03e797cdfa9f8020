"""Pretrained networks: resize rules, and each layer of InceptionV3 and DINOv2 against torch."""
import jax
import numpy as np
import pytest
from boxed_flags import Box
from PIL import Image
from vit_weights import vit_state

from scaling.evaluate import features
from scaling.evaluate.pretrained import dinov2, inception, resize, weights

with Box():
    from tools import convert_weights


def apply(rule, x):
    """A one-channel image through a rule's matrices, values as they are."""
    return rule.matrix(x.shape[0], rule.size) @ x @ rule.matrix(x.shape[1], rule.size).T


@pytest.mark.parametrize("shape", [(16, 16), (64, 48), (512, 320)])
def test_the_clean_fid_rule_is_pillows_antialiased_bicubic(shape):
    x = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    pillow = Image.fromarray(x, mode="F").resize((299, 299), resample=Image.Resampling.BICUBIC)
    np.testing.assert_allclose(apply(resize.RULES["clean-fid"], x), np.asarray(pillow), atol=1e-3)


def test_the_tf1_rule_has_no_half_pixel_offset():
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None], (16, 16))
    column = apply(resize.RULES["tf1"], ramp)[:, 0]
    np.testing.assert_allclose(column, np.minimum(np.arange(299) * 16 / 299, 15), atol=1e-5)
    halved = resize.interpolation(8, 4, half_pixel=False)
    np.testing.assert_array_equal(halved.argmax(1), [0, 2, 4, 6])  # it picks pixels: aliasing, as TF1 does


@pytest.mark.parametrize("rule", resize.RULES.values(), ids=lambda rule: rule.name)
def test_rules_scale_levels_and_repeat_grey(rule):
    black, white = np.zeros((1, 16, 16, 1), np.uint8), np.ones((1, 16, 16, 1), np.uint8)
    low, high = (np.asarray(rule(x, levels=2)) for x in (black, white))
    assert low.shape == (1, rule.size, rule.size, 3)
    np.testing.assert_allclose(low[0, 0, 0], -np.array(rule.mean) / rule.std, rtol=1e-5)
    np.testing.assert_allclose(high[0, 0, 0], (255 - np.array(rule.mean)) / rule.std, rtol=1e-4)


def test_networks_refuse_the_weights_of_other_networks():
    vit = vit_state()
    with pytest.raises(weights.WeightsError, match="not a file of InceptionV3.*Conv2d_1a_3x3"):
        inception.Inception(vit)
    with pytest.raises(weights.WeightsError, match="not a file of a DINOv2.*cls_token"):
        dinov2.DinoV2({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3))})
    with pytest.raises(weights.WeightsError, match=r"'norm.weight' has the shape \(127,\), not \(128,\)"):
        dinov2.DinoV2(vit | {"norm.weight": np.zeros(127)})


def test_dinov2_shapes_without_torch():
    network = dinov2.DinoV2(vit_state())
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 3)).astype(np.float32)
    layers = network.layers(x)
    assert layers["tokens"].shape == (2, 10, 128) and layers["class"].shape == (2, 128)
    # Other sizes resample the positions of patches, but not that of the class token.
    assert network.positions(4, 5).shape == (1, 21, 128)
    np.testing.assert_array_equal(network.positions(4, 5)[:, 0], network.positions(3, 3)[:, 0])


def converted(torch, twin, path):
    """The arrays of a torch module, by way of its file and the converter."""
    torch.save(twin.state_dict(), path.with_suffix(".pth"))
    convert_weights.convert(path.with_suffix(".pth"), path)
    return weights.read_weights(path).arrays


def same(layers, expected, channels_last):
    assert sorted(layers) == sorted(expected)
    for name, want in expected.items():
        want = want.detach().numpy()
        want = want.transpose(0, 2, 3, 1) if want.ndim == 4 and channels_last else want
        scale = np.abs(want).max()
        np.testing.assert_allclose(np.asarray(layers[name]) / scale, want / scale, atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_every_layer_of_inception_equals_torchs(tmp_path):
    torch = pytest.importorskip("torch")
    import torch_twins
    twin = torch_twins.randomised(torch_twins.Inception())
    network = inception.Inception(converted(torch, twin, tmp_path / "w.safetensors"))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 107, 123)).astype(np.float32)
    with torch.no_grad():
        expected = twin.layers(torch.from_numpy(x))
    same(jax.jit(lambda n, x: n.layers(x))(network, x.transpose(0, 2, 3, 1)), expected, channels_last=True)
    # All of pytorch-fid from grey images of 16 levels, with resizing and scaling.
    images = np.random.default_rng(0).integers(0, 16, (2, 16, 16, 1)).astype(np.uint8)
    with pytest.warns(UserWarning, match="not converted from the official file"):
        judged = features.DataToJudge(images, 16, str(tmp_path / "w.safetensors"))
        space = features.find_features("inception/pytorch-fid", judged)
    resized = torch.nn.functional.interpolate(torch.from_numpy(images.transpose(0, 3, 1, 2) / 15.0),
                                              (299, 299), mode="bilinear", align_corners=False)
    with torch.no_grad():
        want = twin.layers((2 * resized - 1).float().expand(-1, 3, -1, -1))["pool"].numpy()
    np.testing.assert_allclose(space(images), want, atol=2e-4 * np.abs(want).max())
    assert space.describe() == {"name": "inception", "weights": weights.read_weights(tmp_path / "w.safetensors").sha256,
                                "resize": "pytorch-fid", "dimension": 2048, "official": False}


@pytest.mark.parametrize("options", [{}, {"registers": 4}, {"gated": True}], ids=str)
@pytest.mark.parametrize("shape", [(70, 70), (56, 84)])
def test_every_layer_of_dinov2_equals_torchs(tmp_path, options, shape):
    torch = pytest.importorskip("torch")
    import torch_twins
    twin = torch_twins.randomised(torch_twins.DinoV2(**options))
    network = dinov2.DinoV2(converted(torch, twin, tmp_path / "w.safetensors"))
    x = np.random.default_rng(0).normal(size=(2, 3, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = twin.layers(torch.from_numpy(x))
    same(jax.jit(lambda n, x: n.layers(x))(network, x.transpose(0, 2, 3, 1)), expected, channels_last=False)


def test_the_pytorch_fid_rule_is_torchs_bilinear():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0, 255, (20, 400))  # float64, as then torch's positions are
    want = torch.nn.functional.interpolate(torch.from_numpy(x)[None, None], (299, 299), mode="bilinear",
                                           align_corners=False)[0, 0]
    np.testing.assert_allclose(apply(resize.RULES["pytorch-fid"], x), want.numpy(), atol=1e-4)
