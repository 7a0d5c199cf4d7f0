"""Intervals and Holm's correction, against scipy and by hand."""

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
