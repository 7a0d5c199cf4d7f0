"""Read one SAE beside Top-k SAEs that were tuned on the same images: what a card says.

An SAE that was made elsewhere was not tuned here, so that it takes no part in any
comparison of methods. What can be said is where it stands, on these images, between an
untrained SAE and a tuned Top-k of as many latents and as many active ones:

- the front of Top-k (`sae.scoring.front`) has its vertices and weights by validation;
  it is read at the R^2 that the SAE has on validation. Below the front's lowest R^2 it
  is read there. Above its reach nothing is compared, but for `fronts.TOLERANCE`;
- a trial stands on the front if as many of its latents fire as the rule of fronts asks
  for, or about as many as the SAE's: Top-k may lose as many as it (`rule_beside`);
- what those vertices score on test, with seeds of their own, is the score of Top-k *at
  this R^2*;
- the interval of the SAE minus Top-k is Student's t of two parts: the jackknife over
  groups of test images (each of `FOLDS` parts of the groups is left out in turn), and
  the seeds of the vertices.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import stdtrit

from sae.comparison.fronts import (
    TOLERANCE,
    TRIAL,
    FrontRule,
    of_protocol,
    read_test_scores,
    validation_trials,
)
from sae.comparison.methods import Methods
from sae.comparison.outcomes import NEGLIGIBLE
from sae.comparison.scores import SCORES
from sae.scoring import front
from sae.scoring.rows import CELL

# Parts of the groups of test images that are left out in turn.
FOLDS = 10
CONFIDENCE = 0.95
# How far two seeds of one recipe are apart in the share of latents that fire: .002 to
# .016 where many do not (4,096 latents, 5,755 images).
FIRING_BY_SEED = 0.02
_COUNTS_OF_CELLS = ("cells_at_front", "above_reach")
# What a card says of a score.
BELOW = "below"
LEVEL = "level with"
ABOVE = "above"
INCONCLUSIVE = "inconclusive"
NOT_COMPARABLE = "not comparable"
NO_VERDICT = "no verdict"  # The judge does not know the images.
# Where a front is read.
AT_OWN_R2 = "at its R2"
AT_LOWEST = "at the lowest R2 of the front"
AT_REACH = "at the highest R2 of the front"
OUT_OF_REACH = "above the reach of the front"
NO_FRONT = "no feasible Top-k"
NO_SCORE = "no Top-k has the score"
DIVERGED = "a vertex of the front diverged"


@dataclass(frozen=True)
class FrontPoint:
    """Where a front of Top-k is read for an SAE.

    Attributes:
        read_at: `AT_OWN_R2`, `AT_LOWEST` or `AT_REACH`; or why it is not read,
            `OUT_OF_REACH`, `NO_FRONT`, `NO_SCORE` or `DIVERGED`.
        r2: The R^2 at which it is read, on validation; NaN where it is not.
        reach: The highest R^2 of the front.
        weights: {trial: what its vertex weighs there}, those above 0.
    """

    read_at: str
    r2: float = nan
    reach: float = nan
    weights: Mapping[str, float] = field(default_factory=dict)


def rule_beside(firing: float, rule: FrontRule) -> FrontRule:
    """Return a rule of fronts as it is for Top-k beside an SAE.

    The rule's share of latents that fire is there so that no method wins by losing
    latents. Beside an SAE that lost more, Top-k may lose as many, and as many more as
    another seed alone may lose.

    Args:
        firing: The share of the SAE's latents that fires on training images; NaN where
            nobody knows.
        rule: The rule of methods that are compared.
    """
    if isnan(firing) or firing >= rule.firing:
        return rule
    return rule.model_copy(update={"firing": max(0.0, firing - FIRING_BY_SEED)})


def find_point(
    trials: pd.DataFrame, score: str, r2: float, better: int = 1
) -> FrontPoint:
    """Find where the front of Top-k is read for an SAE.

    Args:
        trials: Of Top-k, as validation has them: `trial`, `r2`, `feasible`, the score.
        score: The column whose front it is.
        r2: Of the SAE, on validation.
        better: +1 if a higher score is better, -1 if a lower one is.
    """
    vertices = front.vertices(trials, score, better)
    if vertices.empty:
        return FrontPoint(NO_SCORE if trials["feasible"].any() else NO_FRONT)
    vertex_r2 = vertices["r2"].to_numpy(float)
    lowest = float(vertex_r2[-1])
    reach = front.reach(trials)
    if r2 > reach + TOLERANCE:
        return FrontPoint(OUT_OF_REACH, reach=reach)

    read_at = AT_OWN_R2
    if r2 < lowest:
        read_at = AT_LOWEST
    elif r2 > reach:
        read_at = AT_REACH
    point = min(max(r2, lowest), reach)
    weights = {
        str(trial): float(weight)
        for trial, weight in zip(
            vertices["trial"], front.at(vertex_r2, point), strict=True
        )
        if weight > 0
    }
    return FrontPoint(read_at, point, reach, weights)


@dataclass(frozen=True)
class Reading:
    """What a card says of one score.

    Attributes:
        score: Its name in `sae.comparison.scores.SCORES`.
        value: That of the SAE on test.
        untrained: That of untrained SAEs, each at its own R^2.
        topk: That of tuned Top-k, by the weights of the point; NaN where it is not
            compared.
        point: Where Top-k is read.
        front: The score whose front has the vertices: this one, or another one.
        difference: The SAE minus Top-k, signed so that more is better.
        low, high: The interval of the difference; NaN where there is none.
        word: `BELOW`, `LEVEL`, `ABOVE`, `INCONCLUSIVE`, `NOT_COMPARABLE` or
            `NO_VERDICT`; "" where nothing is said, as of a score at the vertices of
            another one.
    """

    score: str
    value: float
    untrained: float
    topk: float
    point: FrontPoint
    front: str
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


def mean_at(
    point: FrontPoint, values: Mapping[str, Sequence[float]]
) -> tuple[float, float]:
    """Return the score of Top-k at a point, and the variance that its seeds give it.

    Args:
        point: Where the front is read.
        values: {trial: the scores of its seeds on test}, of the point's vertices.

    Returns:
        The variance is that of the mean; 0 where vertices have one seed.
    """
    mean = 0.0
    variance = 0.0
    for trial, weight in point.weights.items():
        of_seeds = np.asarray(values[trial], dtype=float)
        mean += weight * float(of_seeds.mean())
        if len(of_seeds) > 1:
            variance += weight**2 * float(of_seeds.var(ddof=1)) / len(of_seeds)
    return mean, variance


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


def read_cells(
    metrics: pd.DataFrame, names: Methods, rule: FrontRule, scores: Iterable[str]
) -> pd.DataFrame:
    """Read SAEs that were made elsewhere beside the baseline's front of their cells.

    Args:
        metrics: Tidy metrics of an experiment, MS across groups where there are any.
        names: Its methods; the first baseline counts.
        rule: What is feasible, and which seed the trials were tuned with.
        scores: Names in `SCORES`.

    Returns:
        A row for each method and score: `method`, `score`, `front`: the baseline's
        score there, mean over the cells in which it is read; `beside_front`: the SAE
        minus that; `cells_at_front`: their number; `above_reach`: the cells in which
        the SAE's R^2 is above the front.
    """
    columns = ["method", "score", "front", "beside_front", *_COUNTS_OF_CELLS]
    if not names.imported or not names.baselines:
        return pd.DataFrame(columns=columns)
    baseline = of_protocol(metrics, rule)
    baseline = baseline[baseline["method"] == names.baselines[0]]
    tests = read_test_scores(metrics)
    own = metrics[metrics["method"].isin(names.imported) & (metrics["split"] == "val")]

    rows = []
    for row, score in itertools.product(own.to_dict("records"), scores):
        in_cell = (baseline[CELL] == [row[name] for name in CELL]).all(axis=1)
        firing = 1 - row["dead_train"] / row["m"]
        of_cell = validation_trials(baseline[in_cell], rule_beside(firing, rule))
        if not of_cell[score].notna().any():
            continue
        better = SCORES[score].better
        point = find_point(of_cell, score, float(row["r2"]), better)
        key = tuple(row[name] for name in TRIAL)
        scores_of_sae = tests.get(key, {}).get(int(row["seed"]), {})
        value = scores_of_sae.get(score, nan)
        topk = nan
        if point.weights:
            cell_and_method = (*key[: len(CELL)], names.baselines[0])
            topk, _ = mean_at(
                point,
                {
                    trial: _scores_of_seeds(
                        tests[(*cell_and_method, trial)], score, rule.tuning
                    )
                    for trial in point.weights
                },
            )
        rows.append(
            {
                "method": row["method"],
                "score": score,
                "front": topk,
                "beside_front": better * (value - topk),
                "cells_at_front": not isnan(value - topk),
                "above_reach": point.read_at == OUT_OF_REACH,
            }
        )
    table = pd.DataFrame(rows, columns=columns)
    by_method = table.groupby(["method", "score"], sort=False)
    return by_method.agg(
        {
            "front": "mean",
            "beside_front": "mean",
            **dict.fromkeys(_COUNTS_OF_CELLS, "sum"),
        }
    ).reset_index()


def _scores_of_seeds(
    scores_by_seed: Mapping[int, Mapping[str, float]],
    score: str,
    tuning_seed: int | None,
) -> list[float]:
    """Return a trial's scores on test, those of fresh seeds where there are any."""
    # An SAE that diverged has no scores.
    values = {seed: scores[score] for seed, scores in scores_by_seed.items() if scores}
    fresh = [value for seed, value in values.items() if seed != tuning_seed]
    return fresh or [*values.values()] or [nan]
