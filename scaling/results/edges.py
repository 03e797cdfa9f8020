"""Which cells a fit leaves out because their best learning rate is at the edge of those tried.

Such a cell is not fully tuned, and a law that is fitted to it bends (Lourie et al. 2026). A cell that tried a single rate,
as where a rule sets the rates, has no edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling.results import tuned
from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 3  # sizes, and amounts of data, that a fit keeps if the sweep has as many


def left_out(runs: pd.DataFrame, cells: pd.DataFrame, parameters: int, fit_edges: bool = False) -> pd.Series:
    """For each of `cells`, from `tuned.tuned_cells(runs)`: the edge at which its best rate is and for which a fit leaves it
    out ("lowest" or "highest"), "" where the fit takes it.

    The fit takes all cells with `fit_edges`, and where too few would be left: no more than the `parameters` of the law, or
    fewer than `LEVELS` sizes or amounts of data where the sweep has as many.
    """
    import pandas as pd

    edge = tuned.bracketing(runs, cells)["edge"].reindex(cells.index).fillna("")
    kept = cells[edge == ""]
    levels = all(kept[name].nunique() >= min(LEVELS, cells[name].nunique()) for name in (PARAMS, "data"))
    return edge if levels and len(kept) > parameters and not fit_edges else pd.Series("", cells.index)
