"""What methods differ in: fronts, effects, intervals, outcomes, as tidy tables.

`scores` is the one list of what can be compared. `fronts` has the rule by which trials
of several methods are compared; `intervals` says how sure a mean over cells is. Nothing
here is printed: that is for `report`.
"""
