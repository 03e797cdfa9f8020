"""How long a plan takes: at the rate of runs like its own that have finished here, or else at one measured elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling import families
from scaling.figures import words
from scaling.results.speeds import measured_rates, nearest_rate
from scaling.results.tuned import PARAMS
from scaling.training.counts import counts

if TYPE_CHECKING:
    import pandas as pd

# {(family, body): share of the rate of matrix products}: the executed FLOPs of whole studies over their seconds, with
# compilation, evaluation and samples, beside the rate of matrix products on as many cores. configs/quickstart.py,
# vae_scaling.py and gan_scaling.py took two CPU cores. The other bodies of the VAE were compared with "tokens" by the
# time of a step at 4e4 parameters. The others are of one core, at 1.7e11 FLOP/s: by seconds a pilot of ten runs on the
# help pages of translation.py (0.2; 0.08 of its quick variant), the studies on ten times the compute of generators.py
# (diffusion, coded), and the quick variants of fsq_scaling.py, classifier.py and multimodal.py; by processor time, since
# other work ran beside them, those of textgan.py, pretrain.py and three runs of sequence.py (GRU, hidden Markov model).
# The share grows with the size of models and with the number of steps, since compilation takes a third to two thirds of
# the shortest studies.
SHARES = {("transformer", ""): 0.33, ("vae", "tokens"): 0.10, ("vae", "linear"): 0.09, ("vae", "conv"): 0.05,
          ("gan", "tokens"): 0.05, ("ngram", ""): 3e-5, ("seq2seq", ""): 0.10, ("coded", ""): 0.03, ("diffusion", ""): 0.03,
          ("classifier", ""): 0.025, ("fsq", "tokens"): 0.02, ("multimodal", ""): 0.015,
          ("masked", ""): 0.06, ("textgan", ""): 0.01, ("recurrent", ""): 0.03, ("hmm", ""): 0.03}
UNMEASURED = 0.05  # of all others


def expected_seconds(plans, matmul_rate: float, records: pd.DataFrame | None) -> tuple[float, str]:
    """(seconds that the plans take, a phrase that says which rates this takes).

    `matmul_rate` is that of matrix products here, in FLOP/s. `records` are those of the workdir, None where it has none. A
    pack takes the rate of finished runs of its family, body and size; where there are none, of the nearest size within a
    factor of `speeds.NEAR`; where there are none either, the share of `matmul_rate` that is known of its family and body.
    """
    measured = {} if records is None else measured_rates(records)
    seconds, seconds_measured, assumed = 0.0, 0.0, set()
    for pack in (pack for plan in plans for pack in plan.packs):
        found, kind = _nearest(measured, pack.experiment), _kind(pack.experiment)
        share = SHARES.get(kind, UNMEASURED)
        rate = found or matmul_rate * share
        took = pack.flops_executed() / rate
        seconds += took
        seconds_measured += took if found else 0.0
        if not found:
            name = " of body ".join(filter(None, kind))
            assumed.add(f"{100 * share:.2g}% for a {name}{'' if kind in SHARES else ', a guess'}")
    parts = []
    if seconds_measured:
        whole = "" if not assumed else f" for {seconds_measured / seconds:.0%} of that time"
        parts.append(f"at the rate of runs that have finished in this workdir{whole}")
    if assumed:
        parts.append(f"at the share of the {words.short(matmul_rate / 1e9)} GFLOP/s of matrix products here that studies "
                     f"have reached on one or two CPU cores ({', '.join(sorted(assumed))})")
    return seconds, " and ".join(parts)


def _kind(experiment) -> tuple[str, str]:
    """(family, body) of an experiment; "" for families without bodies."""
    return families.name(experiment.family), getattr(experiment.family, "body", "")


def _nearest(measured, experiment) -> float | None:
    """The measured rate of the size nearest to the experiment's, or None where none is near."""
    return nearest_rate(measured.get(_kind(experiment), {}), counts(experiment, 0)[PARAMS])
