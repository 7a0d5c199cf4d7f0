"""One board of several experiments' methods: mine beside those whose results are stored somewhere.

What is joined are rows: `metrics.csv` (or .parquet) of a results folder and, beside it, `made_by.json`, which says what
gave them their meaning. Rows whose versions, options, fingerprints or precision differ from those of the first folder
are left out, and so are rows of cells that it does not have. One line says what they were.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field

from sae.comparison import fronts, outcomes, readings
from sae.comparison.intervals import Rule as IntervalRule
from sae.comparison.methods import Methods
from sae.comparison.scores import COMPARED, SCORES, across_groups
from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Options
from sae.scoring.rows import CELL

MADE_BY = "made_by.json"


class MadeBy(Options):
    """What gave an experiment's rows their meaning.

    Attributes:
        experiment: its name.
        methods: its methods.
        fronts: the rule of its fronts.
        versions: {'training loop': its version, ...}, of objectives, penalties and protocols too.
        recipe: the experiment's.
        protocols: {name: options that decide how many trials a method has}.
        metrics: {name: its version and options}.
        columns: {score: the metric that gave it}.
        cells: {'dataset / backbone': fingerprints and precision of the embeddings}.
        families: {backbone: its family}; records of before the third version of the
            comparison have none, and their backbones count as families of their own.
        intervals: how wide intervals are.
    """

    experiment: str
    methods: Methods
    fronts: fronts.Rule
    versions: dict[str, str]
    recipe: dict[str, Any]
    protocols: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    columns: dict[str, str] = Field(default={})
    cells: dict[str, Any] = Field(default={})
    families: dict[str, str] = Field(default={})
    intervals: IntervalRule = IntervalRule()


class Result(NamedTuple):
    """The rows of a results folder, and what made them."""

    metrics: pd.DataFrame
    made_by: MadeBy


def read(folder: Path) -> Result:
    """The result in a folder.

    Raises:
        UserError: it lacks a file, or one is damaged.
    """
    made_by = MadeBy.of_record(
        files.read_json(folder / MADE_BY, "record of what made these results")
    )
    table = folder / "metrics.parquet"
    if not table.exists() and not (folder / "metrics.csv").exists():
        raise UserError(f"{folder} has neither metrics.parquet nor metrics.csv")
    return Result(
        files.read_parquet(table)
        if table.exists()
        else pd.read_csv(folder / "metrics.csv"),
        made_by,
    )


def joined(results: Sequence[Result]) -> tuple[pd.DataFrame, list[str]]:
    """Return the means of all methods' effects, and what was left out and why.

    A method is compared with the baseline of its own experiment; one that an earlier
    folder has too is called 'experiment/method'. Intervals are as the first folder says.

    Returns:
        The table of `sae.comparison.outcomes.means`, and a line for each omission.
    """
    taken: set[str] = set()
    families: dict[str, str] = {}
    parts: list[readings.Readings] = []
    omissions: list[str] = []
    for result in results:
        metrics, left_out = _fitting(result, results[0])
        omissions += left_out
        made_by = result.made_by
        part = readings.read(metrics, made_by.methods.tuned, made_by.fronts)
        methods = part.fronts["method"].unique()
        names = {name: _free(name, made_by.experiment, taken) for name in methods}
        taken |= {*names.values()}
        parts.append(part.renamed(names))
        families = made_by.families | families
    rule = results[0].made_by.intervals
    return outcomes.means(readings.joined(parts), families, rule), omissions


def _free(method: str, experiment: str, taken: set[str]) -> str:
    """A name that no other method on the board has."""
    names = (
        f"{experiment}/{method}{of}"
        for of in ("", *(f" ({n})" for n in range(2, len(taken) + 3)))
    )
    return (
        method
        if method not in taken
        else next(name for name in names if name not in taken)
    )


def _fitting(result: Result, mine: Result) -> tuple[pd.DataFrame, list[str]]:
    """The rows that go beside those of the first folder, MS across groups; a line about each thing that does not."""
    own, first, said = result.made_by, mine.made_by, list[str]()
    both = {
        name: first.versions[name]
        for name in own.versions.keys() & first.versions.keys()
    }
    pairs: list[tuple[str, Any, Any]] = [
        ("versions", {n: own.versions[n] for n in both}, both)
    ]
    of_fronts = [
        {n: o for n, o in m.protocols.items() if m.fronts.protocol in (None, n)}
        for m in (own, first)
    ]
    pairs += [
        ("protocols", of_fronts[0], of_fronts[1]),
        ("recipe", own.recipe, first.recipe),
    ]
    pairs.append(("fronts", own.fronts, first.fronts))
    lost = {
        c
        for c, metric in own.columns.items()
        if own.metrics.get(metric) != first.metrics.get(metric)
    }
    # What feasibility rests on.
    asked = sorted(
        {own.columns[column] for column in lost & {"r2", "l0", "dead_train"}}
    )
    pairs += [
        (f"metric {metric}", own.metrics.get(metric), first.metrics.get(metric))
        for metric in asked
    ]
    for what, theirs, ours in pairs:
        if theirs != ours:
            return result.metrics[:0], [
                f"{own.experiment}: left out, of other {what}: {theirs}, not {ours}"
            ]
    metrics = fronts.of_protocol(result.metrics, own.fronts)
    cells, there = (
        pd.MultiIndex.from_frame(rows[[*CELL]]) for rows in (metrics, mine.metrics)
    )
    if beyond := len(cells.difference(there)):
        said.append(
            f"{own.experiment}: cells left out, which {first.experiment} does not have: {beyond}"
        )
    metrics = metrics[cells.isin(there)]
    for cell in sorted(own.cells.keys() & first.cells.keys()):
        if (
            own.cells[cell] != first.cells[cell]
        ):  # A backbone may be trained on, or judge all others of its dataset.
            dataset = cell.partition(" / ")[0]
            said.append(
                f"{own.experiment}: {dataset} left out: {cell} is {own.cells[cell]}, not {first.cells[cell]}"
            )
            metrics = metrics[metrics["dataset"] != dataset]
    columns = [SCORES[name].column for name in COMPARED]
    read = {*columns, *(f"{column}_across_groups" for column in columns)}
    for metric in sorted({own.columns[column] for column in lost & read}):
        both_of = own.metrics.get(metric), first.metrics.get(metric)
        said.append(
            f"{own.experiment}: scores of {metric} left out, of {both_of[0]}, not {both_of[1]}"
        )
    return across_groups(metrics.drop(columns=[c for c in lost if c in metrics])), said
