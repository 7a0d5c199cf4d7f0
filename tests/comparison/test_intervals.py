"""Intervals, Holm's correction and power, against scipy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import intervals


def test_student_is_scipys():
    sample = np.random.default_rng(0).normal(0.3, 1, 7)
    expected = stats.ttest_1samp(sample, 0)
    for confidence in (0.95, 0.9):
        mean, half, p = intervals.student(sample, confidence)
        assert p == pytest.approx(expected.pvalue) and mean == pytest.approx(
            sample.mean()
        )
        ends = tuple(expected.confidence_interval(confidence))
        assert (mean - half, mean + half) == pytest.approx(ends)
    assert np.isnan(intervals.student(sample[:1])[1:]).all()


def test_holm_corrects_known_values():
    corrected = intervals.holm(pd.Series([0.04, 0.01, np.nan, 0.03]))
    assert corrected.tolist()[:2] == pytest.approx([0.06, 0.03])
    assert corrected[3] == pytest.approx(0.06) and np.isnan(corrected[2])


def test_the_smallest_effect_is_found_in_four_of_five_samples():
    sample = np.array([0.01, 0.03, 0.002, 0.018])
    smallest = intervals.smallest_found(sample, 0.025)
    rng = np.random.default_rng(0)
    drawn = rng.normal(smallest, sample.std(ddof=1), (4000, len(sample)))
    share = (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.025).mean()
    assert share == pytest.approx(0.8, abs=3 * (0.8 * 0.2 / 4000) ** 0.5)
