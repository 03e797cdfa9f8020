"""Whether things come as often as their probabilities say."""

import numpy as np


def agree(counts, expected) -> bool:
    """Whether the counts of things have the scatter of Poisson counts around what is expected, within five standard errors.

    Only things that are expected more than 20 times are compared, and there must be more than five of them.
    """
    common = expected > 20
    z = (counts - expected)[common] / np.sqrt(expected[common])
    return bool(common.sum() > 5 and abs((z ** 2).mean() - 1) < 5 * np.sqrt(2 / common.sum()))
