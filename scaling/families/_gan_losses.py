"""The adversarial games: what each player minimises, given the logits of real and generated images.

Each game is (critic, generator), two functions of the logits `real` and `fake` [B] that return [B] nats. Rows of both are
paired: a generated image has the label of its real image.
"""

import jax
import jax.numpy as jnp
import numpy as np

softplus = jax.nn.softplus

GAMES = {
    # Huang et al. 2501.05441, eq. 2 (Jolicoeur-Martineau 1807.00734): a function of the difference of each pair
    "relativistic": (lambda real, fake: softplus(fake - real), lambda real, fake: softplus(real - fake)),
    # Goodfellow et al. 1406.2661, eq. 1; softplus(-x) is -log sigmoid(x), so G minimises log(1 - D)
    "minimax": (lambda real, fake: softplus(-real) + softplus(fake), lambda real, fake: -softplus(fake)),
    # the same, section 3: the generator maximises log D instead
    "nonsaturating": (lambda real, fake: softplus(-real) + softplus(fake),
                      lambda real, fake: softplus(-fake)),
    # Lim & Ye 1705.02894, section 3
    "hinge": (lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda real, fake: -fake),
}

# Training has broken down if one of these holds at LASTING logged points in a row. A healthy game of this family has mean
# logit differences below 5 and penalties within a few times their median.
LASTING = 3
RELATIVISTIC = 15.0  # absolute mean of D(real) - D(fake): the generator's gradient is then scaled by e^-15
CRITIC_LOSS = (1e-3, 30.0)  # nats: below, the critic has won; above, it no longer tells real from generated
SLOPE = 100.0  # R1 or R2 over its median until then
COLLAPSE = 0.02  # of both coverage and recall; early in training, when samples are varied but bad, coverage alone is as low


def logits_and_slopes(critic, images):
    """Logits [B] of `critic(images)`, and the squared length [B] of the gradient of each logit by its own image.

    It differentiates the sum of the logits. That is exact if the critic scores every example by itself, as networks
    without normalisation across the batch do. The mean over real images is R1, over generated ones R2 (Mescheder et al.
    1801.04406, eq. 9).
    """
    def total(images):
        logits = critic(images)
        return logits.sum(), logits

    slopes, logits = jax.grad(total, has_aux=True)(images)
    return logits, jnp.square(slopes.astype(jnp.float32)).sum(range(1, slopes.ndim))


def critic_loss(game, critic, real, fake, gamma=0.0, penalise="both"):
    """(mean nats, metrics) of `critic`, a function from images [2B, ...] (real, fake, real, ...) to logits [2B].

    The loss includes `gamma` / 2 times R1 + R2, or one of the two if `penalise` is "real" or "fake" (Huang et al., eq. 3
    and 4). Real and generated images are interleaved, so that a sharded batch does not move between devices.
    """
    images = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
    penalised = gamma and penalise
    logits, slopes = logits_and_slopes(critic, images) if penalised else (critic(images), None)
    real, fake = logits.reshape(-1, 2).T
    loss = GAMES[game][0](real, fake).mean()
    metrics = logit_metrics(real, fake) | {"adversarial": loss}
    if penalised:
        r1, r2 = slopes.reshape(-1, 2).T
        metrics |= {"r1": r1.mean(), "r2": r2.mean()}
        penalty = {"both": r1 + r2, "real": r1, "fake": r2}[penalise]
        loss += gamma / 2 * penalty.mean()
    return loss, metrics


def generator_loss(game, real, fake):
    """(mean nats, metrics) of the generator, given the critic's logits [B] of real and generated images."""
    return GAMES[game][1](real, fake).mean(), logit_metrics(real, fake)


def logit_metrics(real, fake):
    return {"logits_real": real.mean(), "logits_fake": fake.mean(), "relativistic": (real - fake).mean()}


def broken(curve, metrics=None):
    """(step, reason) of the first logged point at which training had broken down, or None.

    `curve` is {"step" and metrics such as "disc/r1": array over logged points} of one run, with the names of the train
    step. Missing metrics, and points that are NaN (not logged), are ignored. `metrics` are those of the finished run and
    may hold "coverage" and "recall".
    """
    found = []
    for name in _TESTS.keys() & curve.keys():
        values = np.asarray(curve[name], float)
        logged = ~np.isnan(values)
        values, steps = values[logged], np.asarray(curve["step"])[logged]
        bad = _TESTS[name](values)
        over = [i for i in range(len(bad) - LASTING + 1) if bad[i:i + LASTING].all()]
        if over:
            step, value = int(steps[over[0]]), values[over[0]]
            found.append((step, f"{name} is {value:.3g} at step {step} and no better at the points after it"))
    final = metrics or {}
    coverage, recall = final.get("coverage"), final.get("recall")
    if coverage is not None and recall is not None and max(coverage, recall) < COLLAPSE:
        found.append((int(curve["step"][-1]), f"coverage is {coverage:.3g} and recall {recall:.3g}: the generator "
                                              "has collapsed"))
    return min(found, default=None)


def _far(values):
    return np.abs(values) > RELATIVISTIC


def _won_or_lost(values):
    return (values < CRITIC_LOSS[0]) | (values > CRITIC_LOSS[1])


def _steep(values):
    """More than SLOPE times the median of all earlier points, of which there must be LASTING or more."""
    medians = [np.median(values[:i]) if i >= LASTING else np.inf for i in range(len(values))]
    return values > SLOPE * np.maximum(medians, 1e-6)


_TESTS = {"disc/relativistic": _far, "disc/adversarial": _won_or_lost, "disc/r1": _steep, "disc/r2": _steep}
