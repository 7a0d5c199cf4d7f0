"""Place one SAE beside Top-k SAEs that were tuned on the same images: what a card says.

An SAE that was made elsewhere was not tuned here, so that it takes no part in any
comparison of methods. What can be said is where it stands, on these images, between an
untrained SAE and the best Top-k of as many latents and as many active ones that
reconstructs as well as *it* (`sae.scoring.choice`):

- of the trials of Top-k, short trainings included, those count whose R^2 on validation
  is at least the SAE's own minus `choice.MARGIN`; the one of highest detection is
  chosen, or of highest R^2 where no held-out encoder is given;
- it trains again with seeds of its own, and every score of Top-k is the mean of these
  SAEs on test;
- the interval of the SAE minus Top-k is Student's t of two parts: the jackknife over
  groups of test images (each of `FOLDS` parts of the groups is left out in turn), and
  the seeds of Top-k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from sae.comparison.scores import SCORES
from sae.comparison.verdicts import NEGLIGIBLE

# Parts of the groups of test images that are left out in turn.
FOLDS = 10
CONFIDENCE = 0.95
# What a card says of a score.
BELOW = "below"
LEVEL = "level with"
ABOVE = "above"
INCONCLUSIVE = "inconclusive"
NOT_COMPARABLE = "not comparable"
NO_VERDICT = "no verdict"  # The judge does not know the images.


@dataclass(frozen=True)
class Reading:
    """What a card says of one score.

    Attributes:
        score: Its name in `sae.comparison.scores.SCORES`.
        value: That of the SAE on test.
        untrained: That of untrained SAEs, each at its own R^2.
        topk: That of the best Top-k that reconstructs as well, mean over its seeds; NaN
            where there is none.
        difference: The SAE minus Top-k.
        low, high: The interval of the difference; NaN where there is none.
        word: `BELOW`, `LEVEL`, `ABOVE`, `INCONCLUSIVE`, `NOT_COMPARABLE` or
            `NO_VERDICT`; "" of a score of which nothing is said.
    """

    score: str
    value: float
    untrained: float
    topk: float = nan
    difference: float = nan
    low: float = nan
    high: float = nan
    word: str = ""

    @property
    def way(self) -> float:
        """The share of the way from untrained SAEs to Top-k; NaN if there is none."""
        # Where Top-k has no more than untrained SAEs, there is no way to go.
        better = SCORES[self.score].better
        if not better * (self.topk - self.untrained) > NEGLIGIBLE:
            return nan
        return (self.value - self.untrained) / (self.topk - self.untrained)


def interval(
    difference: float,
    without_fold: Sequence[float] | Float[np.ndarray, " folds"],
    seed_variance: float,
) -> tuple[float, float]:
    """Return the interval of a difference, over groups of images and over seeds.

    Args:
        difference: On all test images.
        without_fold: The difference with each part of the groups left out.
        seed_variance: The variance of the difference between seeds of the references.
    """
    folds = np.asarray(without_fold, dtype=float)
    count = len(folds)
    # The jackknife of parts of equal size.
    image_variance = (count - 1) * float(folds.var())
    half_width = float(
        stdtrit(count - 1, (1 + CONFIDENCE) / 2) * sqrt(image_variance + seed_variance)
    )
    return difference - half_width, difference + half_width


def word_of(low: float, high: float) -> str:
    """Return the word for an interval of the SAE minus Top-k."""
    if isnan(low) or isnan(high):
        return INCONCLUSIVE
    if low >= -NEGLIGIBLE and high <= NEGLIGIBLE:
        return LEVEL
    if low <= 0 <= high:
        return INCONCLUSIVE
    if low > 0:
        return ABOVE
    return BELOW


def fold_of_groups(
    groups: Int[np.ndarray, " images"], seed: int = 0
) -> Int[np.ndarray, " images"]:
    """Return the part, from 0 to `FOLDS` - 1, in which each image is left out.

    There are `FOLDS` groups or more.

    Args:
        groups: Numbers of groups from 0 on; images of one group share a part.
        seed: Of the draw.
    """
    group_count = int(groups.max()) + 1
    shuffled = np.random.default_rng(seed).permutation(group_count)
    return (shuffled % FOLDS)[groups]
