"""What the checkpoint tools measure on weights: planted singular values and norms come back."""

import numpy as np
import pytest
from checkpoint_tools import TINY, drawn, experiment

from scaling import cost, families
from tools import _checkpoints
from tools import _checkpoints_measure as measure


def weights(family, arrays):
    run = experiment(family)
    return _checkpoints.Weights("here", 1, run, arrays, _checkpoints._names(run, arrays, "here"))


def orthogonal(size, rng):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def test_planted_singular_values_come_back_from_every_layer_and_reshaping():
    rng, values = np.random.default_rng(0), np.array([[8.0, 4.0, 2.0], [5.0, 5.0, 5.0]])
    layers = np.stack([orthogonal(6, rng)[:, :3] * v @ orthogonal(3, rng) for v in values])
    for names, shape in ((("layers", "heads", "head_dim", "embed"), (2, 2, 3, 3)),
                         (("layers", "kernel_height", "kernel_width", "channels_in", "channels_out"),
                          (2, 1, 2, 3, 3))):
        found = measure.pieces("model/out/weight", layers.reshape(shape), names)
        assert [layer for layer, _ in found] == [0, 1] and found[0][1].shape == (6, 3)
        for (_, matrix), planted in zip(found, values):
            s = measure.spectrum(matrix)
            np.testing.assert_allclose(s["singular_values"], planted, rtol=1e-12)
            assert [s["sigma_max"], s["sigma_min"]] == pytest.approx([planted[0], planted[-1]])
            assert s["stable_rank"] == pytest.approx((planted**2).sum() / planted[0]**2)
            share = planted / planted.sum()
            assert s["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
            assert s["gain"] == pytest.approx(planted[0] / np.sqrt(3 / 6))
    wide = measure.pieces("model/q/weight", layers.swapaxes(1, 2).reshape(2, 3, 2, 3),
                          ("layers", "embed", "heads", "head_dim"))
    assert wide[1][1].shape == (3, 6) and measure.spectrum(wide[1][1])["effective_rank"] == pytest.approx(3)


def test_layers_are_found_wherever_they_are_stacked():
    array = np.random.default_rng(0).standard_normal((4, 2, 3, 5))
    found = measure.pieces("gen/styles/weight", array, ("latent", "layers", "style", "embed"))
    np.testing.assert_array_equal(found[1][1], array[:, 1].reshape(4, 15))
    assert measure.kind("gen/styles/weight", ("latent", "layers", "style", "embed")) == "latent → style embed"
    assert measure.kind("x/k/weight", ("layers", "embed", "kv_heads", "head_dim")) == "embed → heads"
    assert measure.kind("x/q/bias", ("layers", "heads", "head_dim")) == measure.VECTORS


def test_matrices_that_are_zero_or_not_finite_have_no_spectrum():
    zero, broken = measure.spectrum(np.zeros((3, 2))), measure.spectrum(np.array([[1.0, np.nan], [0.0, 1.0]]))
    assert zero["sigma_max"] == 0 and np.isnan(zero["stable_rank"]) and np.isnan(zero["effective_rank"])
    assert np.isnan(broken["singular_values"]).all() and np.isnan(broken["stable_rank"])


@pytest.mark.parametrize("family", [
    TINY, families.find("vae").ladder(1e4), families.find("gan").ladder(1e4),
    families.find("gan").ladder(1e4, body="dcgan")], ids=["transformer", "vae", "gan", "gan-dcgan"])
def test_counts_equal_those_of_cost_and_norms_those_of_numpy(family):
    arrays = drawn(family)
    frame = measure.rows(weights(family, arrays))
    counts = cost.param_count(family)
    assert frame["parameters"].sum() == counts["total"]
    assert {row["axes"]: row["parameters"] for row in measure.by_axes(frame)} == counts["by_axes"]
    modules = {row["module"]: row for row in measure.by_module(frame, 9)}
    for player, count in counts["by_player"].items():
        assert modules[player]["parameters"] == count
    for name, row in modules.items():
        inside = [array for path, array in arrays.items() if f"{path}/".startswith(f"{name}/")]
        norm = np.sqrt(sum(np.float64(np.vdot(array, array)) for array in inside))
        assert row["norm"] == pytest.approx(norm, rel=1e-5)
