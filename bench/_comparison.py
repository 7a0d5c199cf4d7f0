"""Read an experiment's rows, names and rules, for the scripts about comparisons."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sae_workflow import settings

from sae.comparison import fronts, intervals
from sae.comparison.scores import across_groups
from sae.report.tables import ComparisonSettings
from sae.scoring.rows import read_metrics


class Experiment(NamedTuple):
    """The rows of which an experiment's fronts are made, and its settings.

    Attributes:
        metrics: Rows of the protocol of fronts, MS across groups.
        names: Labels, rules and families.
    """

    metrics: pd.DataFrame
    names: ComparisonSettings

    @property
    def tuning(self) -> pd.DataFrame:
        """The rows of the seed of the tuning."""
        return self.metrics[self.metrics["seed"] == self.names.fronts.tuning]

    def effects(self, metrics: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the effects at the first width, of these rows or of others."""
        rows = self.metrics if metrics is None else metrics
        rule = self.names.fronts
        rule = rule.model_copy(update={"widths": rule.widths[:1]})
        return fronts.effects(rows, self.names.tuned, rule)


def read_experiment(
    run_folder: Path, *overlays: str, experiment: str | None = None
) -> Experiment:
    """Read the rows of an experiment, and its settings from the config.

    Args:
        run_folder: The folder of the run, with metrics.parquet.
        overlays: Files laid over config.yaml.
        experiment: Its name, where the folder has another.
    """
    config = settings.read_config("config.yaml", *overlays)
    record = settings.claims_settings(config, experiment or run_folder.name)
    names = ComparisonSettings.model_validate(record)
    metrics = across_groups(read_metrics(run_folder / "metrics.parquet"))
    return Experiment(fronts.of_protocol(metrics, names.fronts), names)


def over_blocks(
    cells: pd.Series, names: ComparisonSettings
) -> tuple[float, float, float]:
    """Return the mean of cells over (dataset, family) blocks, half its interval, and p.

    Args:
        cells: By (dataset, backbone, k).
        names: With the families.
    """
    rows = cells.rename("effect").reset_index()
    family = rows["backbone"].map(names.families)
    blocks = rows.groupby(["dataset", family])["effect"].mean()
    return intervals.student(blocks.to_numpy(), names.intervals.confidence)
