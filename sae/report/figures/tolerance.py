"""How the effect of a method depends on how much R^2 a candidate may lose."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.report import style
from sae.report.names import Names
from sae.report.style import plt
from sae.report.trials import effects, lost, of_tuning

NEEDS_FAIR = True
READS = ["metrics.parquet"]
CAPTION = (
    "Differences from the baseline on test by the tolerance: how far below the tuned baseline's best R² on validation "
    "a candidate may be, the baseline's as well. Above mean MS over alive latents, below the R² that was really "
    "reached; mean over cells, one tuning seed; a tie counts as 0."
)
_TOLERANCES = np.linspace(0, 0.02, 21)
_ROWS = {"ms": "Δ mean MS, alive (test)", "r2": "ΔR² (test)"}


def draw(results: Path, names: Names) -> Figure:
    """A column per dataset, a row per quantity, a line per method."""
    trials = of_tuning(results, names)
    datasets, shown = list(trials["dataset"].unique()), []
    size = (style.WIDTH, 4.0)
    figure, axes = plt.subplots(
        2, len(datasets), figsize=size, squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    for j, dataset in enumerate(datasets):
        own = trials[trials["dataset"] == dataset]
        found = [effects(own, names, float(t)).groupby("method")[list(_ROWS)].mean() for t in _TOLERANCES]
        for i, (quantity, label) in enumerate(_ROWS.items()):
            ax = axes[i, j]
            ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
            for method in names.order(found[0].index):
                ax.plot(_TOLERANCES, [table.loc[method, quantity] for table in found], **style.line(names, method))
                shown.append(method)
            ax.grid(True)
            if j == 0:
                ax.set_ylabel(label)
        axes[0, j].set_title(names.dataset(dataset))
        axes[1, j].set_xlabel("tolerance")
        axes[1, j].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))  # More would run into each other.
    style.legend(figure, style.handles(names, shown, lost(results)))
    return figure
