"""What the site offers to download: every figure as PNG and SVG, every table as CSV."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sae.core import files, registry
from sae.report import controls, detection, fronts, paper_tables

TABLES = {
    "tables/leaderboard.csv": (
        "All methods on one board",
        "Means over cells, also of experiments beside this one.",
    ),
    "tables/front_means.csv": (
        "Methods at the same R²",
        "What each method has above its baseline, with intervals.",
    ),
    "tables/front_datasets.csv": (
        "The same, by dataset",
        "Means over the blocks of each dataset.",
    ),
    "tables/front_pairs.csv": (
        "Matched pairs",
        "A method minus its baseline in the same trial, by cell.",
    ),
    "tables/front_imported.csv": ("Made elsewhere", fronts.IMPORTED),
    "tables/front_controls.csv": (
        "What a difference is worth",
        "The controls minus the baseline, at their own R².",
    ),
    "tables/fronts.csv": (
        "The same, by cell",
        "What each method has above its baseline in each cell.",
    ),
    "tables/front_sensitivity.csv": ("The same, under other rules", fronts.WHAT_IF),
    "tables/detection.csv": ("Detection by how often latents fire", detection.NOTES),
    "tables/controls.csv": ("What the scores are worth", controls.NOTES),
    **{
        f"tables/table{number}.csv": (f"Table {number}: {text.title}", text.notes)
        for number, text in paper_tables.TEXTS.items()
    },
    "claims.csv": ("Claims", "Each claim with its effect, interval and verdict."),
    "metrics.csv": ("Every score of every SAE", "A row for each SAE and split."),
}


def check(results: Path, figures: Iterable[str]) -> None:
    """Check the files of an experiment that cannot hold a seal.

    Raises:
        UserError: one of them is missing or was altered.
    """
    for sums in (
        "claims",
        "metrics",
        "tables/tables",
        *(f"figures/{name}" for name in figures),
    ):
        files.check_sums(results / f"{sums}.sums.json")


def write(folder: Path, results: Path, figures: Iterable[str]) -> list[dict[str, Any]]:
    """Copy them into `folder`/files; the rows of `downloads`."""
    out, found = folder / "files", list[dict[str, Any]]()
    out.mkdir()
    for name in figures:
        caption = registry.head("figure", name).constants["CAPTION"]
        both = [
            _copied(results / f"figures/{name}.{suffix}", out)
            for suffix in ("png", "svg")
        ]
        found.append(
            {"title": _title(name), "kind": "figure", "caption": caption, "files": both}
        )
    for name, (title, caption) in TABLES.items():
        found.append(
            {
                "title": title,
                "kind": "table",
                "caption": caption,
                "files": [_copied(results / name, out)],
            }
        )
    return found


def _copied(file: Path, out: Path) -> dict[str, str]:
    shutil.copyfile(file, out / file.name)
    return {"label": file.suffix[1:].upper(), "href": f"files/{file.name}"}


def _title(figure: str) -> str:
    words = re.sub(r"^fig(\d+)_?", r"fig. \1, ", figure).replace("_", " ")
    return words.removesuffix(", ").capitalize()
