"""Precision, recall, density and coverage of one set of feature vectors against another, with their standard errors.

A set's manifold is the union of balls around its images. Each ball reaches to the image's k-th nearest other image.
Computations go through blocks of rows, so memory grows with the number of images and not with its square.
"""

import numpy as np

from scaling.evaluate.distances import blocks, centred, squared_distances

METRICS = ("precision", "recall", "density", "coverage")
PARTS, PART = 16, 128  # standard errors come of at most so many parts, of about so many images or more


def radii(x, neighbours=5):
    """Distance of each row of x [n, d] to its k-th nearest other row: float32 [n]."""
    x = centred(x, x)[0]
    found = np.empty(len(x), np.float32)
    for rows in blocks(len(x)):
        apart = squared_distances(x[rows], x)
        np.fill_diagonal(apart[:, rows], np.inf)
        found[rows] = np.partition(apart, neighbours - 1, axis=1)[:, neighbours - 1]
    return np.sqrt(found)


def manifolds(real, fake, neighbours=5, real_radii=None):
    """{"precision", "recall", "density", "coverage"} of fake [n, d] against real [m, d].

    precision: share of fake images inside the real manifold; recall: share of real images inside the fake one
    (Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1). density: number of real balls around a fake image, over k;
    coverage: share of real balls that contain a fake image (Naeem et al. 2020, arXiv:2002.09797, eqs. 3, 4). Pass
    `radii(real, neighbours)` if they are known already.
    """
    real_balls = np.square(radii(real, neighbours) if real_radii is None else real_radii)
    fake_balls = np.square(radii(fake, neighbours))
    real, fake = centred(real, fake)
    inside, recalled, covered = np.zeros(len(fake)), np.empty(len(real), bool), np.empty(len(real), bool)
    for rows in blocks(len(real)):
        apart = squared_distances(real[rows], fake)
        held = apart <= real_balls[rows, None]
        inside += held.sum(0)
        covered[rows] = held.any(1)
        recalled[rows] = (apart <= fake_balls[None, :]).any(1)
    found = (inside > 0).mean(), recalled.mean(), inside.mean() / neighbours, covered.mean()
    return dict(zip(METRICS, map(float, found), strict=True))


def manifold_errors(real, fake, neighbours=5):
    """{"precision_se", ...}: the standard errors of what `manifolds` gives, which count the noise of both sets.

    Both sets are cut into disjoint parts, and the scatter of the parts' metrics is divided by the root of their number.
    That is right for what depends on near neighbours only, whose variance falls as 1/n. A jackknife is not: it is a third
    too large here, since an image that is left out takes its neighbours' balls along. Of 16 parts it is itself uncertain
    by 18%.
    """
    rng, count = np.random.default_rng(0), max(2, min(PARTS, min(len(real), len(fake)) // PART))
    pieces = [np.array_split(np.asarray(x)[rng.permutation(len(x))], count) for x in (real, fake)]
    found = [list(manifolds(r, f, neighbours).values()) for r, f in zip(*pieces, strict=True)]
    errors = np.std(found, axis=0, ddof=1) / np.sqrt(count)
    return {f"{name}_se": float(error) for name, error in zip(METRICS, errors, strict=True)}
