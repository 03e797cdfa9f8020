"""Distances between two sets of feature vectors, as pure functions of arrays [n, d], in NumPy.

Sums and statistics are float64. Computations that are quadratic in the number of images go through blocks of rows, so
memory grows with the number of images and not with its square.
"""
import functools
import math

import numpy as np

BLOCK = 512  # rows at a time: 8 MB of float32 against 4,096 others


def moments(x):
    """Mean [d] and unbiased covariance [d, d] of x [n, d], float64."""
    x = np.asarray(x, np.float64)
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / max(1, len(x) - 1)


def sqrtm(matrix):
    """The symmetric root of a symmetric positive semi-definite matrix, by eigendecomposition in float64.

    Eigenvalues that rounding made negative count as zero, so singular matrices need no special case, unlike with
    scipy.linalg.sqrtm.
    """
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return (vectors * np.sqrt(values.clip(0.0))) @ vectors.T


def frechet(real, fake):
    """Fréchet distance of two Gaussians (mean, covariance): Heusel et al. 2017, arXiv:1706.08500, eq. 6.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); C1 C2 has the eigenvalues of C1^(1/2) C2 C1^(1/2), which is
    symmetric.
    """
    (mean_a, cov_a), (mean_b, cov_b) = real, fake
    root = sqrtm(cov_a)
    product = root @ cov_b @ root
    cross = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0.0)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_influence(real, fake):
    """What each image adds to the Fréchet distance of real [m, d] and fake [n, d], to first order: float64 [m] and [n].

    The mean of either is zero, and its standard error that of the distance, extrapolated or not. With the optimal map T
    of the fake Gaussian to the real one (Dowson & Landau 1982, eq. 16), the derivative by the fake covariance is I - T and
    by the fake mean 2 (m_fake - m_real). T^-1 maps the real Gaussian to the fake one.
    """
    moments_of = moments(real), moments(fake)
    return _one_influence(*moments_of[::-1], real), _one_influence(*moments_of, fake)


def _one_influence(fixed, moved, x):
    """The influence of each row of x, whose moments are `moved`, on its distance to a Gaussian with moments `fixed`."""
    (mean_a, cov_a), (mean_b, cov_b) = fixed, moved
    root = sqrtm(cov_a)
    values, vectors = np.linalg.eigh(root @ cov_b @ root)
    floor = 1e-10 * max(values[-1], 1e-300)  # a direction that a set lacks adds nothing
    inverse = np.where(values > floor, 1 / np.sqrt(values.clip(floor)), 0.0)
    transport = root @ (vectors * inverse) @ vectors.T @ root
    centred, slope = np.asarray(x, np.float64) - mean_b, np.eye(len(mean_b)) - transport
    found = 2 * centred @ (mean_b - mean_a) + ((centred @ slope) * centred).sum(1)
    return found - found.mean()


def fd(real, fake):
    """Fréchet distance of real [m, d] and fake [n, d]. Biased upwards, by about c/m + c/n."""
    return frechet(moments(real), moments(fake))


def fd_infinity(real, fake, parts=5, seed=0):
    """Fréchet distance extrapolated to infinitely many images, after Chong & Forsyth 2019, arXiv:1911.07023.

    The bias is linear in 1/N, so the distance at N = infinity is the intercept of a line. N takes the values n / k for
    k = 1..`parts`. Each distance is the mean over k disjoint parts, so every image has the same weight at every N. Both
    sets shrink together, which removes the biases of both. `real` may instead be an exact pair (mean, covariance); then
    only the fake set has a bias to remove. The result may be below zero for sets that are alike. It is good as long as
    n / parts is several times d.
    """
    rng = np.random.default_rng(seed)
    exact = isinstance(real, tuple)
    fake = np.asarray(fake)[rng.permutation(len(fake))]
    real = real if exact else np.asarray(real)[rng.permutation(len(real))]
    shares, distances = np.arange(1, parts + 1), []
    for k in shares:
        pieces = np.array_split(fake, k)
        others = [real] * k if exact else [moments(r) for r in np.array_split(real, k)]
        distances.append(np.mean([frechet(r, moments(f)) for r, f in zip(others, pieces, strict=True)]))
    return float(np.polynomial.polynomial.polyfit(shares, distances, 1)[0])


def mmd(real, fake, kernel):
    """Unbiased squared maximum mean discrepancy and its standard error: Gretton et al. 2012, eq. 3.

    `kernel(x, y)` returns [b, n] for x [b, d], y [n, d]. The standard error is that of the first-order projection: it is
    right for sets that differ, and up to a factor sqrt(2) too large for sets that do not.
    """
    xx, xy, yx = _row_means(kernel, real, real), *_cross_means(kernel, real, fake)
    yy = _row_means(kernel, fake, fake)
    value = xx.mean() + yy.mean() - xy.mean() - yx.mean()
    variance = 4 * (xx - xy).var(ddof=1) / len(xx) + 4 * (yy - yx).var(ddof=1) / len(yy)
    return float(value), math.sqrt(variance)


def _row_means(kernel, x, y):
    """Mean of kernel(x_i, x_j) over j != i, for each i (x and y are the same set)."""
    means = np.empty(len(x))
    for rows in blocks(len(x)):
        values = kernel(x[rows], y)
        np.fill_diagonal(values[:, rows], 0.0)
        means[rows] = values.sum(1, dtype=np.float64) / (len(x) - 1)
    return means


def _cross_means(kernel, x, y):
    over_y, over_x = np.empty(len(x)), np.zeros(len(y))
    for rows in blocks(len(x)):
        values = kernel(x[rows], y)
        over_y[rows] = values.mean(1, dtype=np.float64)
        over_x += values.sum(0, dtype=np.float64) / len(x)
    return over_y, over_x


def cubic(x, y):
    """(x.y / d + 1)^3, the kernel of KID."""
    values = x @ y.T
    values /= x.shape[1]
    values += 1
    return values * values * values


def gaussian(sigma, x, y):
    """exp(-|x - y|^2 / (2 sigma^2))."""
    return np.exp(squared_distances(x, y) * np.float32(-0.5 / sigma**2))


def kid(real, fake):
    """Kernel Inception distance and its standard error: Binkowski et al. 2018, arXiv:1801.01401, sec. 4.

    This is the unbiased estimate over the whole sets. It has less variance than the mean over random subsets that is
    often reported.
    """
    return mmd(_single(real), _single(fake), cubic)


def cmmd(real, fake, sigma=None, scale=1000.0):
    """`scale` times the unbiased squared MMD with a Gaussian kernel: Jayasumana et al. 2024, arXiv:2401.09603.

    Their features are unit CLIP vectors and their `sigma` is 10. By default `sigma` is the median distance between two
    real images, so that the kernel fits any feature space.
    """
    real, fake = _single(real), _single(fake)
    sigma = median_distance(real) if sigma is None else sigma
    return scale * mmd(real, fake, functools.partial(gaussian, sigma))[0]


def median_distance(x, most=1024):
    """The median distance between two of the first `most` rows of x."""
    x = _single(x[:most])
    return float(np.sqrt(np.median(squared_distances(x, x)[np.triu_indices(len(x), 1)])))


def nearest_neighbours(x, y):
    """For each row of x [n, d], the distance to the nearest row of y [m, d], float64 [n], and that row's index [n]."""
    near_x, near_y = centred(x, y)
    index = np.empty(len(x), int)
    for rows in blocks(len(x)):
        index[rows] = squared_distances(near_x[rows], near_y).argmin(1)
    # The distance of the chosen pair is computed again, since rounding loses a copy's distance of zero above.
    return np.linalg.norm(np.asarray(x, np.float64) - np.asarray(y, np.float64)[index], axis=1), index


def sliced_wasserstein(x, y, projections=128, seed=0):
    """Mean over directions of the 1-D Wasserstein-1 distance of x [n, d], y [m, d]; Bonneel et al. 2015.

    It is in units of the features. Equal d and seed give equal directions.
    """
    directions = np.random.default_rng(seed).normal(size=(projections, np.shape(x)[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    x = np.sort(directions.astype(np.float32) @ _single(x).T, axis=1)
    y = np.sort(directions.astype(np.float32) @ _single(y).T, axis=1)
    # Both quantile functions are constant between the edges i/n and j/m.
    edges = np.union1d(np.arange(x.shape[1] + 1) / x.shape[1], np.arange(y.shape[1] + 1) / y.shape[1])
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    apart = np.abs(x[:, (middle * x.shape[1]).astype(int)] - y[:, (middle * y.shape[1]).astype(int)])
    return float((apart @ width).mean())


def squared_distances(x, y):
    """|x_i - y_j|^2, at least 0: [n, m] of x [n, d], y [m, d]."""
    distances = x @ y.T
    distances *= -2
    distances += np.square(x).sum(1)[:, None]
    distances += np.square(y).sum(1)[None, :]
    return np.maximum(distances, 0, out=distances)


def blocks(n):
    """Slices of at most BLOCK rows that cover n rows."""
    return [slice(start, min(n, start + BLOCK)) for start in range(0, n, BLOCK)]


def _single(x):
    return np.ascontiguousarray(x, np.float32)


def centred(x, y):
    """Both minus the mean of y. Distances stay the same and lose less precision in float32."""
    mean = np.asarray(y, np.float64).mean(0)
    return _single(x - mean), _single(y - mean)
