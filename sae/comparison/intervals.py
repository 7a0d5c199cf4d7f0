"""How sure a mean is: Student's t, Holm's correction, power."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# Of Student's t; scipy.stats takes a second to import.
from scipy.special import stdtr, stdtrit

from sae.core.options import Options, Share

BACKBONE = ["dataset", "backbone"]


class IntervalRule(Options):
    """The rule of intervals.

    Attributes:
        confidence: The coverage of intervals; 1 minus it is the level of tests.
    """

    confidence: Share = 0.95

    @property
    def level(self) -> float:
        """The level of a test, .05 of a confidence of .95."""
        return 1 - self.confidence

    @property
    def one_sided(self) -> float:
        """The coverage of the interval of two one-sided tests, .9 of a level of .05.

        It lies within a margin just where both tests, each at the level, say that the
        mean does (Schuirmann 1987).
        """
        return 1 - 2 * self.level


class Estimate(NamedTuple):
    """A mean, and how sure it is by Student's t.

    Attributes:
        mean: The mean of a sample.
        half_width: Half the width of its interval.
        p: The p value of the test that the true mean is 0.
    """

    mean: float
    half_width: float
    p: float


def student(sample: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Estimate the mean of a sample by Student's t.

    Args:
        sample: (n,) values. Of none the mean is NaN; of fewer than two values the
            interval and p are.
        confidence: The coverage of the interval.
    """
    count = len(sample)
    mean = float(np.mean(sample)) if count else np.nan
    if count < 2:
        return Estimate(mean, np.nan, np.nan)
    error = float(np.std(sample, ddof=1)) / count**0.5
    half_width = float(t_quantile(count - 1, confidence)) * error
    return Estimate(mean, half_width, float(t_test(mean, error, count - 1)))


def t_quantile(freedom: ArrayLike, confidence: float) -> np.ndarray:
    """Return how many standard errors reach from a mean to the end of its interval.

    Args:
        freedom: Degrees of freedom.
        confidence: The coverage of the interval, which has two sides.
    """
    return stdtrit(freedom, (1 + confidence) / 2)


def t_test(means: ArrayLike, errors: ArrayLike, freedom: int) -> np.ndarray:
    """Return the p values, of two sides, of the tests that true means are 0.

    Args:
        means: Of samples.
        errors: Their standard errors. Where one is 0, a mean that is not 0 is sure.
        freedom: Degrees of freedom.
    """
    distances = np.abs(np.asarray(means, float))
    varies = np.asarray(errors) != 0  # NaN stays NaN.
    without_error = np.where(distances > 0, np.inf, 0.0)
    t = np.divide(distances, errors, out=without_error, where=varies)
    return 2 * stdtr(freedom, -t)


def holm(p: pd.Series) -> pd.Series:
    """Return Holm's corrected p values (1979); those that are NaN take no part."""
    rising_p = p.dropna().sort_values(kind="stable")
    factors = len(rising_p) - np.arange(len(rising_p))
    corrected = np.maximum.accumulate(factors * rising_p.to_numpy())
    return pd.Series(np.minimum(corrected, 1.0), rising_p.index).reindex(p.index)
