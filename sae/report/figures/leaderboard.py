"""Every tuned method's difference from the tuned baseline, score by score."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.core import files
from sae.report import leaderboard, style
from sae.report.names import Names
from sae.report.style import plt

NEEDS_FAIR = True
READS = ["tables/leaderboard.csv"]
CAPTION = (
    "Difference from the tuned baseline at its reconstruction, mean over cells of candidates with fresh seeds, with "
    "the interval; methods in the order of the first score, better to the right. Hollow: a tie, the interval reaches "
    "0. Grey dots: no trial was eligible in any cell, so the numbers are those of what it is compared with. Stars: "
    "other methods of a stored run, against its own baseline."
)


def draw(results: Path, names: Names) -> Figure:
    """A panel per score, a line per method."""
    files.check_sums(results / "tables/leaderboard.sums.json")
    board = leaderboard.read(results / READS[0])
    board = board[board["tuned"]]
    none = leaderboard.without_candidate(board)
    scores = [name for name in leaderboard.SCORES if name in set(board["score"])]
    order = list(board[board["score"] == scores[0]]["method"])[::-1] if scores else []
    labels = dict(zip(board["method"], board["label"], strict=True))
    # Those of other runs have looks of their own, too.
    names = names.beside({method: {"position": place} for place, method in enumerate(labels)})
    columns = min(4, max(1, len(scores)))
    rows = -(-max(1, len(scores)) // columns)
    size = (style.WIDTH, (0.2 * len(order) + 0.7) * rows + 0.2)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for ax, score in zip(axes.flat, scores, strict=False):
        ax.axvline(0, color="#444444", linewidth=0.8, zorder=1)
        sign = leaderboard.SCORES[score].better
        for row in board[board["score"] == score].to_dict("records"):
            y, colour = order.index(row["method"]) if row["method"] in order else None, names.colour(row["method"])
            if y is None:
                continue
            if row["method"] in none:
                ax.plot(row["difference"], y, marker=".", color=style.GREY, markersize=5)
                continue
            if np.isfinite([row["low"], row["high"]]).all():
                ax.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1)
            inside = "white" if row["tie"] else colour
            marker = "*" if row["stored"] else names.marker(row["method"])
            ax.plot(row["difference"], y, marker, color=colour, mfc=inside, markersize=6.5, mew=0.9)
        ax.set_title(score + ("" if sign > 0 else " (less is better)"))
        if sign < 0:
            ax.invert_xaxis()
        ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        ax.grid(True, axis="x")
    for ax in axes.flat[len(scores) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(order)), [style.fit(labels[method], 1.5, 1) for method in order])
    if not scores:
        style.nothing(axes[0, 0], "no cell that is trained long enough")
    return figure
