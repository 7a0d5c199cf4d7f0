"""Fig. 4: mean activation by rank, before the selection: Reg. 1 suppresses the tail, Reg. 2 raises the top ranks."""

from pathlib import Path

from matplotlib.figure import Figure

from sae.report import curves, style
from sae.report.names import Names
from sae.report.style import plt

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = "Mean activation by rank within the sample, before the Top-k, at the middle training k; dotted: k."


def draw(results: Path, names: Names) -> Figure:
    """A row per dataset, a column per backbone, at the middle training k."""
    points = curves.chosen_curves(results, names, "rank_profile", optional=True)
    ks = sorted(points["k"].unique())
    k = ks[len(ks) // 2] if ks else None
    points = points[points["k"] == k]
    datasets, backbones = points["dataset"].unique(), points["backbone"].unique()
    rows, columns = max(1, len(datasets)), max(1, len(backbones))
    size = (max(style.WIDTH, 2.3 * columns), 2.1 * rows + 0.5)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    if points.empty:
        style.nothing(axes[0, 0], "not measured in this experiment")
        return figure
    for i, dataset in enumerate(datasets):
        for j, backbone in enumerate(backbones):
            ax = axes[i, j]
            here = points[(points["dataset"] == dataset) & (points["backbone"] == backbone)]
            curves.draw_methods(ax, here, names)
            ax.axvline(k, color=style.GREY, linestyle=":", linewidth=1)
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1e-3)
            ax.set_title(style.fit(style.place(names, dataset, backbone), size[0] / columns))
            ax.grid(True, axis="y")
            if j == 0:
                ax.set_ylabel("mean activation")
            if i == len(datasets) - 1:
                ax.set_xlabel("rank within the sample")
        # After all panels are drawn: a limit ends the fitting of the axis, which they share.
        axes[i, 0].set_ylim(bottom=0)
    reference = style.reference(f"k = {k}", linestyle=":")
    style.legend(figure, [*style.handles(names, points["method"]), reference])
    return figure
