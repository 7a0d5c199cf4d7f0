"""R^2 and MS against lambda, per cell, with the chosen lambda marked.

Drawn as differences from the cell's baseline, whose values stand in the panel: the effects are a tenth of the spread
between the k. An exception (no lambda acceptable, or the choice at the grid's end) is written out in its panel.
"""

from pathlib import Path

from matplotlib.lines import Line2D

from sae.core import files
from sae.report import labels
from sae.report.plots import style
from sae.report.plots.style import plt
from sae.scoring.selection import CELL

# column, split, label: lambda is chosen on the first, on val; the second is what it buys, on test.
ROWS = [("r2", "val", r"$\Delta R^2$ (val)"), ("ms_mean_alive", "test", r"$\Delta$ mean MS, alive (test)")]


def draw(results, out, name):
    """Rows are dataset and quantity, columns backbones, lines k and method."""
    metrics = files.read_parquet(Path(results) / "metrics.parquet")
    metrics = metrics[metrics["mask"] == "batch_active"]
    datasets, backbones = metrics["dataset"].unique(), metrics["backbone"].unique()
    regularizers = [r for r in labels.method_order(metrics["regularizer"].unique()) if r != "none"]
    ks = sorted(metrics["k"].unique())
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(
            2 * len(datasets),
            len(backbones),
            figsize=(max(style.WIDTH, 2.3 * len(backbones)), 1.75 * 2 * len(datasets) + 0.6),
            sharex=True,
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for i, dataset in enumerate(datasets):
            for q, (column, split, label) in enumerate(ROWS):
                for j, backbone in enumerate(backbones):
                    ax = axes[2 * i + q, j]
                    here = metrics[(metrics["dataset"] == dataset) & (metrics["backbone"] == backbone)]
                    here = here[here["split"] == split]
                    _panel(ax, _differences(here, column), regularizers, ks)
                    _notes(ax, here, column, ks, *((0.04, "bottom") if q == 0 else (0.98, "top")))
                    if q == 0:
                        ax.set_title(f"{labels.name(dataset)}, {labels.name(backbone)}")
                    if j == 0:
                        ax.set_ylabel(label)
                    if 2 * i + q == 2 * len(datasets) - 1:
                        ax.set_xlabel(r"$\lambda$")
        figure.legend(handles=_legend(regularizers, ks), loc="outside lower center", ncols=8, frameon=False)
        style.save(figure, out, name)


def _differences(rows, column):
    baseline = rows[rows["regularizer"] == "none"][[*CELL, "seed", column]]
    both = rows[rows["regularizer"] != "none"].merge(baseline, on=[*CELL, "seed"], suffixes=("", "_base"))
    both["difference"] = both[column] - both[f"{column}_base"]
    by = ["regularizer", "k", "lambda"]
    return both.groupby(by, as_index=False).agg(difference=("difference", "mean"), selected=("selected", "any"))


def _panel(ax, points, regularizers, ks):
    ax.axhline(0, color=style.COLOURS["none"], linewidth=0.8, zorder=1)
    for regularizer in regularizers:
        for number, k in enumerate(ks):
            line = points[(points["regularizer"] == regularizer) & (points["k"] == k)].sort_values("lambda")
            look = {"color": style.colour(regularizer), "marker": style.MARKERS[number % len(style.MARKERS)]}
            ax.plot(line["lambda"], line["difference"], alpha=0.85, **look)
            picked = line[line["selected"]]
            ring = look | {"markerfacecolor": "none", "markersize": 8, "linestyle": "none", "markeredgewidth": 1.2}
            ax.plot(picked["lambda"], picked["difference"], **ring)
    ax.set_xscale("log")
    ax.grid(True, axis="y")


def _notes(ax, rows, column, ks, y, side):
    baseline = rows[rows["regularizer"] == "none"].groupby("k")[column].mean()
    lines = ["baseline " + " / ".join(f"{baseline[k]:.3f}" for k in ks)]
    special = rows[rows["selection"].isin(["edge", "fallback"])].drop_duplicates(["regularizer", "k", "selection"])
    lines += [f"{labels.method(r)}, k = {k}: {s}" for r, k, s in special[["regularizer", "k", "selection"]].to_numpy()]
    text = "\n".join(lines)
    ax.text(0.03, y, text, transform=ax.transAxes, verticalalignment=side, fontsize=6.5, color="#555555")


def _legend(regularizers, ks):
    handles = [Line2D([], [], color=style.colour(r), label=labels.method(r)) for r in regularizers]
    grey = {"color": "#777777", "linestyle": "none"}
    handles += [Line2D([], [], marker=style.MARKERS[n], label=f"k = {k}", **grey) for n, k in enumerate(ks)]
    handles += [Line2D([], [], marker="o", markerfacecolor="none", markersize=8, label=r"chosen $\lambda$", **grey)]
    return [*handles, Line2D([], [], color=style.COLOURS["none"], linewidth=0.8, label="baseline (values by k)")]
