"""Fig. 4: mean activation by rank, before the selection.

Reg. 1 suppresses the tail, Reg. 2 raises the top ranks.
"""

from pathlib import Path

from matplotlib.figure import Figure

from sae.report import curves, style
from sae.report.names import Names

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = (
    "Mean activation by rank within the sample, before the Top-k, at the middle "
    "training k; dotted: k."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset, a column per backbone, at the dataset's middle k."""
    points = curves.chosen_curves(results, names, "rank_profile", optional=True)
    middle_k = {
        dataset: ks[len(ks) // 2]
        for dataset, ks in curves.ks_by_dataset(points).items()
    }
    points = points[points["k"] == points["dataset"].map(middle_k)]
    datasets = points["dataset"].unique()
    backbones = points["backbone"].unique()
    figure, axes = style.panels(
        len(datasets), len(backbones), 2.1, 0.5, sharex=True, sharey="row"
    )
    if points.empty:
        return style.nothing(figure, "not measured in this experiment")
    width = figure.get_figwidth() / len(backbones)
    for dataset, row in zip(datasets, axes, strict=True):
        for backbone, ax in zip(backbones, row, strict=True):
            of_panel = points[
                (points["dataset"] == dataset) & (points["backbone"] == backbone)
            ]
            curves.draw_methods(ax, of_panel, names)
            ax.axvline(middle_k[dataset], color=style.GREY, linestyle=":", linewidth=1)
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1e-3)
            ax.set_title(style.fit(style.place(names, dataset, backbone), width))
            ax.grid(True, axis="y")
        row[0].set_ylabel("mean activation")
        # After all panels are drawn: a limit ends the fitting of the axis, which they
        # share.
        row[0].set_ylim(bottom=0)
    for ax in axes[-1]:
        ax.set_xlabel("rank within the sample")
    shown_k = ", ".join(str(k) for k in dict.fromkeys(middle_k.values()))
    reference = style.reference(f"k = {shown_k}", linestyle=":")
    style.legend(figure, [*style.handles(names, points["method"]), reference])
    return figure
