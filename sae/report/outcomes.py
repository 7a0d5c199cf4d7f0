"""What is said of an effect, in one set of words, wherever it is printed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sae.comparison.intervals import IntervalRule
from sae.comparison.outcomes import (
    BETTER,
    BY_LESS,
    DATASET,
    EQUIVALENT,
    INCONCLUSIVE,
    NEGLIGIBLE,
    NOT_COMPARABLE,
    OUT_OF_REACH,
    TOO_FEW,
    WORSE,
)

MARGIN = f"{NEGLIGIBLE:g}".removeprefix("0")


def meanings(rule: IntervalRule) -> dict[str, str]:
    """Return {word: when it is said}.

    Args:
        rule: The level of tests, and how many blocks they need.
    """
    level = f"{rule.level:.2g}".removeprefix("0")
    return {
        f"{BETTER}, {WORSE}": (
            f"p < {level} after Holm's correction over methods and both scores, "
            "detection and MS, and the mean of every dataset has the effect's sign"
        ),
        f"{EQUIVALENT} {MARGIN}": (
            f"the {rule.one_sided:.0%} interval lies within {MARGIN} of 0: two "
            "one-sided tests, of each effect for itself, uncorrected"
        ),
        f"{BETTER}{BY_LESS} {MARGIN}": f"both, and so {WORSE}{BY_LESS} {MARGIN}",
        INCONCLUSIVE: (
            f"neither. It says what the {rule.confidence:.0%} interval allows, such as "
            "a loss of .001 to a gain of .02"
        ),
        NOT_COMPARABLE: (
            "it says why: the method is out of reach in a quarter of the cells or "
            f"more, there are fewer than {rule.min_blocks} blocks, or there is no "
            "feasible trial"
        ),
    }


def heading(means: pd.DataFrame) -> str:
    """Return the heading of outcomes, which says of what they speak.

    Args:
        means: Of `sae.comparison.outcomes.means`.
    """
    if speaks_of_others(means):
        return "outcome"
    return f"outcome {on_datasets(means)}"


def on_datasets(means: pd.DataFrame) -> str:
    """Return "on these datasets", or "on this dataset" of one.

    Args:
        means: Of `sae.comparison.outcomes.means`.
    """
    return "on these datasets" if means["datasets"].max() > 1 else "on this dataset"


def speaks_of_others(means: pd.DataFrame) -> bool:
    """Say whether outcomes speak of other datasets, since datasets are the blocks."""
    return bool((means["unit"] == DATASET).all())


def is_out_of_reach(row: Mapping[Any, Any]) -> bool:
    """Say whether a method is out of reach, so that its mean is not printed.

    Args:
        row: Of `sae.comparison.outcomes.means`.
    """
    return row["reason"] == OUT_OF_REACH


def say(row: Mapping[Any, Any]) -> str:
    """Return the outcome of an effect in words; "-" of a score that has none.

    Args:
        row: Of `sae.comparison.outcomes.means`.
    """
    outcome = row["outcome"]
    if not isinstance(outcome, str):
        return "-"
    if outcome == NOT_COMPARABLE:
        return f"{outcome}: {_why_not(row)}"
    if outcome != INCONCLUSIVE:
        return outcome
    text = f"{outcome}: {_allowed(row['low'], row['high'])}"
    return f"{text} ({row['reason']})" if isinstance(row["reason"], str) else text


def counted(count: int, noun: str) -> str:
    """Write how many there are of something, such as "1 cell" or "2 cells"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _why_not(row: Mapping[Any, Any]) -> str:
    reason = row["reason"]
    if reason == TOO_FEW:
        return f"{counted(int(row['blocks']), 'block')}, too few"
    if reason != OUT_OF_REACH:
        return str(reason)
    out_of_reach = int(row["out_of_reach"])
    cells = out_of_reach + int(row["cells"]) + int(row["infeasible"])
    if out_of_reach < cells:
        return f"{reason} in {out_of_reach} of {cells} cells"
    return f"{reason} in every cell" if cells > 1 else f"{reason} in its only cell"


def _allowed(low: float, high: float) -> str:
    low = round(low, 3)
    high = round(high, 3)
    if low < 0 < high:
        return f"a loss of {_amount(low)} to a gain of {_amount(high)}"
    if high > 0:
        return f"a gain of {_amount(low)} to {_amount(high)}"
    return f"a loss of {_amount(high)} to {_amount(low)}"


def _amount(value: float) -> str:
    """Write a value without its sign, such as ".02"; 0 as "0"."""
    text = f"{abs(value):.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") or "0"
