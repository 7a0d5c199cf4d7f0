"""What is printed of an outcome: every word, at its edges."""

import pytest

from sae.report import outcomes


def row(outcome, low=-0.0012, high=0.0204, reason=None, **counts):
    """Return what a row of means says of an outcome."""
    counts = {"cells": 3, "out_of_reach": 0, "infeasible": 0, "blocks": 4} | counts
    return {"outcome": outcome, "low": low, "high": high, "reason": reason, **counts}


@pytest.mark.parametrize(
    ("low", "high", "allowed"),
    [
        (-0.0012, 0.0204, "a loss of .001 to a gain of .02"),
        (-0.0004, 0.016, "a gain of 0 to .016"),
        (-0.018, -0.005, "a loss of .005 to .018"),
        (-1.25, 0.5, "a loss of 1.25 to a gain of .5"),
    ],
)
def test_what_is_inconclusive_says_what_is_still_possible(low, high, allowed):
    assert outcomes.say(row("inconclusive", low, high)) == f"inconclusive: {allowed}"


def test_every_other_outcome_says_itself_or_why():
    assert outcomes.say(row(None)) == "-"
    assert outcomes.say(row(float("nan"))) == "-"
    by_less = "better, by less than .01"
    assert outcomes.say(row(by_less)) == by_less
    passed_alone = row("inconclusive", 0.01, 0.02, "before Holm's correction")
    assert outcomes.say(passed_alone).endswith(
        "a gain of .01 to .02 (before Holm's correction)"
    )
    reasons = {
        ("too few blocks", 3, 0, 1): "1 block, too few",
        ("too few blocks", 3, 0, 2): "2 blocks, too few",
        ("out of reach", 3, 1, 4): "out of reach in 1 of 4 cells",
        ("out of reach", 0, 4, 0): "out of reach in every cell",
        ("out of reach", 0, 1, 0): "out of reach in its only cell",
        ("no feasible trial", 0, 0, 0): "no feasible trial",
    }
    for (reason, cells, out_of_reach, blocks), why in reasons.items():
        counts = {"cells": cells, "out_of_reach": out_of_reach, "blocks": blocks}
        said = outcomes.say(row("not comparable", reason=reason, **counts))
        assert said == f"not comparable: {why}"
