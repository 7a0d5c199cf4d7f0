"""Which trial stands for a method: feasible, reconstructs as well, highest detection."""

import pandas as pd
import pytest

from sae.scoring import choice


def trials(*rows):
    """Return trials of (name, R^2, detection), all feasible."""
    table = pd.DataFrame(rows, columns=["trial", "r2", choice.DETECTION])
    return table.assign(feasible=True)


def test_feasible_is_what_ended_well_with_few_enough_active_latents():
    table = pd.DataFrame(
        [
            ("ok", 0.5, 10.2, True),  # 1.02 k
            ("ok", 0.5, 10.21, False),
            ("ok", 0.5, 3.0, True),
            ("diverged", 0.5, 10.0, False),
            ("ok", None, 10.0, False),
            ("ok", 0.5, None, False),
        ],
        columns=["status", "r2", "l0", "is_feasible"],
    )
    found = choice.feasible(table.assign(k=10))
    assert found.tolist() == table["is_feasible"].tolist()


def test_the_bar_is_the_best_r2_of_what_is_feasible():
    table = trials(("a", 0.7, 0.6), ("b", 0.8, 0.6)).assign(feasible=[True, False])
    assert choice.best_r2(table) == 0.7
    assert pd.isna(choice.best_r2(table.assign(feasible=False)))


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        # b lies within .01 of the bar, .75; c does not.
        ([("a", 0.75, 0.60), ("b", 0.7401, 0.62), ("c", 0.739, 0.70)], "b"),
        # Equal detection: the higher R^2, then the name.
        ([("a", 0.745, 0.6), ("b", 0.75, 0.6)], "b"),
        ([("b", 0.75, 0.6), ("a", 0.75, 0.6)], "a"),
        # Nobody judges: the highest R^2.
        ([("a", 0.745, None), ("b", 0.75, None)], "b"),
        # What could not be judged comes last.
        ([("a", 0.75, None), ("b", 0.745, 0.5)], "b"),
        ([("a", 0.739, 0.9)], None),
    ],
)
def test_the_highest_detection_that_reconstructs_as_well(rows, name):
    chosen = choice.choose(trials(*rows), 0.75)
    assert (None if chosen is None else chosen["trial"]) == name


def test_what_is_not_feasible_is_not_chosen():
    table = trials(("a", 0.8, 0.9), ("b", 0.75, 0.6)).assign(feasible=[False, True])
    assert choice.choose(table, 0.75)["trial"] == "b"
    assert choice.choose(table.assign(feasible=False), 0.75) is None
