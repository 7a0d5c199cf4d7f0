"""All tables of an experiment, as files: csv with ids, md and tex with labels."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import Field

from sae.comparison import (
    card,
    controls,
    fronts,
    outcomes,
)
from sae.comparison.fronts import FrontRule
from sae.comparison.intervals import IntervalRule
from sae.comparison.pairs import COLUMNS as PAIR_COLUMNS
from sae.comparison.scores import SCORES, across_groups
from sae.config.rule import ClaimRule
from sae.core import files, paths
from sae.report import controls as controls_page
from sae.report import fronts as fronts_page
from sae.report import leaderboard
from sae.report.markup import prose
from sae.report.names import Names
from sae.report.paper_tables import describe_training, table_files
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import read_metrics
from sae.scoring.selection import chosen_rows, rows_under

# The scores of the paper's tables that the controls are compared in.
SCORES_OF_CONTROLS = [name for name, score in SCORES.items() if score.worth]


class ComparisonSettings(Names):
    """The labels of things, and the rules by which methods are compared.

    Attributes:
        claims: The rule of the paper's claims; its confidence and fewest blocks hold
            for fronts, too.
        fronts: The rule of fronts.
        families: {backbone: its family}.
        pictures: {dataset: a name of its pictures}, of those that say it.
    """

    claims: ClaimRule
    fronts: FrontRule = FrontRule()
    families: dict[str, str] = Field({})
    pictures: dict[str, str] = Field({})

    @property
    def intervals(self) -> IntervalRule:
        """The rule of the intervals of fronts."""
        rule = self.claims
        return IntervalRule(confidence=rule.confidence, min_blocks=rule.min_blocks)


def write(
    metrics_file: Path,
    latents_file: Path,
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
    - fronts.csv and .md, front_means.csv and other front_*.csv: how methods compare at
      the same R^2 (`sae.comparison.fronts`).
    - detection.csv and .md: detection beside looks and at equal frequencies of firing.
    - leaderboard.csv and .md: all methods in one table
      (`sae.comparison.leaderboard`).
    - fronts.parquet, front_means.parquet and others of `paths.TYPED_TABLES`: the rows
      of the csv, with their types, for the site and the summary of a run.

    Args:
        metrics_file: metrics.parquet; made_by.json lies beside it.
        latents_file: latents.parquet.
        published_folder: The paper's tables as CSV.
        settings: How things are printed, and the rules of comparison.
        out: The folder to write into.
        beside: Folders of other experiments' results, whose methods stand on the
            leaderboard too.
    """
    metrics = read_metrics(metrics_file)
    paper_metrics = rows_under(metrics, "paper")
    chosen = chosen_rows(paper_metrics, "test", settings.compared)
    latents = files.read_parquet(latents_file)

    front_tables, fronts_text = _compare_fronts(
        across_groups(metrics), chosen, settings
    )
    controls_table = controls.compare(
        chosen, settings, SCORES_OF_CONTROLS, settings.claims
    )
    how_trained = prose(describe_training(paper_metrics, settings))
    detection_table = controls.detection_by_cell(chosen, latents, settings)
    texts = {
        **table_files(paper_metrics, published_folder, settings),
        "controls.csv": _csv(controls_table),
        "controls.md": controls_page.page(controls_table, how_trained, settings),
        **{f"{name}.csv": _csv(table) for name, table in front_tables.items()},
        "fronts.md": fronts_text,
        "detection.csv": _csv(detection_table),
        "detection.md": controls_page.detection_page(detection_table, settings),
        **leaderboard.render([metrics_file.parent, *beside]),
    }
    for name, text in texts.items():
        files.write_text(out / name, text)
    for name in paths.TYPED_TABLES:
        files.write_parquet(out / f"{name}.parquet", front_tables[name])
    files.write_sums(out / "tables.sums.json", [out / name for name in texts])


def _compare_fronts(
    metrics: pd.DataFrame, chosen: pd.DataFrame, settings: ComparisonSettings
) -> tuple[dict[str, pd.DataFrame], str]:
    """Return {name: table} of methods at the same R^2, and the text of their page."""
    all_readings = outcomes.readings_of(metrics, settings.tuned, settings.fronts)
    means = outcomes.means(
        all_readings, settings.families, settings.intervals, settings.pictures
    )
    dataset_means = outcomes.by_dataset(all_readings.fronts, settings.families)
    chosen_across_groups = across_groups(chosen)
    control_differences = controls.compare(
        chosen_across_groups, settings, fronts_page.HEADLINE, settings.claims
    )
    over_all = control_differences["dataset"] == controls.ALL
    # Of several datasets they are over all together.
    if over_all.any():
        control_differences = control_differences[over_all]
    imported = controls.imported_beside(
        chosen_across_groups, settings, ("r2", *fronts_page.HEADLINE, "measured")
    )
    if len(imported):
        at_front = card.read_cells(
            metrics, settings, settings.fronts, fronts_page.HEADLINE
        )
        imported = imported.merge(at_front, on=["method", "score"], how="left")
    sensitivity = _sensitivity(metrics, settings)

    several_datasets = len(dataset_means["dataset"].unique()) > 1
    paragraphs = ["# Fronts: each method beside its baseline at the same R2"]
    paragraphs += fronts_page.page(
        means,
        settings,
        settings.fronts,
        settings.intervals,
        datasets=dataset_means if several_datasets else None,
        controls=control_differences,
    )
    paragraphs += fronts_page.imported_section(imported, settings)
    if len(fronts_page.headline_table(means, settings)):
        paragraphs += fronts_page.sensitivity_section(sensitivity, settings)

    front_tables = {
        "fronts": fronts.by_cell(all_readings.fronts),
        "front_means": means,
        "front_datasets": dataset_means,
        "front_pairs": all_readings.pairs,
        "front_controls": control_differences,
        "front_sensitivity": sensitivity,
        "front_imported": imported,
    }
    return front_tables, "\n\n".join(paragraphs) + "\n"


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def _sensitivity(metrics: pd.DataFrame, settings: ComparisonSettings) -> pd.DataFrame:
    """Return the means of the endpoints under other bounds of what is feasible."""
    no_pairs = pd.DataFrame(columns=PAIR_COLUMNS)
    front_metrics = fronts.of_protocol(metrics, settings.fronts)
    tables = []
    for rule_text, effects in fronts.sensitivity(
        front_metrics, settings.tuned, settings.fronts
    ):
        fronts_alone = outcomes.Readings(
            fronts=effects, equal_r2=effects[:0], pairs=no_pairs
        )
        means = outcomes.means(
            fronts_alone, settings.families, settings.intervals, settings.pictures
        )
        of_endpoints = means[means["score"].isin(ENDPOINTS)]
        tables.append(of_endpoints.assign(asked=rule_text))
    return pd.concat(tables)
