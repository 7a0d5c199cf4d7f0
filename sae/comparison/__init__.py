"""What methods differ in: effects, intervals, verdicts, as tidy tables.

`scores` is the one list of what can be compared. `effects` has each method beside its
baseline, cell by cell; `verdicts` averages them, and says what may be said. Nothing
here is printed: that is for `report`.
"""
