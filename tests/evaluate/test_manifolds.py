"""Precision, recall, density and coverage: another library's values, sets made to differ in one way, standard errors."""
import numpy as np
import pytest

from scaling.evaluate import manifolds


def normal(n, d, seed, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, (n, d))


@pytest.mark.parametrize("seed", range(3))
def test_manifolds_equal_those_of_the_library_prdc(seed):
    prdc = pytest.importorskip("prdc")
    x, y = normal(300, 8, seed), normal(200, 8, seed + 10, mean=0.3, scale=0.8)
    want = prdc.compute_prdc(x, y, nearest_k=4)
    assert manifolds.manifolds(x, y, neighbours=4) == pytest.approx(want, abs=1e-9)


def clusters(n, centres, seed, spread=0.1):
    rng = np.random.default_rng(seed)
    return np.eye(8)[rng.choice(centres, n)] * 10 + rng.normal(size=(n, 8)) * spread


def test_manifolds_of_sets_that_lack_modes_or_precision():
    real = clusters(400, range(8), 0)
    same = manifolds.manifolds(real, clusters(400, range(8), 1))
    assert min(same.values()) > 0.8
    half = manifolds.manifolds(real, clusters(400, range(4), 2))  # half of the modes, each of them well
    assert half["precision"] > 0.8 and half["density"] > 0.8
    assert half["recall"] == pytest.approx(0.5, abs=0.1) and half["coverage"] == pytest.approx(0.5, abs=0.1)
    noisy = manifolds.manifolds(real, clusters(400, range(8), 3, spread=2.0))  # all of them, none of them well
    assert noisy["precision"] < 0.1 and noisy["density"] < 0.1 and noisy["coverage"] < 0.1
    assert noisy["recall"] > 0.8
    # A real outlier has a large ball. Precision counts everything inside it, density hardly does.
    outlier = np.concatenate([real, np.full((1, 8), 30.0)])
    fooled = manifolds.manifolds(outlier, np.full((100, 8), 20.0) + normal(100, 8, 4))
    assert fooled["precision"] > 0.9 and fooled["density"] < 0.5 and fooled["coverage"] < 0.05
    # Draws from few real images: precise, but between repeated points there is no manifold.
    draws = np.random.default_rng(0).integers(20, size=400)
    copies = manifolds.manifolds(real, clusters(400, range(8), 5)[draws])
    assert copies["precision"] > 0.8 and copies["recall"] == 0 and copies["coverage"] < 0.3


def test_radius_is_the_distance_to_the_kth_other_point():
    line = np.array([[0.0], [1], [3], [6], [10]])
    np.testing.assert_allclose(manifolds.radii(line, 2), [3, 2, 3, 4, 7], rtol=1e-6)


@pytest.mark.parametrize("d,mean,scale", [(4, 0.5, 0.9), pytest.param(10, 0.4, 1.1, marks=pytest.mark.slow),
                                           pytest.param(16, 0.1, 0.9, marks=pytest.mark.slow)])
def test_standard_errors_agree_with_repeated_draws(d, mean, scale):
    values, said = [], []
    for seed in range(60):
        x, y = normal(1024, d, 2 * seed), normal(1024, d, 2 * seed + 1, mean, scale)
        values.append(list(manifolds.manifolds(x, y).values()))
        said.append(list(manifolds.manifold_errors(x, y).values()))
    ratio = np.sqrt(np.square(said).mean(0)) / np.std(values, axis=0, ddof=1)
    assert np.all((ratio[1:] > 0.75) & (ratio[1:] < 1.3))  # 60 draws know their scatter within 9%
    assert 0.75 < ratio[0] < 1.6  # where nearly all is precise, parts are less so, and scatter more
