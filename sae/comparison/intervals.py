"""How sure a mean over cells is: blocks, Student's t, Holm's correction, power.

Three questions have three intervals. Over (dataset, family) blocks: would other families
of backbones say the same, on these datasets? Over (dataset, backbone) pairs: would other
backbones, as if each were a family of its own? Over fresh seeds with the cells fixed:
would other seeds?
"""

import numpy as np
import pandas as pd
from pydantic import Field

# Of Student's t; scipy.stats takes a second to import.
from scipy.special import nctdtr, stdtr, stdtrit

from sae.core.options import Options, Share

BACKBONE = ["dataset", "backbone"]
POWER = 0.8  # with which the smallest effect is found


class Rule(Options):
    """How wide intervals are, and of how many blocks there is a word.

    Attributes:
        confidence: The coverage of intervals; 1 minus it is the level of tests.
        min_blocks: With fewer blocks nothing is tested.
    """

    confidence: Share = 0.95
    min_blocks: int = Field(default=3, ge=2)

    @property
    def level(self) -> float:
        """The level of a test, .05 of a confidence of .95."""
        return 1 - self.confidence


def student(sample: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean, half the width of its interval, and p against 0.

    All by Student's t. Interval and p are NaN of fewer than two values.
    """
    count = len(sample)
    mean = float(np.mean(sample)) if count else np.nan
    if count < 2:
        return mean, np.nan, np.nan
    error = float(np.std(sample, ddof=1)) / count**0.5
    if error == 0:
        return mean, 0.0, float(mean == 0)
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * error
    p = float(2 * stdtr(count - 1, -abs(mean) / error))
    return mean, half, p


def holm(p: pd.Series) -> pd.Series:
    """Return Holm's corrected p values (1979); those that are NaN take no part."""
    known = p.dropna().sort_values(kind="stable")
    factors = len(known) - np.arange(len(known))
    corrected = np.maximum.accumulate(factors * known.to_numpy())
    return pd.Series(np.minimum(corrected, 1.0), known.index).reindex(p.index)


def smallest_found(sample: np.ndarray, level: float) -> float:
    """Return the smallest true mean that a t test at a level finds with `POWER`.

    The standard deviation is taken to be that of the sample. NaN of fewer than two values.
    """
    count = len(sample)
    if count < 2:
        return np.nan
    error = float(np.std(sample, ddof=1)) / count**0.5
    critical = float(stdtrit(count - 1, 1 - level / 2))
    # By bisection, in units of the standard error; the power rises with the mean.
    low, high = 0.0, 100.0 + critical
    for _ in range(60):
        middle = (low + high) / 2
        power = 1 - float(nctdtr(count - 1, middle, critical))
        low, high = (middle, high) if power < POWER else (low, middle)
    return high * error
