"""The entropy of a teacher, and which of its examples are for what."""
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaling.data import contents, order

SPLIT = "iid"                            # the one evaluation split
FIRST = {"train": 0, SPLIT: 1 << 31}     # the number of the first example of each split
PER_SPLIT = 1 << 30                      # examples of the evaluation split
APART = (1 << 31) + PER_SPLIT            # the number of the first example that entropies are estimated from
ESTIMATED = 1 << 16                      # tokens or values that an entropy without a closed form is estimated from


class Entropy(NamedTuple):
    """The entropy of a source in bits per token or dimension, and its standard error: 0 where it is exact."""

    bits: float
    error: float = 0.0


def estimated(nats_of: Callable[[np.ndarray], np.ndarray], units: int) -> Entropy:
    """From the exact nats, [k], that `nats_of` gives for examples by number, each of so many units."""
    count = max(2, ESTIMATED // units)
    bits = nats_of(np.arange(APART, APART + count, dtype=np.uint32)) / (units * math.log(2))
    return Entropy(float(bits.mean()), float(bits.std(ddof=1) / math.sqrt(count)))


def contents_of(things: str, unit: str, entropy: Entropy) -> dict:
    """The `contents` of a teacher's examples; see `scaling.data.contents`."""
    digits = 6 if not entropy.error else max(0, 1 - math.floor(math.log10(entropy.error)))
    error = f" ± {entropy.error:.{digits}f}" if entropy.error else ""
    notes = [f"{things} are drawn without end by a teacher; {SPLIT!r} has others",
             f"the entropy is {entropy.bits:.{digits}f}{error} bits per {unit}: no model has a smaller expected loss, and "
             "`excess` is what a model's loss has beyond it"]
    sizes = {"documents": order.LIMIT - 1, "bytes": 0}
    return contents.totals(sizes, {SPLIT: sizes | {"documents": PER_SPLIT}}, {}, notes, things=things,
                           entropy=entropy._asdict())
