"""Fig. 5, left: normalised reconstruction error against the inference-time k, one column per training k."""

from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sae import labels
from sae.plots import curves, style
from sae.plots.style import plt


def draw(results, out, name):
    """A row per dataset and backbone, a column per training k; both axes logarithmic."""
    points = curves.chosen_curves(results, "robustness")
    rows = points[["dataset", "backbone"]].drop_duplicates().to_numpy()
    ks = sorted(points["k"].unique())
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(
            len(rows),
            len(ks),
            figsize=(max(style.WIDTH, 2.3 * len(ks)), 1.45 * len(rows) + 0.6),
            sharex="col",
            squeeze=False,
            layout="constrained",
        )
        for i, (dataset, backbone) in enumerate(rows):
            for j, k in enumerate(ks):
                ax = axes[i, j]
                here = points[(points["dataset"] == dataset) & (points["backbone"] == backbone) & (points["k"] == k)]
                curves.draw_methods(ax, here)
                ax.axvline(k, color="#999999", linestyle=":", linewidth=1)
                _log(ax, here["x"])
                if i == 0:
                    ax.set_title(f"trained with k = {k}")
                if j == 0:
                    ax.set_ylabel(f"{labels.name(dataset)}\n{labels.name(backbone)}\nNMSE")
                if i == len(rows) - 1:
                    ax.set_xlabel("inference-time k")
        curves.legend(figure, points["regularizer"].unique(), "training k")
        style.save(figure, out, name)


def _log(ax, ks):
    ax.set_xscale("log", base=2)
    ax.set_xticks([k for k in (2**e for e in range(13)) if ks.min() <= k <= ks.max()])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    ax.grid(True)
