"""How the effect of a method at one recipe, the same for both, depends on the learning rate."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from sae.report import style
from sae.report.names import Names
from sae.report.style import plt
from sae.report.trials import at_one_recipe, lost, of_tuning

NEEDS_FAIR = True
READS = ["metrics.parquet"]
CAPTION = (
    "Differences on test from the method compared with, at the same learning rate, encoder scale and steps: every "
    "trial, none is chosen. Above mean MS over alive latents, below R², which is not held equal. Mean over cells, and "
    "with few methods a band from the lowest to the highest; one tuning seed. In a cell each rate was tried with one "
    "weight of a penalty."
)
_ROWS = {"ms": "Δ mean MS, alive (test)", "r2": "ΔR² (test)"}
_FEW = 4  # methods; the bands of more would hide each other


def draw(results: Path, names: Names) -> Figure:
    """A column per dataset, a row per quantity, a line per method."""
    trials = of_tuning(results, names)
    found = at_one_recipe(trials, names)
    datasets, methods = list(trials["dataset"].unique()), names.order(found["method"])
    figure, axes = plt.subplots(
        2, len(datasets), figsize=(style.WIDTH, 4.0), squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    for j, dataset in enumerate(datasets):
        for i, (quantity, label) in enumerate(_ROWS.items()):
            ax = axes[i, j]
            ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
            for method in methods:
                own = found[(found["dataset"] == dataset) & (found["method"] == method)]
                by_cell = own.groupby(["lr", "backbone", "k"])[quantity].mean().groupby("lr")
                ax.plot(by_cell.mean(), **style.line(names, method))
                if len(methods) <= _FEW:
                    low, high = by_cell.min(), by_cell.max()
                    ax.fill_between(low.index, low, high, color=names.colour(method), alpha=0.12, linewidth=0)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.grid(True)
            if j == 0:
                ax.set_ylabel(label)
        axes[0, j].set_title(names.dataset(dataset))
        axes[1, j].set_xlabel("learning rate")
    style.legend(figure, style.handles(names, methods, lost(results)))
    return figure
