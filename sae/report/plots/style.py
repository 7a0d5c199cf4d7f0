"""One look for all figures: a method has the same colour everywhere, fit for the colour-blind and for grey print."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from sae.core import files
from sae.report import labels

# Okabe and Ito's palette.
COLOURS = {"none": "#444444", "off_support_l1": "#0072B2", "l1_l2_ratio": "#D55E00"}
SPARE = ["#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P"]
WIDTH = 7.0  # inches: the text width of a page

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


def colour(regularizer):
    """A method's colour; a regularizer of your own gets one of the spare ones, by its name."""
    return COLOURS.get(regularizer) or SPARE[sum(map(ord, regularizer)) % len(SPARE)]


def cell(row):
    """A cell in words: dataset, backbone, k, seed."""
    return f"{labels.name(row['dataset'])}, {labels.name(row['backbone'])}, k = {row['k']}, seed {row['seed']}"


def save(figure, out, name):
    """Write `out/name.png` and `.pdf`; the same figure gives the same bytes."""
    for suffix in ("png", "pdf"):
        metadata = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
        with files.atomic_file(Path(out) / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
