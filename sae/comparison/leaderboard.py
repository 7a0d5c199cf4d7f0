"""One leaderboard of the methods of several experiments: mine beside stored ones.

The leaderboard joins rows: `metrics.parquet` (or .csv) and `selection.parquet` of several
results folders. Beside them lies `made_by.json`, which says what gave the rows their
meaning. Rows whose
versions, options, fingerprints or precision differ from those of the first folder are
left out, and so are rows of cells that the first folder does not have. A line about
each omission says what was left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field, ValidationError

from sae.comparison import verdicts
from sae.comparison.effects import effects
from sae.comparison.intervals import IntervalRule
from sae.comparison.methods import Methods
from sae.comparison.scores import COMPARED, SCORES, across_groups
from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Options, describe_problems, from_record, later
from sae.scoring.choice import DETECTION
from sae.scoring.rows import CELL, read_metrics

MADE_BY = "made_by.json"

# The columns that decide what is chosen (`sae.scoring.choice`).
CHOOSING_COLUMNS = {"r2", "l0", "detection"}


class MadeBy(Options):
    """A record of what gave an experiment's rows their meaning.

    Attributes:
        experiment: Its name.
        methods: Its methods.
        versions: {"training loop": its version, ...}, with those of objectives,
            penalties and protocols.
        recipe: The experiment's.
        by_dataset: {dataset: options of the recipe that differ there}.
        protocols: {name: the options that decide how many trials a method has}.
        metrics: {name: its version and options}.
        columns: {score: the metric that gave it}.
        cells: {"dataset / backbone": fingerprints and precision of the embeddings}, of
            all cells of this pair.
        families: {backbone: its family}.
        pictures: {dataset: a name of its pictures}, of those that say it.
        intervals: How wide intervals are.
    """

    experiment: str
    methods: Methods
    versions: dict[str, str]
    recipe: dict[str, Any]
    by_dataset: dict[str, dict[str, Any]] = later({})
    protocols: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    columns: dict[str, str] = Field(default={})
    cells: dict[str, Any] = Field(default={})
    families: dict[str, str] = Field(default={})
    pictures: dict[str, str] = Field(default={})
    intervals: IntervalRule = IntervalRule()

    def columns_made_otherwise(self, record: "MadeBy") -> set[str]:
        """Return the scores whose metric has another version or options in `record`."""
        return {
            column
            for column, metric in self.columns.items()
            if self.metrics.get(metric) != record.metrics.get(metric)
        }


class ExperimentRows(NamedTuple):
    """The rows of a results folder, and what made them.

    Attributes:
        metrics: Tidy metrics.
        selection: What protocols chose, a row for each trial or choice.
        made_by: What gave them their meaning.
    """

    metrics: pd.DataFrame
    selection: pd.DataFrame
    made_by: MadeBy

    def effects(self) -> pd.DataFrame:
        """Return its effects (`sae.comparison.effects`), MS across groups."""
        return effects(
            across_groups(self.metrics), self.selection, self.made_by.methods
        )


def read(folder: Path) -> ExperimentRows:
    """Read the metrics of a results folder, and what made them.

    Raises:
        UserError: The folder lacks a file, or one is damaged or of an older version.
    """
    file = folder / MADE_BY
    record = files.read_json(file, "record of what made these results")
    try:
        made_by = from_record(MadeBy, record)
    except ValidationError as error:
        raise UserError(f"{file} is not right: {describe_problems(error)}") from None
    selection = files.read_parquet(folder / "selection.parquet")
    tables = [folder / "metrics.parquet", folder / "metrics.csv"]
    table = next(filter(Path.exists, tables), None)
    if table is None:
        raise UserError(f"{folder} has neither metrics.parquet nor metrics.csv")
    metrics = read_metrics(table)
    if "detection_per_latent" in metrics and DETECTION not in metrics:
        raise UserError(
            f"{table} was scored by version 1, which had no detection per activation, "
            f"so that its methods are not compared here; {folder}/tables has what "
            "its rows say"
        )
    return ExperimentRows(metrics, selection, made_by)


def joined(
    experiments: Sequence[ExperimentRows],
) -> tuple[pd.DataFrame, list[str]]:
    """Return the means of all methods' effects, and what was left out and why.

    A method is compared with the baseline of its own experiment. A method that an
    earlier folder has, too, is called "experiment/method". Intervals are as the first
    folder says.

    Returns:
        The table of `sae.comparison.verdicts.means`, and a line for each omission.
    """
    names_on_leaderboard: set[str] = set()
    families: dict[str, str] = {}
    pictures: dict[str, str] = {}
    parts: list[pd.DataFrame] = []
    omissions: list[str] = []
    for experiment in experiments:
        comparable, left_out = _comparable_rows(experiment, experiments[0])
        omissions += left_out

        made_by = experiment.made_by
        of_experiment = comparable.effects()
        new_names = {
            method: _free_name(method, made_by.experiment, names_on_leaderboard)
            for method in of_experiment["method"].unique()
        }
        names_on_leaderboard.update(new_names.values())
        if len(of_experiment):
            parts.append(
                of_experiment.assign(
                    method=of_experiment["method"].map(new_names),
                    baseline=of_experiment["baseline"].map(new_names),
                )
            )
        # Where two folders know a backbone, its family is that of the earlier one.
        families = made_by.families | families
        pictures = made_by.pictures | pictures

    rule = experiments[0].made_by.intervals
    table = pd.concat(parts, ignore_index=True) if parts else of_experiment
    return verdicts.means(table, families, rule, pictures), omissions


def _free_name(method: str, experiment: str, names_on_leaderboard: set[str]) -> str:
    if method not in names_on_leaderboard:
        return method
    name = f"{experiment}/{method}"
    number = 1
    while name in names_on_leaderboard:
        number += 1
        name = f"{experiment}/{method} ({number})"
    return name


def _comparable_rows(
    experiment: ExperimentRows, first: ExperimentRows
) -> tuple[ExperimentRows, list[str]]:
    """Return rows that may stand beside the first folder's, and what is left out."""
    mismatch = _mismatch(experiment.made_by, first.made_by)
    if mismatch is not None:
        nothing = experiment._replace(selection=experiment.selection[:0])
        return nothing, [mismatch]
    metrics, cell_lines = _drop_foreign_cells(
        experiment.metrics, experiment.made_by, first
    )
    metrics, dataset_lines = _drop_other_embeddings(
        metrics, experiment.made_by, first.made_by
    )
    metrics, score_lines = _drop_other_metrics(
        metrics, experiment.made_by, first.made_by
    )
    cells = pd.MultiIndex.from_frame(metrics[CELL])
    selected_cells = pd.MultiIndex.from_frame(experiment.selection[CELL])
    selection = experiment.selection[selected_cells.isin(cells)]
    comparable = experiment._replace(metrics=metrics, selection=selection)
    return comparable, [*cell_lines, *dataset_lines, *score_lines]


def _mismatch(theirs: MadeBy, ours: MadeBy) -> str | None:
    """Say why no row of an experiment fits beside the first one; None if some may."""
    # Each may have objectives, penalties and protocols that the other lacks.
    shared = [name for name in ours.versions if name in theirs.versions]
    # What both must share: its name, theirs and ours.
    conditions: list[tuple[str, Any, Any]] = [
        (
            "versions",
            {name: theirs.versions[name] for name in shared},
            {name: ours.versions[name] for name in shared},
        ),
        ("protocol tuned", theirs.protocols.get("tuned"), ours.protocols.get("tuned")),
        ("recipe", theirs.recipe, ours.recipe),
        (
            "recipe of a dataset",
            _by_shared_dataset(theirs, ours),
            _by_shared_dataset(ours, theirs),
        ),
    ]
    columns = theirs.columns_made_otherwise(ours) & CHOOSING_COLUMNS
    for metric in sorted({theirs.columns[column] for column in columns}):
        of_theirs = theirs.metrics.get(metric)
        of_ours = ours.metrics.get(metric)
        conditions.append((f"metric {metric}", of_theirs, of_ours))

    for name, of_theirs, of_ours in conditions:
        if of_theirs != of_ours:
            return (
                f"{theirs.experiment}: left out, of other {name}: "
                f"{of_theirs}, not {of_ours}"
            )
    return None


def _differing_options(theirs: Any, ours: Any) -> str:
    """Say in what a metric of two experiments differs; None of one that lacks it."""
    if theirs is None or ours is None:
        return "one of the two experiments lacks this metric"
    if theirs["version"] != ours["version"]:
        return f"it is of version {theirs['version']}, not {ours['version']}"
    their_options = theirs.get("options", {})
    our_options = ours.get("options", {})
    parts = []
    for name in sorted(their_options.keys() | our_options.keys()):
        of_theirs = their_options.get(name)
        of_ours = our_options.get(name)
        if of_theirs != of_ours:
            parts.append(f"{name} is {of_theirs}, not {of_ours}")
    return "; ".join(parts)


def _by_shared_dataset(made_by: MadeBy, compared: MadeBy) -> dict[str, dict[str, Any]]:
    """Return what an experiment says of single datasets that another one has, too."""
    compared_datasets = {cell.split(" / ")[0] for cell in compared.cells}
    return {
        dataset: options
        for dataset, options in made_by.by_dataset.items()
        if dataset in compared_datasets
    }


def _drop_foreign_cells(
    metrics: pd.DataFrame, theirs: MadeBy, first: ExperimentRows
) -> tuple[pd.DataFrame, list[str]]:
    cells = pd.MultiIndex.from_frame(metrics[CELL])
    first_cells = pd.MultiIndex.from_frame(first.metrics[CELL])
    omissions = []
    foreign_cells = cells.difference(first_cells)
    if len(foreign_cells):
        omissions.append(
            f"{theirs.experiment}: cells left out, which {first.made_by.experiment} "
            f"does not have: {len(foreign_cells)}"
        )
    return metrics[cells.isin(first_cells)], omissions


def _drop_other_embeddings(
    metrics: pd.DataFrame, theirs: MadeBy, ours: MadeBy
) -> tuple[pd.DataFrame, list[str]]:
    omissions = []
    # Of each pair, "dataset / backbone", what made its embeddings.
    of_theirs = theirs.cells
    of_ours = ours.cells
    for pair in sorted(of_theirs.keys() & of_ours.keys()):
        if of_theirs[pair] == of_ours[pair]:
            continue
        dataset = pair.partition(" / ")[0]
        omissions.append(
            f"{theirs.experiment}: {dataset} left out: {pair} is "
            f"{of_theirs[pair]}, not {of_ours[pair]}"
        )
        # The whole dataset goes: a backbone may judge the latents of all others.
        metrics = metrics[metrics["dataset"] != dataset]
    return metrics, omissions


def _drop_other_metrics(
    metrics: pd.DataFrame, theirs: MadeBy, ours: MadeBy
) -> tuple[pd.DataFrame, list[str]]:
    # All of their columns go; a line says so only of what the leaderboard shows.
    shown: set[str] = set()
    for name in COMPARED:
        column = SCORES[name].column
        shown.update((column, f"{column}_across_groups"))
    differing = theirs.columns_made_otherwise(ours)
    omissions = []
    for metric in sorted({theirs.columns[column] for column in differing & shown}):
        difference = _differing_options(
            theirs.metrics.get(metric), ours.metrics.get(metric)
        )
        omissions.append(
            f"{theirs.experiment}: scores of {metric} left out, as {difference}"
        )
    columns = [column for column in differing if column in metrics]
    return metrics.drop(columns=columns), omissions
