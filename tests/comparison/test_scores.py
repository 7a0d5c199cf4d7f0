"""Scores are read across groups where a dataset has groups."""

import pandas as pd

from sae.comparison.scores import across_groups


def test_a_score_is_read_across_groups_where_a_dataset_has_groups():
    metrics = pd.DataFrame(
        {"ms_mean_alive": [0.5, 0.6], "ms_mean_alive_across_groups": [0.4, None]}
    )
    assert across_groups(metrics)["ms_mean_alive"].tolist() == [0.4, 0.6]
