"""Which trial is chosen, by hand."""

from math import isnan, nan

import pandas as pd
import pytest

from sae.scoring import choice


def table(*rows, **columns):
    """Return trials (name, R^2, detection), feasible unless `columns` say otherwise."""
    trials = pd.DataFrame(rows, columns=["trial", "r2", "detection"])
    return trials.assign(**{"feasible": True, **columns})


@pytest.mark.parametrize(
    ("changed", "feasible"),
    [
        ({}, True),
        ({"l0": 51}, True),  # 1.02 times 50.
        ({"l0": 51.01}, False),
        ({"l0": nan}, False),
        ({"r2": nan}, False),
        ({"status": "diverged"}, False),
    ],
)
def test_a_trial_is_feasible_that_ended_well_within_its_budget(changed, feasible):
    trial = {"status": "ok", "r2": 0.7, "l0": 50.0, "k": 50, **changed}
    assert choice.feasible(pd.DataFrame([trial])).tolist() == [feasible]


def test_the_best_r2_is_of_feasible_trials():
    trials = table(("a", 0.7, 0.5), ("b", 0.8, 0.5), feasible=[True, False])
    assert choice.best_r2(trials) == 0.7
    assert isnan(choice.best_r2(trials.assign(feasible=False)))


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([("a", 0.75, 0.60), ("b", 0.74, 0.65)], "b"),
        # At R* minus .01 a trial still reconstructs as well; below it does not.
        ([("a", 0.75, 0.60), ("b", 0.7399, 0.65)], "a"),
        # Of equals the higher R^2, then the first by name.
        ([("a", 0.74, 0.60), ("b", 0.75, 0.60)], "b"),
        ([("b", 0.75, 0.60), ("a", 0.75, 0.60)], "a"),
        # What was not measured comes last; where nothing was, R^2 decides.
        ([("a", 0.75, nan), ("b", 0.74, 0.50)], "b"),
        ([("a", 0.74, nan), ("b", 0.75, nan)], "b"),
        ([("a", 0.73, 0.9), ("b", nan, 0.9)], None),
    ],
)
def test_of_what_reconstructs_as_well_the_highest_detection_is_chosen(rows, chosen):
    row = choice.choose(table(*rows), 0.75)
    assert (None if row is None else row["trial"]) == chosen


def test_what_is_not_feasible_is_never_chosen():
    trials = table(("a", 0.75, 0.9), ("b", 0.75, 0.5), feasible=[False, True])
    assert choice.choose(trials, 0.75)["trial"] == "b"
    assert choice.choose(trials.assign(feasible=False), 0.75) is None
