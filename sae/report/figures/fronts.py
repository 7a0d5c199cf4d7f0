"""Every trial of every method in the plane of R^2 and MS, cell by cell, with each method's front."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.core import files
from sae.report import style
from sae.report.fair import picked
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.style import plt
from sae.report.trials import MS, lost, of_tuning
from sae.scoring.rows import FAIR
from sae.scoring.selection import CELL, chosen, under

NEEDS_FAIR = True
READS = ["metrics.parquet", "selection.parquet"]
CAPTION = (
    "Mean MS over alive latents against R², on the test split: every trial of the tuning seed (dots), the trials that "
    "no other of the same method beats in both (lines), the candidates, mean of the fresh seeds (rings), and the "
    "controls near them (crosses). Where two fronts lie upon each other, the method buys nothing that tuning does not."
)


def draw(results: Path, names: Names) -> Figure:
    """A row per dataset and backbone, a column per k."""
    trials = of_tuning(results, names)
    metrics = across_groups(files.read_parquet(results / READS[0]))
    selection = under(files.read_parquet(results / READS[1]), FAIR)
    candidates = picked(metrics, selection, names.compared, selection["tolerance"].iloc[0])
    controls = chosen(under(metrics, "paper"), "test", names.compared)
    controls = controls[controls["method"].isin(names.controls)]
    rows = trials[["dataset", "backbone"]].drop_duplicates().to_numpy()
    ks = sorted(trials["k"].unique())
    size = (max(style.WIDTH, 2.6 * len(ks)), 1.9 * len(rows) + 0.6)
    figure, axes = plt.subplots(len(rows), len(ks), figsize=size, squeeze=False, layout="constrained")
    inside: set[str] = set()
    for i, (dataset, backbone) in enumerate(rows):
        for j, k in enumerate(ks):
            cell = {"dataset": dataset, "backbone": backbone, "k": k}
            own, rings, crosses = (
                table[(table[CELL] == pd.Series(cell)).all(axis=1)] for table in (trials, candidates, controls)
            )
            inside |= _panel(axes[i, j], own, rings, crosses, names)
            if i == 0:
                axes[i, j].set_title(f"k = {k}")
            if j == 0:
                axes[i, j].set_ylabel("\n".join([names.dataset(dataset), names.backbone(backbone), "mean MS, alive"]))
            if i == len(rows) - 1:
                axes[i, j].set_xlabel("R²")
    shown = names.order(trials["method"])
    entries = style.handles(names, shown, lost(results))
    entries += style.handles(names, names.order(inside), linestyle="none", marker="x")
    style.legend(figure, [*entries, style.reference("candidate", marker="o", markerfacecolor="none", linestyle="none")])
    return figure


def _panel(ax: Axes, trials: pd.DataFrame, candidates: pd.DataFrame, controls: pd.DataFrame, names: Names) -> set[str]:
    """Draw a cell; the controls that lie within its axes."""
    for method in names.order(trials["method"]):
        own, look = trials[trials["method"] == method], style.line(names, method)
        ax.plot(own["r2"], own["ms"], **look | {"linestyle": "none", "alpha": 0.55, "markersize": 3})
        front = own.sort_values("r2", ascending=False)
        front = front[front["ms"] >= np.maximum.accumulate(front["ms"])]
        ax.plot(front["r2"], front["ms"], **look | {"marker": "", "linewidth": 0.9})
        mean = candidates[candidates["method"] == method][["r2", MS]].mean()
        ax.plot(*mean, **look | {"linestyle": "none", "markersize": 8, "markerfacecolor": "none"})
    for method in names.order(controls["method"]):
        mean = controls[controls["method"] == method][["r2", MS]].mean()
        ax.plot(*mean, color=names.colour(method), marker="x", linestyle="none", zorder=0)
        ax.annotate(
            names.method(method), tuple(mean), fontsize=5, color="#777777", xytext=(2, 2), textcoords="offset points"
        )
    # Trials far below the best say nothing of fronts; controls may lie anywhere, and outside.
    best = trials["r2"].max()
    near = trials[trials["r2"] >= best - 0.12]
    if len(near):
        ax.set_xlim(near["r2"].min() - 0.01, best + 0.01)
        low, high = near["ms"].min() - 0.02, near["ms"].max() + 0.02
        ax.set_ylim(low, high)
        controls = controls[(controls["r2"] >= near["r2"].min()) & controls[MS].between(low, high)]
    ax.locator_params(axis="x", nbins=6)  # More would run into each other.
    ax.grid(True)
    return set(controls["method"])
