"""Fig. 4: mean activation by rank, before the Top-k: Reg. 1 suppresses the tail, Reg. 2 raises the top ranks."""

from sae.report import labels
from sae.report.plots import curves, style
from sae.report.plots.style import plt


def draw(results, out, name):
    """A row per dataset, a column per backbone, at the middle training k."""
    points = curves.chosen_curves(results, "rank_profile")
    ks = sorted(points["k"].unique())
    k = ks[len(ks) // 2]
    points = points[points["k"] == k]
    datasets, backbones = points["dataset"].unique(), points["backbone"].unique()
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(
            len(datasets),
            len(backbones),
            figsize=(max(style.WIDTH, 2.3 * len(backbones)), 2.1 * len(datasets) + 0.5),
            sharex=True,
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for i, dataset in enumerate(datasets):
            for j, backbone in enumerate(backbones):
                ax = axes[i, j]
                here = points[(points["dataset"] == dataset) & (points["backbone"] == backbone)]
                curves.draw_methods(ax, here)
                ax.axvline(k, color="#999999", linestyle=":", linewidth=1)
                ax.set_xscale("log")
                ax.set_yscale("symlog", linthresh=1e-3)
                ax.set_ylim(bottom=0)
                ax.set_title(f"{labels.name(dataset)}, {labels.name(backbone)}")
                ax.grid(True, axis="y")
                if j == 0:
                    ax.set_ylabel("mean activation")
                if i == len(datasets) - 1:
                    ax.set_xlabel("rank within the sample")
        curves.legend(figure, points["regularizer"].unique(), {"linestyle": ":", "label": f"k = {k}"})
        style.save(figure, out, name)
