"""What the site offers to download: every figure as PNG and SVG, every table as CSV."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sae.core import files, registry
from sae.report import comparison, controls, paper_tables
from sae.report.markup import column_key_in_line

# {file below results: (title, caption)}
TABLES = {
    "tables/leaderboard.csv": (
        "All methods in one table",
        "Means over cells, also of experiments beside this one.",
    ),
    "tables/comparison.csv": (
        "The comparison",
        "What each method has beside its baseline in every score of the same SAEs: by "
        "family of backbones, and the mean of families, with intervals and verdicts.",
    ),
    "tables/comparison_cells.csv": (
        "The same, by cell",
        "What was chosen of each method in each cell, and what it has there.",
    ),
    "tables/comparison_imported.csv": ("Made elsewhere", comparison.IMPORTED),
    "tables/controls.csv": ("What the scores are worth", controls.NOTES),
    **{
        f"tables/table{number}.csv": (
            f"Table {number}: {text.title}",
            f"{text.notes} {column_key_in_line(text.columns)}".strip(),
        )
        for number, text in paper_tables.TEXTS.items()
    },
    "claims.csv": ("Claims", "Each claim with its effect, interval and verdict."),
    "metrics.csv": ("Every score of every SAE", "A row for each SAE and split."),
}


def check(results: Path, figures: Iterable[str]) -> None:
    """Check the files of an experiment that cannot hold a seal.

    Args:
        results: The folder of the experiment.
        figures: The names of its figures.

    Raises:
        UserError: one of the files is missing or was altered.
    """
    figure_sums = [f"figures/{name}" for name in figures]
    for name in ("claims", "metrics", "tables/tables", *figure_sums):
        files.check_sums(results / f"{name}.sums.json")


def write(site: Path, results: Path, figures: Iterable[str]) -> list[dict[str, Any]]:
    """Copy figures and tables into `site`/files.

    Args:
        site: The folder of the site.
        results: The folder of the experiment.
        figures: The names of its figures.

    Returns:
        A row for each figure and table: title, kind, caption, and the copied files; of
        a figure also its name, and whether it shows images of the dataset, `pictures`.
    """
    out = site / "files"
    out.mkdir()
    rows = []
    for name in figures:
        copies = [
            _copy(results / f"figures/{name}.{suffix}", out)
            for suffix in ("png", "svg")
        ]
        constants = registry.head("figure", name).constants
        reads = constants["READS"]
        row = {
            "name": name,
            "title": _title(name),
            "kind": "figure",
            "caption": constants["CAPTION"],
            "files": copies,
            # On a dark page a chart is drawn dark; a picture of something is not.
            "pictures": any(table.startswith("gallery/") for table in reads),
        }
        rows.append(row)
    for name, (title, caption) in TABLES.items():
        row = {
            "title": title,
            "kind": "table",
            "caption": caption.replace("`", ""),
            "files": [_copy(results / name, out)],
        }
        rows.append(row)
    return rows


def _copy(file: Path, out: Path) -> dict[str, str]:
    """Copy a file, and return what the site says of it."""
    shutil.copyfile(file, out / file.name)
    return {"label": file.suffix[1:].upper(), "href": f"files/{file.name}"}


def _title(figure: str) -> str:
    """Return "Fig. 5, probe" of fig5_probe."""
    with_number = re.sub(r"^fig(\d+)_?", r"fig. \1, ", figure)
    words = with_number.replace("_", " ").removesuffix(", ")
    return words.capitalize()
