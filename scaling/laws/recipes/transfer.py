"""The data that pretraining saves: effective data transferred (Hernandez et al. 2021, arXiv:2102.01293, section 1.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs

LEAST = 2  # amounts of data from scratch, between which a loss is looked up


def effective_data(scratch: Runs, tuned: Runs) -> pd.DataFrame:
    """The data D_E from scratch that reach the loss of each fine-tuned run, and what pretraining adds, D_T = D_E - D_F.

    scratch, tuned: runs with N, D and a loss that falls; D of a fine-tuned run is D_F, without the data of its pretraining.
    Returns the columns N, D_F, loss, D_E and D_T, a row for each N and D_F with runs of both kinds at that N; seeds are
    averaged. D_E is read off the losses from scratch of the same N, between neighbouring amounts linearly in log D. It is
    NaN for a loss that no amount from scratch encloses: train on more data, or on less, from scratch.
    Raises LawError where no size has runs of both kinds.
    """
    tables = [pd.DataFrame({"N": runs.positive("N"), "D": runs.positive("D"), "loss": runs.values("y")}).groupby(
        ["N", "D"], as_index=False)["loss"].mean() for runs in (scratch, tuned)]
    rows = []
    for n, own in tables[1].groupby("N"):
        curve = tables[0][tables[0]["N"] == n].sort_values("D")
        if len(curve) < LEAST:
            continue
        # More data never hurt but for noise; `np.interp` wants rising losses.
        falling = np.minimum.accumulate(curve["loss"].to_numpy())[::-1]
        found = np.exp(np.interp(own["loss"], falling, np.log(curve["D"].to_numpy())[::-1], left=np.nan, right=np.nan))
        rows.append(own.rename(columns={"D": "D_F"}).assign(D_E=found, D_T=found - own["D"].to_numpy()))
    if not rows:
        raise LawError(f"no size has both fine-tuned runs and runs from scratch on {LEAST} amounts of data or more: the "
                       f"sizes are N = {_shown(tables[1])} and N = {_shown(tables[0])}; train both on the same ones")
    return pd.concat(rows, ignore_index=True)


def _shown(table) -> str:
    return ", ".join(f"{n:g}" for n in sorted(set(table["N"])))
