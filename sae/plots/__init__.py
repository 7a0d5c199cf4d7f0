"""Figures from tidy tables: each module draws one figure and knows nothing of how the numbers came about.

A module has one function, `draw(results, out, name)`: from the folder of an experiment's tables to
`out/name.png` and `out/name.pdf`.
"""

# Figure: its module, and the tables that it reads.
FIGURES = {
    "lambda": ("sae.plots.lambda_sweep", ["metrics.parquet"]),
    "fig1": ("sae.plots.sample", ["gallery/sample.parquet"]),
    "fig2": ("sae.plots.gallery", ["gallery/images.parquet"]),
    "fig3": ("sae.plots.gallery", ["gallery/images.parquet"]),
    "fig4": ("sae.plots.rank_profile", ["metrics.parquet", "curves.parquet"]),
    "fig5": ("sae.plots.robustness", ["metrics.parquet", "curves.parquet"]),
    "fig5_probe": ("sae.plots.probe", ["metrics.parquet", "curves.parquet"]),
}
