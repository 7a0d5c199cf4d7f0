"""What an inconclusive outcome leaves possible is printed at its edges."""

import pytest

from sae.comparison.verdicts import INCONCLUSIVE
from sae.report import comparison


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
    row = {"verdict": INCONCLUSIVE, "low": low, "high": high, "reason": None}
    assert comparison.say(row) == f"inconclusive: {allowed}"
