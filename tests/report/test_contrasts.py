"""bench/contrasts.py: Welch's interval, groups that are counted, and the kept tables."""

from argparse import Namespace
from filecmp import cmpfiles

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from sae.core import files


@pytest.fixture(scope="module")
def contrasts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        patch.syspath_prepend(ROOT / "workflow")
        patch.chdir(ROOT)
        import contrasts

        yield contrasts


def test_the_interval_of_two_means_is_welchs(contrasts):
    first = np.array([0.020, 0.031, 0.027, 0.040])
    second = np.array([0.010, -0.004, 0.022, 0.008, 0.001, 0.013])
    difference, half_width = contrasts.welch(first, second, 0.95)
    test = stats.ttest_ind(first, second, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert difference - half_width == pytest.approx(low)
    assert difference + half_width == pytest.approx(high)


def test_training_images_and_their_groups_are_counted(contrasts, tmp_path):
    splits = ["train", "train", "train", "test"]
    index = pd.DataFrame({"split": splits, "group": ["a", "a", "b", "c"]})
    files.write_parquet(tmp_path / "data/emoji/index.parquet", index)
    out = tmp_path / "counts.csv"
    contrasts.count_groups(Namespace(datasets=tmp_path / "data", out=out))
    assert out.read_text() == "dataset,images,groups\nemoji,3,2\n"


@pytest.mark.slow
def test_the_kept_contrasts_follow_from_the_kept_rows(contrasts, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    results = ROOT / "docs/results"
    contrasts.write_tables(Namespace(results=results, out=tmp_path))
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 3
    assert cmpfiles(results / "decisive/read", tmp_path, names, shallow=False)[0] == (
        names
    )
