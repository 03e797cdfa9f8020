"""Claims about scale: a statement, the runs that decide it, a rule that was written first, and a verdict.

A claim is a file of `experiments/claims/` with a `CLAIM`; `python -m experiments.claims` lists, tries and shows them.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.claims import pages, registry, statistics
    from scaling.claims.claim import (
        BUDGETS,
        LEVEL,
        REFUTED,
        REPRODUCED,
        UNDECIDED,
        Claim,
        Criterion,
        Estimate,
        Finding,
        Line,
        Panel,
        Part,
        Trained,
    )
    from scaling.claims.registry import ClaimError
    from scaling.claims.trial import Trial, parse_changes

__getattr__, __dir__ = lazy(__name__)
__all__ = ["BUDGETS", "Claim", "ClaimError", "Estimate", "Finding", "LEVEL", "Line", "Panel", "Part", "REFUTED",
           "REPRODUCED", "Criterion", "Trained", "Trial", "UNDECIDED", "pages", "parse_changes", "registry", "statistics"]
