"""Fig. 5, left: normalised reconstruction error against the inference-time k, one column per training k."""

from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sae.report.plots import curves, style
from sae.report.plots.style import plt


def draw(results, out, name):
    """A row per dataset and backbone, a column per training k; both axes logarithmic."""
    points = curves.chosen_curves(results, "robustness")
    with plt.rc_context(style.RC):
        figure = curves.grid_by_k(points, "NMSE", "inference-time k", _panel)
        curves.legend(figure, points["regularizer"].unique(), {"linestyle": ":", "label": "training k"})
        style.save(figure, out, name)


def _panel(ax, here, k):
    ax.axvline(k, color="#999999", linestyle=":", linewidth=1)
    curves.powers_of_2(ax, here["x"])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
