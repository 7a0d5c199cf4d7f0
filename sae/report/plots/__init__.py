"""Figures from tidy tables: each module draws one figure and knows nothing of how the numbers came about.

A module has one function, `draw(results, out, name)`: from the folder of an experiment's tables to `out/name.png` and
`out/name.pdf`. `sae.report.figures` lists them.
"""
