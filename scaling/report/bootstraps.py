"""The bootstrap of a fit in words, and whether its intervals may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scaling.figures.words import percent, plural

ENOUGH = 0.5  # the share of refits that must have converged for their percentiles to be an interval
METHODS = {
    "case": "each draws the runs again with replacement",
    "cluster": "each draws whole clusters of runs again with replacement",
    "noise": "each adds normal noise, as large as the scatter of the runs, to the fitted law",
    "noise cluster": "each adds normal noise to the fitted law, of which the runs of a cluster share a part",
    "wild": "each gives every residual a random sign",
    "wild cluster": "each gives the residuals of every cluster of runs one random sign"}


def refits(fit: Mapping) -> tuple[int, int] | None:
    """(refits that converged, refits that were asked for) of a fit's bootstrap; None without one."""
    boot = fit.get("bootstrap")
    if not boot or not boot.get("draws"):
        return None
    for said in boot.get("diagnostics") or []:
        if found := re.match(r"([\d,]+) of ([\d,]+) refits did not converge", said.get("message", "")
                             if isinstance(said, Mapping) else said):
            failed, asked = (int(group.replace(",", "")) for group in found.groups())
            return asked - failed, asked
    return int(boot["draws"]), int(boot["draws"])  # older files do not count refits that failed


def without_failed_intervals(fit: dict | None) -> tuple[dict | None, str]:
    """(the fit, ""), or the fit without intervals and the reason, where most refits of its bootstrap did not converge."""
    known = refits(fit or {})
    if known is None or known[0] >= ENOUGH * known[1]:
        return fit, ""
    kept = {name: value for name, value in fit.items() if name not in ("intervals", "standard_errors")}
    if kept.get("frontier"):
        kept["frontier"] = [{name: value for name, value in row.items() if name not in ("lo", "hi")}
                            for row in kept["frontier"]]
    return kept, (f"Only {known[0]:,} of {plural(known[1], 'refit')} of the bootstrap converged, so the page shows no "
                  "interval of the fitted law.")


def description(fit: Mapping) -> str:
    """A sentence about how intervals were made: the method, the number of refits, and how many converged."""
    known = refits(fit)
    if known is None:
        return "No bootstrap was made, so no interval is known."
    boot = fit["bootstrap"]
    method = METHODS.get(boot.get("method"), f"by the method {boot.get('method')!r}")
    level = f"The {percent(fit['level'])} intervals" if fit.get("level") else "Intervals"
    return (f"{level} are percentiles over {plural(known[1], 'refit')} (bootstrap; {method}), of which "
            f"{'all' if known[0] == known[1] else f'{known[0]:,}'} converged.")
