"""The counts of `bench/readability.py`, on a text whose signs are counted by hand."""

from collections import Counter

from bench import readability

TEXT = '''
class Box:
    """Those of a box."""

    def of(self, given):
        """Whether it is open."""
        self._own = given
        found, said = 1, 2
        known = {} | given
        known |= {"a": 1}
        if (result := found) > said:
            return known
        for row in given:
            mean, std = measure(row)
        return {}


def measure(row):
    """Return the mean and the deviation."""
    return row.mean(), row.std()
'''


def test_signs_are_counted_as_by_hand():
    counts = readability.count_signs(TEXT)
    # of, given; _own; found, said; known (twice: set, and merged into).
    assert counts["vague"] == 7
    assert counts["generic"] == 1
    assert (counts["walrus"], counts["merged"]) == (1, 1)
    # `mean, std` come of one call.
    assert counts["several"] == 1
    assert counts["no_subject"] == 2
    assert counts["wide"] == 0


def test_a_room_that_gets_worse_is_named():
    recorded = {"sae/models": {"vague": 2, "walrus": 1}}
    same = {"sae/models": Counter(vague=2)}
    assert readability.worse_than(recorded, same) == []

    worse = {"sae/models": Counter(vague=3), "sae/new": Counter(walrus=1)}
    lines = readability.worse_than(recorded, worse)
    assert [line.split(":")[0] for line in lines] == ["sae/models", "sae/new"]
    assert "recorded are 2" in lines[0]
