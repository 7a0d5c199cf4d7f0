"""Figures from tidy tables: each module draws one figure and knows nothing of how the numbers came about.

A module has one function, `draw(results, out, name)`: from the folder of metrics.parquet and curves.parquet to
`out/name.png` and `out/name.pdf`.
"""

FIGURES = {"lambda": "sae.plots.lambda_sweep", "fig4": "sae.plots.rank_profile", "fig5": "sae.plots.robustness"}
