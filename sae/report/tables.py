"""All tables of an experiment, as files: csv with ids, md and tex with labels."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import Field

from sae.comparison import controls, effects, verdicts
from sae.comparison.intervals import IntervalRule
from sae.comparison.scores import SCORES, across_groups
from sae.config.rule import ClaimRule
from sae.core import files, paths
from sae.report import comparison, leaderboard
from sae.report import controls as controls_page
from sae.report.markup import prose
from sae.report.names import Names
from sae.report.paper_tables import describe_training, table_files
from sae.scoring.rows import read_metrics
from sae.scoring.selection import chosen_rows, rows_under

# The scores of the paper's tables that the controls are compared in.
SCORES_OF_CONTROLS = [name for name, score in SCORES.items() if score.worth]


class ComparisonSettings(Names):
    """The labels of things, and the rules by which methods are compared.

    Attributes:
        claims: The rule of the paper's claims; its confidence holds for all intervals.
        families: {backbone: its family}.
        pictures: {dataset: a name of its pictures}, of those that say it.
    """

    claims: ClaimRule
    families: dict[str, str] = Field({})
    pictures: dict[str, str] = Field({})

    @property
    def intervals(self) -> IntervalRule:
        """The rule of the intervals of effects."""
        return IntervalRule(confidence=self.claims.confidence)


def write(
    metrics_file: Path,
    published_folder: Path,
    settings: ComparisonSettings,
    out: Path,
    *,
    beside: Sequence[Path] = (),
) -> None:
    """Write all tables of an experiment into a folder.

    - table{1,2,3,4}.csv, .md and .tex: the paper's tables; md and tex end in the
      published table.
    - controls.csv and .md: what the scores of these tables are worth
      (`sae.comparison.controls`).
    - comparison.csv and .md, comparison_cells.csv: how methods compare, by protocol
      `tuned` (`sae.comparison.effects`, `sae.comparison.verdicts`).
    - leaderboard.csv and .md: all methods in one table
      (`sae.comparison.leaderboard`).
    - `paths.TYPED_TABLES` as parquet: the rows of the csv, with their types, for the
      site and the summary of a run.

    Args:
        metrics_file: metrics.parquet; selection.parquet and made_by.json lie beside
            it.
        published_folder: The paper's tables as CSV.
        settings: How things are printed, and the rules of comparison.
        out: The folder to write into.
        beside: Folders of other experiments' results, whose methods stand on the
            leaderboard too.
    """
    metrics = read_metrics(metrics_file)
    cells, means, imported, comparison_text = _compare(
        across_groups(metrics),
        files.read_parquet(metrics_file.with_name("selection.parquet")),
        settings,
    )
    typed = {
        "comparison": means,
        "comparison_cells": cells,
        "comparison_imported": imported,
    }
    texts = {
        **paper_texts(metrics, published_folder, settings),
        **{f"{name}.csv": _csv(table) for name, table in typed.items()},
        "comparison.md": comparison_text,
        **leaderboard.render([metrics_file.parent, *beside]),
    }
    for name, text in texts.items():
        files.write_text(out / name, text)
    for name in paths.TYPED_TABLES:
        files.write_parquet(out / f"{name}.parquet", typed[name])
    files.write_sums(out / "tables.sums.json", [out / name for name in texts])


def paper_texts(
    metrics: pd.DataFrame, published_folder: Path, settings: ComparisonSettings
) -> dict[str, str]:
    """Return {file: its text} of what is of the paper's own choice: tables, controls.

    Args:
        metrics: Tidy metrics; the rows of protocol `paper` are read.
        published_folder: The paper's tables as CSV.
        settings: How things are printed, and the rules of comparison.
    """
    paper_metrics = rows_under(metrics, "paper")
    chosen = chosen_rows(paper_metrics, "test", settings.compared)
    table = controls.compare(chosen, settings, SCORES_OF_CONTROLS, settings.claims)
    how_trained = prose(describe_training(paper_metrics, settings))
    return {
        **table_files(paper_metrics, published_folder, settings),
        "controls.csv": _csv(table),
        "controls.md": controls_page.page(table, how_trained, settings),
    }


def _compare(
    metrics: pd.DataFrame, selection: pd.DataFrame, settings: ComparisonSettings
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return effects, their means, SAEs made elsewhere, and the text of their page."""
    cells = effects.effects(metrics, selection, settings)
    means = verdicts.means(
        cells, settings.families, settings.intervals, settings.pictures
    )
    imported = effects.imported(metrics, selection, settings)
    paragraphs = ["# Comparison: the best that reconstructs as well"]
    paragraphs += comparison.page(means, settings, settings.intervals, cells, imported)
    return cells, means, imported, "\n\n".join(paragraphs) + "\n"


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
