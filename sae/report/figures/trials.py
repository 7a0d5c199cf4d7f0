"""How the effect of a method depends on how many trials each method is tuned in."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.core import files
from sae.report import style
from sae.report.names import Names
from sae.report.style import plt
from sae.report.trials import effects, lost, of_tuning
from sae.scoring.rows import FAIR
from sae.scoring.selection import under

NEEDS_FAIR = True
READS = ["metrics.parquet", "selection.parquet"]
CAPTION = (
    "Difference in mean MS (alive, test) from the baseline at equal reconstruction, by how many trials every method is "
    "tuned in: mean over cells and over random subsets of the stored trials, with the middle 80 % of subsets. One "
    "tuning seed, headline tolerance; a tie counts as 0."
)
_SUBSETS = 100


def draw(results: Path, names: Names) -> Figure:
    """A panel per dataset, a line per method."""
    trials = of_tuning(results, names)
    tolerance = under(files.read_parquet(results / READS[1]), FAIR)["tolerance"].iloc[0]
    datasets, points = list(trials["dataset"].unique()), np.array(sorted(trials["point"].unique()))
    figure, axes = plt.subplots(1, len(datasets), figsize=(style.WIDTH, 2.4), squeeze=False, layout="constrained")
    rng, shown = np.random.default_rng(0), []
    subsets = {n: [rng.choice(points, n, replace=False) for _ in range(_SUBSETS)] for n in range(1, len(points))}
    subsets[len(points)] = [points]
    for ax, dataset in zip(axes[0], datasets, strict=True):
        own = trials[trials["dataset"] == dataset]
        found = {
            n: [effects(own, names, tolerance, s).groupby("method")["ms"].mean() for s in subsets[n]] for n in subsets
        }
        ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
        for method in names.order(found[1][0].index):
            values = [[mean[method] for mean in means] for means in found.values()]
            low, high = ([float(np.quantile(v, q)) for v in values] for q in (0.1, 0.9))
            ax.fill_between(list(found), low, high, color=names.colour(method), alpha=0.15, linewidth=0)
            ax.plot(list(found), [float(np.mean(v)) for v in values], **style.line(names, method))
            shown.append(method)
        ax.set_title(names.dataset(dataset))
        ax.set_xlabel("trials of each method")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(True)
    axes[0, 0].set_ylabel("Δ mean MS, alive (test)")
    style.legend(figure, style.handles(names, shown, lost(results)))
    return figure
