"""What families that tell the class of an example share: the numbers of each example, and the metrics of all together."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling import nn
from scaling.families._sums import Whole, mean_of

BINS = 15  # of confidence, of equal width (Guo et al. 2017, arXiv:1706.04599, section 2)


def class_numbers(logits, labels):
    """"loss" (nats of the label) and "accuracy", and what `conclude_classes` needs, of float32 logits [B, classes] and
    labels, integer [B]."""
    predicted = logits.argmax(-1)
    return {"loss": mean_of(nn.cross_entropy(logits, labels)), "accuracy": mean_of(predicted == labels), "_label": labels,
            "_predicted": predicted, "_confidence": jax.nn.softmax(logits.astype(jnp.float32)).max(-1)}


def conclude_classes(found) -> dict[str, Whole]:
    """"macro_f1" and "calibration_error" of all examples, from what `class_numbers` says of each, [..., examples]."""
    label, predicted = found["_label"], found["_predicted"]
    return {"macro_f1": _each_run(_macro_f1, label, predicted),
            "calibration_error": _each_run(_calibration_error, label == predicted, found["_confidence"])}


def _each_run(metric, *arrays) -> Whole:
    """A metric of one run, of arrays [examples], for arrays [..., examples]."""
    arrays = [np.asarray(x) for x in arrays]
    rows = [metric(*row) for row in zip(*(x.reshape(-1, x.shape[-1]) for x in arrays), strict=True)]
    values, influences = (np.stack(parts) for parts in zip(*rows, strict=True))
    return Whole(values.reshape(arrays[0].shape[:-1]), influences.reshape(arrays[0].shape))


def _macro_f1(label, predicted):
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN), and what each example adds to its error.

    Classes that no example has and that are never predicted are left out. F1 is a ratio of totals over examples, so that
    the residuals of the mean are the mean of the ratios' residuals (Cochran 1977, "Sampling Techniques", section 6.4).
    """
    classes, right = 1 + max(label.max(), predicted.max()), label == predicted
    named = np.bincount(label, minlength=classes) + np.bincount(predicted, minlength=classes)
    f1 = 2 * np.bincount(label[right], minlength=classes) / np.maximum(named, 1)
    known = np.count_nonzero(named)
    slope = f1 / np.maximum(named, 1)  # what one more example that is named as this class costs
    return f1.sum() / known, (2 * right / named[label] - slope[label] - slope[predicted]) / known


def _calibration_error(right, confidence):
    """The expected calibration error and what each example adds to its error: the sum over bins of confidence of
    |right answers - confidence|, over the number of examples (Guo et al. 2017, arXiv:1706.04599, equation 3).

    Chance alone makes it larger than zero in small bins, and the standard error does not hold that bias.
    """
    confidence = np.asarray(confidence, np.float64)
    gap, count = right - confidence, len(right)
    bins = np.minimum(np.nan_to_num(confidence) * BINS, BINS - 1).astype(int)
    totals = np.bincount(bins, weights=gap, minlength=BINS)
    value = np.abs(totals).sum() / count
    return value, (np.sign(totals)[bins] * gap - value) / count
