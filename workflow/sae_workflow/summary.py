"""A summary of what an experiment found, in a few lines: what `make run` ends in.

Snakemake has nothing of it: it says which jobs ran, not what was found.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sae.comparison import leaderboard
from sae.comparison.published import signed
from sae.comparison.scores import SCORES, diverged
from sae.comparison.verdicts import ALL_FAMILIES, read_table
from sae.core import paths
from sae.report import comparison
from sae.report.names import Names
from sae.scoring.choice import DETECTION
from sae_workflow.times import warnings_of_jobs

MOST_ROWS = 8  # methods
MOST_REASONS = 2  # methods of which it says why they are not compared
WIDTH = 100  # columns of a line
LONGEST_NAME = 15  # columns of a method's name, such as frozen_decoder
UNDER_NAME = " " * (LONGEST_NAME + 3)
# What stands beside detection and MS, in one line a method.
BESIDE = (
    "detection_per_latent",
    "detection_per_activation",
    "coverage",
    "usable",
    "effective",
    "nested",
    "r2",
)


def summarise(experiment: str) -> Iterator[str]:
    """Yield the summary of an experiment, some dozens of lines at most.

    Raises:
        UserError: A file of the experiment is missing or was altered.
    """
    folder = Path(paths.EXPERIMENT.format(experiment=experiment))
    tables = folder / "tables"
    means = read_table(tables / "comparison.parquet")
    cells = read_table(tables / "comparison_cells.parquet")
    imported = read_table(tables / "comparison_imported.parquet")
    site = paths.SITE.format(experiment=experiment)

    yield from _summarise_effects(means)
    yield from _summarise_failures(folder, cells)
    yield from _summarise_imported(imported)
    yield ""
    yield f"to look at:  {site} (open it in a browser)"
    yield f"to read on:  {folder}/ has tables/, figures/ and every number in metrics.csv"
    yield f"the paper's claims, by its own rule:  {folder}/claims.md"
    yield from _summarise_warnings(experiment)


def _summarise_effects(means: pd.DataFrame) -> Iterator[str]:
    """Yield what methods have beside the baseline, and what that is worth.

    Args:
        means: Of `sae.comparison.verdicts.means`.
    """
    endpoints = comparison.measured(means)
    if not endpoints:
        yield from _wrapped(comparison.NO_COMPARISON, "")
        return
    yield from _wrapped(comparison.which_saes(means), "")
    if DETECTION not in endpoints:
        yield from _wrapped(comparison.NO_DETECTION, "")

    is_control = means["control"].astype(bool)
    methods = list(dict.fromkeys(means.loc[~is_control, "method"]))
    for method in methods[:MOST_ROWS]:
        yield from _summarise_method(means[means["method"] == method], endpoints)
    if len(methods) > MOST_ROWS:
        yield f"  and {len(methods) - MOST_ROWS} more in tables/comparison.md"

    controls = comparison.effects_of(means[is_control], endpoints)
    for control, rows in controls.groupby("method", sort=False):
        by_score = rows.set_index("score")["effect"]
        differences = [
            f"{SCORES[score].label} {signed(by_score[score])}"
            for score in endpoints
            if score in by_score
        ]
        yield shorten(
            f"  {_cut(str(control))}{', '.join(differences)} (control, at its own R2)"
        )
    for sentence in comparison.pixel_sentence(means):
        yield from _wrapped(sentence, "  ")


def _summarise_method(rows: pd.DataFrame, endpoints: list[str]) -> Iterator[str]:
    """Yield a line an endpoint and family, and one of all other scores."""
    of_mean = rows[rows["family"] == ALL_FAMILIES].set_index("score")
    name = str(rows["method"].iloc[0])
    for score in endpoints:
        row = of_mean.loc[score].to_dict()
        label = f"{SCORES[score].label:<11}"
        verdict = comparison.say(row)
        text = f"{comparison.effect_text(row):<24}  {'' if verdict == '-' else verdict}"
        yield from _wrapped(f"  {_cut(name)}{label}{text}".rstrip(), "", UNDER_NAME)
        name = ""
        is_of_family = rows["effect"].notna() & (rows["family"] != ALL_FAMILIES)
        of_score = rows[is_of_family & (rows["score"] == score)]
        if len(of_score) > 1:
            by_family = [
                f"{row.family} {signed(row.effect)}" for row in of_score.itertuples()
            ]
            yield shorten(f"  {_cut('')}{'':<11}{', '.join(by_family)}")
    beside = [
        f"{SCORES[score].label.removeprefix('detection ')} "
        f"{signed(of_mean.loc[score, 'effect'])}"
        for score in BESIDE
        if score in of_mean.index and pd.notna(of_mean.loc[score, "effect"])
    ]
    if beside:
        yield from _wrapped(f"same SAEs: {', '.join(beside)}", UNDER_NAME)


def _summarise_failures(folder: Path, cells: pd.DataFrame) -> Iterator[str]:
    """Yield which SAEs diverged, and why cells are missing in the comparison.

    Args:
        folder: The results of an experiment.
        cells: Of `sae.comparison.effects.effects`.
    """
    experiment_rows = leaderboard.read(folder)
    for method, count in diverged(experiment_rows.metrics).items():
        yield shorten(f"  {method}: {count} SAEs diverged (logs/train says when)")
    made_by = experiment_rows.made_by
    names = Names.model_validate({"methods": made_by.methods.methods})
    for sentence in comparison.why_out_of_reach(cells, names)[:MOST_REASONS]:
        yield from _wrapped(sentence, "  ")


def _wrapped(text: str, indent: str, further: str | None = None) -> list[str]:
    """Return a text on lines of at most `WIDTH` columns.

    Args:
        text: The text.
        indent: What the first line begins with.
        further: What the other lines begin with; None: as the first one.
    """
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if further is None else further,
    )


def _cut(name: str) -> str:
    """Return the name of a method as the first column has it, which marks a cut."""
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    return f"{name:<{LONGEST_NAME + 1}}"


def _summarise_imported(imported: pd.DataFrame) -> Iterator[str]:
    """Yield what SAEs that were made elsewhere score, the baseline in brackets."""
    for method, rows in imported.groupby("method", sort=False):
        yield shorten(f"  {_cut(str(method))}{comparison.imported_scores(rows)}")
    if len(imported):
        yield (
            "  made elsewhere, not tuned here (in brackets the baseline's best that "
            "reconstructs as well)"
        )


def _summarise_warnings(experiment: str) -> Iterator[str]:
    """Yield what the jobs of an experiment warned of, in this run or before."""
    warnings = warnings_of_jobs(experiment)
    if warnings:
        yield ""
        yield "Warnings of the jobs that made these results:"
    for warning in warnings:
        yield from textwrap.wrap(
            warning, WIDTH, initial_indent="  ", subsequent_indent="    "
        )


def shorten(line: str) -> str:
    """Return a line cut to at most `WIDTH` columns."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
