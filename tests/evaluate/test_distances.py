"""Distances between sets: formulas, bias, other libraries' values, and sets made to differ in one way."""
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from scaling.evaluate import distances, manifolds


def normal(n, d, seed, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, (n, d))


def covariance(d, rank, seed):
    factors = normal(d, rank, seed)
    return factors @ factors.T / rank


@pytest.mark.parametrize("rank", [12, 5, 1])
def test_root_squares_to_the_matrix_even_when_that_is_singular(rank):
    matrix = covariance(12, rank, 0)
    root = distances.sqrtm(matrix)
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12)
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    assert np.linalg.eigvalsh(root).min() > -1e-9
    if rank == 12:  # scipy's needs a regular one
        np.testing.assert_allclose(root, scipy.linalg.sqrtm(matrix).real, atol=1e-9)


def test_frechet_distance_equals_its_formula():
    a, b = np.array([1.0, 2, 3]), np.array([4.0, 1, 9])
    shift = np.array([1.0, -2, 0])
    rotation = scipy.linalg.expm(np.array([[0, 1, 2], [-1, 0, 3], [-2, -3, 0.0]]))
    # Commuting covariances: |shift|^2 + sum (sqrt a - sqrt b)^2, in any basis.
    turned = [rotation @ np.diag(v) @ rotation.T for v in (a, b)]
    found = distances.frechet((rotation @ shift, turned[0]), (np.zeros(3), turned[1]))
    assert found == pytest.approx(5 + np.square(np.sqrt(a) - np.sqrt(b)).sum(), abs=1e-10)
    # Any two: with scipy's root of their product, which is not symmetric.
    first, second = covariance(8, 12, 1), covariance(8, 12, 2)
    root = scipy.linalg.sqrtm(first @ second)
    want = np.trace(first + second - 2 * root.real)
    assert distances.frechet((np.zeros(8), first), (np.zeros(8), second)) == pytest.approx(want, abs=1e-8)
    # Singular with different null spaces: the distance is the sum of the traces.
    apart = [(np.zeros(2), np.diag(v)) for v in ([1.0, 0], [0, 4.0])]
    assert distances.frechet(*apart) == pytest.approx(5)


@pytest.mark.parametrize("real_count, fake_count", [(1500, 1500), (3000, 800)])
def test_the_influence_of_images_gives_the_standard_error_of_frechet_distances(real_count, fake_count):
    """200 pairs of sets of 8 features, which differ in mean and covariance; the spread has a relative error of 5%."""
    said, plain, infinite = [], [], []
    turn = covariance(8, 12, 3)
    for seed in range(200):
        real = normal(real_count, 8, 2 * seed)
        fake = normal(fake_count, 8, 2 * seed + 1, mean=0.2) @ (0.5 * np.eye(8) + 0.5 * turn)
        by_real, by_fake = distances.frechet_influence(real, fake)
        assert abs(by_real.mean()) < 1e-9 and abs(by_fake.mean()) < 1e-9
        said.append(np.sqrt(by_real.var() / real_count + by_fake.var() / fake_count))
        plain.append(distances.fd(real, fake))
        infinite.append(distances.fd_infinity(real, fake))
    assert np.mean(said) == pytest.approx(np.std(plain), rel=0.12)
    assert np.mean(said) == pytest.approx(np.std(infinite), rel=0.15)


def test_the_influence_is_the_derivative_of_the_frechet_distance():
    real, fake = normal(400, 5, 0), normal(300, 5, 1, mean=0.3) @ covariance(5, 9, 2)
    by_fake = distances.frechet_influence(real, fake)[1]
    (mean, cov), weight = distances.moments(fake), 1e-6
    for i in (0, 17, 123):  # image i has a little more weight than the others
        moved = mean + weight * (fake[i] - mean)
        spread = cov + weight * (np.outer(fake[i] - mean, fake[i] - mean) - cov)
        before, after = (distances.frechet(distances.moments(real), own) for own in ((mean, cov), (moved, spread)))
        change = after - before
        assert change / weight == pytest.approx(by_fake[i], abs=1e-2 * (1 + abs(by_fake[i])))


def test_frechet_distance_of_samples_is_symmetric_and_zero_for_a_set_with_itself():
    x, y = normal(300, 6, 0), normal(200, 6, 1, mean=0.3)
    assert distances.fd(x, x) == pytest.approx(0, abs=1e-6)
    assert distances.fd(x, y) == pytest.approx(distances.fd(y, x))


def simulate(distance, truth, runs=40):
    """(mean error, standard error of that mean) of an estimator over runs."""
    errors = [distance(run) - truth for run in range(runs)]
    return np.mean(errors), np.std(errors, ddof=1) / np.sqrt(runs)


D, N, SCALES = 16, 640, np.linspace(0.8, 1.6, 16)


def fakes(run):
    return normal(N, D, 2 * run) * SCALES[None, :]


def test_fd_infinity_is_unbiased_where_plain_fd_is_not():
    exact = np.zeros(D), np.eye(D)
    truth = np.square(SCALES - 1).sum()
    biased, error = simulate(lambda run: distances.frechet(exact, distances.moments(fakes(run))), truth)
    assert biased > 5 * error
    left, error = simulate(lambda run: distances.fd_infinity(exact, fakes(run)), truth)
    assert abs(left) < 3 * error and abs(left) < biased / 4


def test_fd_infinity_removes_the_bias_of_both_sets():
    truth = np.square(SCALES - 1).sum()
    left, error = simulate(lambda run: distances.fd_infinity(normal(N, D, 2 * run + 1), fakes(run)), truth)
    assert abs(left) < 3 * error

    def equal(run):
        return normal(N, D, 2 * run), normal(N, D, 2 * run + 1)

    left, error = simulate(lambda run: distances.fd_infinity(*equal(run)), 0.0)
    plain, _ = simulate(lambda run: distances.fd(*equal(run)), 0.0)
    # For equal sets the remaining bias is of second order in d/N.
    assert abs(left) < plain / 8


@pytest.mark.parametrize("distance", [distances.kid, lambda x, y: (distances.cmmd(x, y, sigma=3.0), None)],
                         ids=["kid", "cmmd"])
def test_kernel_distances_have_mean_zero_for_equal_distributions(distance):
    mean, error = simulate(lambda run: distance(normal(60, 4, 2 * run), normal(80, 4, 2 * run + 1))[0], 0.0,
                           runs=200)
    assert abs(mean) < 3 * error


def test_kid_is_the_double_sum_of_its_definition():
    x, y = normal(7, 3, 0), normal(9, 3, 1, mean=0.5)

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])
              for s in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert distances.kid(x, y)[0] == pytest.approx(sum(within) - 2 * across, rel=1e-5)


def test_the_standard_error_of_kid_is_the_spread_over_repetitions():
    found = np.array([distances.kid(normal(200, 4, 2 * run), normal(150, 4, 2 * run + 1, mean=0.5))
                      for run in range(150)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.2)


def test_mmd_is_the_same_however_rows_are_blocked(monkeypatch):
    x, y = normal(50, 3, 0), normal(70, 3, 1)
    want = distances.kid(x, y), distances.cmmd(x, y), manifolds.manifolds(x, y), distances.nearest_neighbours(x, y)
    monkeypatch.setattr(distances, "BLOCK", 16)
    again = distances.kid(x, y), distances.cmmd(x, y), manifolds.manifolds(x, y), distances.nearest_neighbours(x, y)
    np.testing.assert_allclose(again[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(again[1], want[1], rtol=1e-4)
    assert again[2] == want[2]
    np.testing.assert_array_equal(again[3], want[3])


def test_gaussian_mmd_of_gaussians_equals_its_closed_form():
    # E k(x, y) = (1 + 2 / s^2)^(-1/2) exp(-m^2 / (2 (s^2 + 2))) for unit normals in 1-D, their means m apart.
    sigma, shift = 1.5, 1.0
    expected = 2 * (1 + 2 / sigma**2) ** -0.5 * (1 - np.exp(-shift**2 / (2 * (sigma**2 + 2))))

    def pair(run):
        return normal(400, 1, 2 * run), normal(400, 1, 2 * run + 1, mean=shift)

    mean, error = simulate(lambda run: distances.cmmd(*pair(run), sigma, scale=1.0), expected)
    assert abs(mean) < 3 * error and error < expected / 20


def test_nearest_finds_copies_exactly():
    y = normal(500, 20, 0) + 100  # far from the origin, where float32 would lose them
    x = y[[3, 499, 0]]
    distance, index = distances.nearest_neighbours(x, y)
    assert index.tolist() == [3, 499, 0] and distance.tolist() == [0, 0, 0]
    assert distances.nearest_neighbours(x + 0.1, y)[0] == pytest.approx([np.sqrt(20) / 10] * 3)


@pytest.mark.parametrize("sizes", [(50, 50), (30, 70)])
def test_sliced_wasserstein_in_one_dimension_is_scipys(sizes):
    x, y = normal(sizes[0], 1, 0), normal(sizes[1], 1, 1, mean=1.0, scale=2.0)
    want = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert distances.sliced_wasserstein(x, y, projections=3) == pytest.approx(want, rel=1e-5)


def test_sliced_wasserstein_of_a_shift_is_the_mean_projection_of_it():
    x, shift = normal(200, 5, 0), np.array([3.0, 0, 0, 0, 0])
    # The mean of |first coordinate| of a unit vector in five dimensions is 3/8.
    assert distances.sliced_wasserstein(x, x + shift, 4000) == pytest.approx(3 * 3 / 8, rel=0.03)
