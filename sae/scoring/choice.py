"""Choose the SAE that stands for a method in a cell: the best that reconstructs as well.

Protocol `tuned` trains by this rule, cards and tables read by it; docs/protocol.md has
it in words, with an example by hand. All of it is of validation images:

1. A trial is *feasible* if it ended well and its L0 is at most `MOST_L0` times k.
2. It *reconstructs as well* if its R^2 is at least R* minus `MARGIN`, where R* is the
   best R^2 of the baseline's feasible trials.
3. Of the trials that do, the one of highest detection is chosen; of equals that of the
   higher R^2, then the first by name. Where no backbone of another family sees the
   images there is no detection, and the highest R^2 decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DETECTION = "detection"
MS = "ms"
# The scores that have verdicts, in the order in which they are printed.
ENDPOINTS = (DETECTION, MS)
MARGIN = 0.01  # of R^2
MOST_L0 = 1.02  # times k


def feasible(trials: pd.DataFrame) -> pd.Series:
    """Say which trials may be chosen.

    Args:
        trials: With columns `status`, `r2` and `l0` on validation, and `k`. A missing
            value is not feasible.

    Returns:
        A boolean for each row.
    """
    ended_well = (trials["status"] == "ok") & trials["r2"].notna()
    return ended_well & (trials["l0"] <= MOST_L0 * trials["k"])


def best_r2(trials: pd.DataFrame) -> float:
    """Return the best R^2 of a method's feasible trials; NaN if none is feasible.

    Args:
        trials: With columns `r2` and `feasible`.
    """
    return float(trials.loc[trials["feasible"], "r2"].max())


def choose(
    trials: pd.DataFrame, reference_r2: float, score: str = DETECTION
) -> pd.Series | None:
    """Return the trial that is chosen, or None if none reconstructs as well.

    Args:
        trials: A method's in one cell, with columns `trial` (its name), `r2`,
            `feasible` and the score.
        reference_r2: R*, or the R^2 of an SAE that was made elsewhere.
        score: The column that decides; where it is NaN throughout, R^2 does.
    """
    as_well = trials[trials["feasible"] & (trials["r2"] >= reference_r2 - MARGIN)]
    if as_well.empty:
        return None
    in_order = as_well.sort_values(
        [score, "r2", "trial"], ascending=[False, False, True], kind="stable"
    )
    return in_order.iloc[0]
