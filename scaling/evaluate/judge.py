"""The judge: metrics of sets of images against held-out real ones, in one feature space."""
import functools

import numpy as np

from scaling import nn
from scaling.evaluate import critic, distances, manifolds
from scaling.evaluate.features import DataToJudge, find_features
from scaling.fields import EvaluateError

NEIGHBOURS = 5      # k of the balls of precision, recall, density and coverage (Naeem et al. 2020)
NEARER = 0.01       # the share of held-out real images that counts as memorised
TRAINING = 2        # training images that are searched for copies, in units of `samples`
MEMORY = 16         # at most so many training images are given to a memoriser, in the same units
# The metrics of a judge, and those that a fresh critic adds; the docstring of `Judge.__call__` says what they are.
FRECHET = ("fd", "fd_infinity", "fd_relative", "fd_infinity_relative")
ERRORS = (*FRECHET, "kid", *manifolds.METRICS, "missed", "nearest", "memorised")  # those with a standard error
MEASURED = (*ERRORS, *(f"{name}_se" for name in ERRORS), "cmmd", "sliced_wasserstein")
MEASURED_BY_CRITIC = ("critic_error", "critic_advantage")
MEASURED_OF_CONDITIONS = ("agreement", "agreement_se")  # where images have captions, and the space is a classifier's


def check_judge(source, features="classifier", samples=4096, critic_steps=0, data_dir=None, weights="") -> None:
    """Raises what `Judge` would for these arguments, without training its classifier and without extracting features."""
    held_out = source.evaluation(source.splits[0], 2 * samples)["image"][samples:]
    if features == "labels":
        source.classes("label")
    elif features != "classifier":
        find_features(features, DataToJudge(held_out, source.levels, weights, data_dir, progress=False))


class Judge:
    """Compares sets of images with held-out real ones of `source`, in one feature space.

    The reference is the first `samples` images of the source's i.i.d. evaluation split. `floor` judges the next
    `samples` images, and `memorised` is calibrated on them. Judge about as many images as `samples`, and the same
    number each time: all distances depend on it except those at infinity, KID and CMMD. The caller takes care of labels:
    images to compare should be conditioned on the labels of the reference.

    `features` names the space (see `scaling.evaluate.features`), `weights` the file that inception and dinov2 need, and
    `critic_steps` above 0 adds the error of a fresh critic. The constructor extracts the reference's features and, for
    features="classifier", trains the classifier if `data_dir` does not hold it yet.
    """

    def __init__(self, source, features="classifier", samples=4096, critic_steps=0, data_dir=None, weights="",
                 progress=True):
        self.source, self.samples, self.critic_steps = source, samples, critic_steps
        held_out = source.evaluation(source.splits[0], 2 * samples)["image"]
        self._reference, self._held_out = held_out[:samples], held_out[samples:]
        self._training = self._images(range(min(source.unique_examples, TRAINING * samples)))
        self._space = find_features(features, DataToJudge(self._held_out, source.levels, weights, data_dir, progress,
                                                            source.name))
        self._real = self._space(self._reference)
        told = getattr(source, "caption", 0) and self._space.labels is not None
        self._labels = self._space.predict(self._reference) if told else None
        self._moments = distances.moments(self._real)
        self._radii = manifolds.radii(self._real, NEIGHBOURS)
        self._sigma = distances.median_distance(self._real)
        self._near = float(np.quantile(self._nearest(self._held_out), NEARER))

    def __call__(self, images) -> dict[str, float]:
        """Metrics of uint8 images [n, size, size, channels] with values 0..levels-1.

        - fd, fd_infinity: the Fréchet distance at n images and extrapolated to infinitely many. fd_relative and
          fd_infinity_relative divide by the trace of the real covariance, because the scale of a space means nothing.
          Their standard errors (`_se`) count the noise of both sets.
        - kid with its standard error kid_se, cmmd: unbiased, near 0 (or below) for equal distributions.
        - precision, recall, density, coverage, missed = 1 - coverage, with standard errors that count the noise of both.
        - In pixels of [0, 1], in any space: sliced_wasserstein of pixels / sqrt(number of pixels); nearest, the mean
          distance (root mean square over pixels) to the nearest training image; memorised, the share of images nearer
          to a training image than all but 1% of held-out real images are, so 0.01 for a model that copies nothing.
        - Of captioned data in a classifier's space: agreement, the share of images whose likeliest label is that of the
          reference image with the same number, whose caption they were drawn from.
        - With critic_steps: critic_error (0.5 if a fresh critic cannot tell real from generated) and
          critic_advantage = 1 - 2 critic_error.
        """
        return self.score(images)[0]

    def score(self, images) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The metrics, and {metric: float64 [n]} for Fréchet distances of as many images as the reference has.

        The mean of an array is the metric and its standard error that of the metric. Number i is what image i and image i
        of the reference add. So the difference between two models has the standard error of the difference of arrays.
        """
        images = self._checked(images)
        fake = self._space(images)
        scale = float(np.trace(self._moments[1]))
        found = {"fd": distances.frechet(self._moments, distances.moments(fake)),
                 "fd_infinity": distances.fd_infinity(self._real, fake)}
        found |= {f"{name}_relative": value / scale for name, value in found.items()}
        by_real, by_fake = distances.frechet_influence(self._real, fake)
        error = float(np.hypot(_error_of_mean(by_real), _error_of_mean(by_fake)))
        found |= {f"{name}_se": error / (scale if "relative" in name else 1.0) for name in FRECHET}
        each = {}
        if len(by_real) == len(by_fake):
            each = {name: found[name] + (by_real + by_fake) / (scale if "relative" in name else 1.0) for name in FRECHET}
        found["kid"], found["kid_se"] = distances.kid(self._real, fake)
        found["cmmd"] = distances.cmmd(self._real, fake, self._sigma)
        found |= manifolds.manifolds(self._real, fake, NEIGHBOURS, self._radii)
        found |= manifolds.manifold_errors(self._real, fake, NEIGHBOURS)
        found |= {"missed": 1 - found["coverage"], "missed_se": found["coverage_se"]}
        pixels = [self._pixels(x) for x in (self._reference, images)]
        found["sliced_wasserstein"] = distances.sliced_wasserstein(*pixels)
        nearest = self._nearest(images)
        for name, values in {"nearest": nearest, "memorised": nearest <= self._near}.items():
            found |= {name: float(values.mean()), f"{name}_se": _error_of_mean(values)}
        if self._labels is not None and len(images) == len(self._labels):
            agrees = self._space.predict(images) == self._labels
            found |= {"agreement": float(agrees.mean()), "agreement_se": _error_of_mean(agrees)}
        if self.critic_steps:
            error = critic.critic_error(self._reference, images, self.critic_steps, self.source.levels)
            found |= {"critic_error": error, "critic_advantage": 1 - 2 * error}
        return found, each

    def memoriser(self, d: int) -> dict[str, float]:
        """Metrics of `samples` draws, with replacement, from the first d training images.

        This is the baseline beside every curve over data: it falls with d although nothing is learnt. A d above 16
        `samples` is treated as 16 `samples`, since the rest of the distance is then below the noise of the draws.
        `memorised` recognises copies of the first 2 `samples` training images.
        """
        if not 0 < d <= self.source.unique_examples:
            raise EvaluateError(f"a memoriser of {d} images needs as many unique training images; the source "
                                f"has {self.source.unique_examples}")
        known = min(d, MEMORY * self.samples)
        return self._without_conditions(self._images(np.random.default_rng(0).integers(known, size=self.samples)))

    @functools.cached_property
    def _floor(self):
        return self._without_conditions(self._held_out)

    def floor(self) -> dict[str, float]:
        """Metrics of held-out real images: a perfect model would get these at this number of samples."""
        return dict(self._floor)

    def _without_conditions(self, images):
        """The metrics of images that nobody conditioned on the labels of the reference."""
        return {name: value for name, value in self(images).items() if name not in MEASURED_OF_CONDITIONS}

    def describe(self) -> dict:
        """Everything that metrics depend on. Two results are comparable only if these are equal.

        The number of unique training images is left out: only `nearest` and `memorised` depend on it.
        """
        return {**self._space.describe(), "real": self.source.fingerprint, "split": self.source.splits[0],
                "samples": self.samples, "neighbours": NEIGHBOURS, "sigma": self._sigma,
                "critic_steps": self.critic_steps}

    def _checked(self, images):
        images, shape = np.asarray(images), self._reference.shape[1:]
        if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8 or len(images) < 16:
            raise EvaluateError(f"images to judge must be uint8 [n >= 16, {', '.join(map(str, shape))}], not "
                                f"{images.dtype} {list(images.shape)}")
        if images.max() >= self.source.levels:
            raise EvaluateError(f"images to judge have the value {images.max()}, but the data have levels="
                                f"{self.source.levels}: write values 0..{self.source.levels - 1}")
        return images

    def _images(self, indices):
        """Training images by their place in the fixed order, which is that of the first epoch of seed 0."""
        batches, places = np.divmod(np.asarray(indices), self.source.batch_size)
        read = {step: self.source.batch(0, step)["image"] for step in np.unique(batches).tolist()}
        return np.stack([read[int(b)][p] for b, p in zip(batches, places, strict=True)])

    def _pixels(self, images):
        """float32 [n, pixels]: values in [0, 1] over sqrt(pixels), so that distances are root mean squares over pixels."""
        rows = nn.levels_to_unit(images.reshape(len(images), -1), self.source.levels)
        return rows / np.float32(np.sqrt(rows.shape[1]))

    def _nearest(self, images):
        return distances.nearest_neighbours(self._pixels(images), self._pixels(self._training))[0]


def _error_of_mean(values) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
