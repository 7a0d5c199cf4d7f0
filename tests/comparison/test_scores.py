"""Scores as they are read."""

import pandas as pd

from sae.comparison.scores import across_groups


def test_a_score_is_read_across_groups_where_a_dataset_has_them_and_as_it_is_elsewhere():
    both = pd.DataFrame(
        {"ms_mean_alive": [0.5, 0.6], "ms_mean_alive_across_groups": [0.4, None]}
    )
    assert across_groups(both)["ms_mean_alive"].tolist() == [0.4, 0.6]
