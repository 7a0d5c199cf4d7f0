"""Whether R^2 or MS tells which trials found the concepts that generated the data."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sae.core import files
from sae.report import style
from sae.report.names import Names
from sae.report.style import plt
from sae.report.trials import lost, of_tuning
from sae.scoring.rows import FAIR
from sae.scoring.selection import CELL, under

NEEDS_FAIR = True
NEEDS_CONCEPTS = True
READS = ["metrics.parquet"]
CAPTION = (
    "Share of the concepts that generated the data for which a latent was found (cosine above 0.9), on the test split, "
    "of every trial of the tuning seed: against R² (left) and mean MS over alive latents (right), with Spearman's rank "
    "correlation over all trials of a cell. A method that lies to the right without lying higher has latents of higher "
    "MS that are no truer."
)
_LABELS = {"r2": "R²", "ms": "mean MS, alive"}


def draw(results: Path, names: Names) -> Figure:
    """A row per cell, a column per score, a colour and marker per method."""
    trials = with_found(results, names)
    cells = list(trials.groupby(CELL, sort=False))
    size = (style.WIDTH, 1.9 * len(cells) + 0.6)
    figure, axes = plt.subplots(
        len(cells), 2, figsize=size, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    for row, ((dataset, backbone, k), cell) in zip(axes, cells, strict=True):
        for ax, (score, label) in zip(row, _LABELS.items(), strict=True):
            for method in names.order(cell["method"]):
                own = cell[cell["method"] == method]
                ax.plot(own[score], own["found"], **style.line(names, method) | {"linestyle": "none"})
            ax.set_title(f"rank correlation {cell[score].corr(cell['found'], method='spearman'):+.2f}")
            ax.grid(True)
            ax.set_xlabel(label)
            ax.label_outer()
        row[0].set_ylabel(f"{names.dataset(dataset)}\n{names.backbone(backbone)}, k = {k}\nconcepts found")
    style.legend(figure, style.handles(names, trials["method"], lost(results), linestyle="none"))
    return figure


def with_found(results: Path, names: Names) -> pd.DataFrame:
    """The trials of :func:`sae.report.trials.of_tuning`, with `found`, the share of concepts found on test."""
    metrics = under(files.read_parquet(results / READS[0]), FAIR)
    key = [*CELL, "method", "trial", "seed"]
    found = metrics.loc[metrics["split"] == "test", [*key, "recovery_found"]].rename(
        columns={"recovery_found": "found"}
    )
    return of_tuning(results, names).merge(found, on=key).dropna(subset=["found"])
