"""What methods differ in: effects, intervals, verdicts, as tidy tables.

`scores` is the one list of what can be compared. `effects` compares in each cell the SAEs
that `sae.scoring.choice` chose; `verdicts` has their means over datasets, `intervals` how
sure a mean is. Nothing here is printed: that is for `report`.
"""
