"""How close generated images are to real ones, and whether they are copies.

    judge = Judge(source)
    judge(images)          # {"fd": ..., "coverage": ..., ...}
    judge.floor()          # the same of real images that the reference set does not hold
    judge.memoriser(1000)  # the same of a generator that knows the first 1,000 training images, nothing else
    judge.describe()       # what has to stand beside every number: space, hash of its weights, resize rule
"""
import functools

import numpy as np

from scaling.evaluate import critic, distances, features
from scaling.fields import EvaluateError

NEIGHBOURS = 5      # of the balls behind precision, recall, density and coverage (Naeem et al. 2020)
NEARER = 0.01       # share of held-out real images that count as memorised
TRAINING = 2        # training images that copies are sought among, in units of `samples`
MEMORY = 16         # the most that a memoriser is given, in the same units


class Judge:
    """Compares sets of images with held-out real ones of `source`, in one feature space.

    The reference is the first `samples` images of the source's i.i.d. evaluation split; as many after them
    are what `floor` judges and `memorised` is calibrated on. Judge about as many images as `samples`, and the
    same number each time: distances other than those at infinity, KID and CMMD depend on it. Labels are the
    caller's business: images conditioned on the reference's labels are the ones to compare with it.

    `features` names the space (see `scaling.evaluate.features`), `weights` the file that inception and dinov2
    need; `critic_steps` above 0 adds the error of a fresh critic. Making one extracts the reference's
    features and, for features="classifier", trains the classifier when `data_dir` does not hold it yet.
    """

    def __init__(self, source, features="classifier", samples=4096, critic_steps=0, data_dir=None, weights="",
                 progress=True):
        self.source, self.samples, self.critic_steps = source, samples, critic_steps
        held_out = source.evaluation(source.splits[0], 2 * samples)["image"]
        self._reference, self._held_out = held_out[:samples], held_out[samples:]
        self._training = self._images(range(min(source.unique_examples, TRAINING * samples)))
        self._space = _find(features, self._held_out, source.levels, weights, data_dir, progress)
        self._real = self._space(self._reference)
        self._moments = distances.moments(self._real)
        self._radii = distances.radii(self._real, NEIGHBOURS)
        self._sigma = distances.median_distance(self._real)
        self._near = float(np.quantile(self._nearest(self._held_out), NEARER))

    def __call__(self, images) -> dict[str, float]:
        """Metrics of uint8 images [n, size, size, channels] with values 0..levels-1.

        fd, fd_infinity: Fréchet distance at n images and extrapolated to infinitely many; fd_relative and
        fd_infinity_relative are over the trace of the real covariance, as a space's scale means nothing. kid
        with kid_se, cmmd: unbiased, near 0 (or below) for equal distributions. precision, recall, density,
        coverage, missed = 1 - coverage. In pixels of [0, 1], whatever the space: sliced_wasserstein over root
        mean square pixel; nearest, the mean distance (root mean square over pixels) to the nearest training
        image; and memorised, the share of images that are nearer to a training image than all but 1% of
        held-out real ones, so 0.01 for a model that copies nothing. critic_error (0.5: a fresh critic cannot
        tell real from generated) and critic_advantage = 1 - 2 critic_error when there are critic_steps.
        """
        images = self._checked(images)
        fake = self._space(images)
        scale = float(np.trace(self._moments[1]))
        found = {"fd": distances.frechet(self._moments, distances.moments(fake)),
                 "fd_infinity": distances.fd_infinity(self._real, fake)}
        found |= {f"{name}_relative": value / scale for name, value in found.items()}
        found["kid"], found["kid_se"] = distances.kid(self._real, fake)
        found["cmmd"] = distances.cmmd(self._real, fake, self._sigma)
        found |= distances.manifolds(self._real, fake, NEIGHBOURS, real_radii=self._radii)
        found["missed"] = 1 - found["coverage"]
        pixels = [self._pixels(x) for x in (self._reference, images)]
        found["sliced_wasserstein"] = distances.sliced_wasserstein(*pixels)
        nearest = self._nearest(images)
        found |= {"nearest": float(nearest.mean()), "memorised": float((nearest <= self._near).mean())}
        if self.critic_steps:
            error = critic.error(self._reference, images, self.critic_steps, self.source.levels)
            found |= {"critic_error": error, "critic_advantage": 1 - 2 * error}
        return found

    def memoriser(self, d: int) -> dict[str, float]:
        """Metrics of `samples` draws, with replacement, from the first d training images.

        The baseline beside every curve over data: it falls with d although nothing is learnt. More than 16
        `samples` count as so many: what is left of the distance is then below the noise of the draws.
        `memorised` sees copies of the first 2 `samples` training images.
        """
        if not 0 < d <= self.source.unique_examples:
            raise EvaluateError(f"a memoriser of {d} images needs as many unique training images; the source "
                                f"has {self.source.unique_examples}")
        known = min(d, MEMORY * self.samples)
        return self(self._images(np.random.default_rng(0).integers(known, size=self.samples)))

    @functools.cached_property
    def _floor(self):
        return self(self._held_out)

    def floor(self) -> dict[str, float]:
        """Metrics of real images: what a perfect model would get at this number of samples."""
        return dict(self._floor)

    def describe(self) -> dict:
        """What a metric depends on: two results compare only where these are equal.

        All of it but the number of unique training images, which decides `nearest` and `memorised` only.
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
        """Training images by their place in the fixed order, which is that of epoch 0 under any seed."""
        indices, size = np.asarray(indices), self.source.batch_size
        batches, places = np.divmod(indices, size)
        read = {int(step): None for step in np.unique(batches)}
        for step in read:
            read[step] = self.source.batch(0, step)["image"]
        return np.stack([read[int(b)][p] for b, p in zip(batches, places, strict=True)])

    def _pixels(self, images):
        """float32 [n, pixels] in [0, 1] / sqrt(pixels): distances are root mean squares over pixels."""
        rows = images.reshape(len(images), -1).astype(np.float32)
        return rows / np.float32((self.source.levels - 1) * np.sqrt(rows.shape[1]))

    def _nearest(self, images):
        return distances.nearest(self._pixels(images), self._pixels(self._training))[0]


def _find(name, examples, levels, weights, data_dir, progress):
    return features.find(name, features.Judged(examples, levels, weights, data_dir, progress))
