"""A summary of what an experiment found, in a few lines: what `make run` ends in.

Snakemake has nothing of it: it says which jobs ran, not what was found.
"""

import textwrap
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from sae.comparison import fronts, leaderboard
from sae.comparison.outcomes import headline, read_table
from sae.comparison.published import interval, plain, signed
from sae.comparison.scores import OWN_FRONTS, SCORES, diverged
from sae.core import paths
from sae.report import feasibility, outcomes
from sae.report.fronts import NO_COMPARISON, SHOWN_CONTROLS, say_looks
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS
from sae_workflow.times import warnings_of_jobs

MOST_ROWS = 8  # methods
MOST_REASONS = 2  # methods of which it says why they are not compared
WIDTH = 100  # columns of a line
LONGEST_NAME = 15  # columns of a method's name, such as frozen_decoder
NOT_MEASURED = "not measured"


def summarise(experiment: str) -> Iterator[str]:
    """Yield the summary of an experiment, some dozens of lines at most.

    Raises:
        UserError: A file of the experiment is missing or was altered.
    """
    folder = Path(paths.EXPERIMENT.format(experiment=experiment))
    tables = folder / "tables"
    means = headline(read_table(tables / "front_means.parquet"))
    controls = read_table(tables / "front_controls.parquet")
    imported = read_table(tables / "front_imported.parquet")
    site = paths.SITE.format(experiment=experiment)

    yield from _summarise_fronts(means, controls)
    yield from _summarise_failures(folder)
    yield from _summarise_imported(imported)
    yield ""
    yield f"to look at:  {site} (open it in a browser)"
    yield f"to read on:  {folder}/ has tables/, figures/ and every number in metrics.csv"
    yield f"the paper's claims, by its own rule:  {folder}/claims.md"
    yield from _summarise_warnings(experiment)


def _summarise_fronts(means: pd.DataFrame, controls: pd.DataFrame) -> Iterator[str]:
    """Yield what methods have beside the baseline, what that is worth, and its price.

    Args:
        means: A row for each method and score: its effect, interval and outcome.
        controls: A row for each control and score.
    """
    of_endpoints = means[means["score"].isin(ENDPOINTS)]
    if of_endpoints.empty:
        yield NO_COMPARISON
        return
    about = f"mean over blocks, interval, {outcomes.heading(of_endpoints)}"
    cell_count = int(of_endpoints["cells"].max())
    if cell_count:
        cells = outcomes.counted(cell_count, "cell")
        yield f"At the baseline's R2, in {cells} ({about}):"
    else:
        yield "At the baseline's R2, nothing compares:"
    methods = list(dict.fromkeys(of_endpoints["method"]))
    for method in methods[:MOST_ROWS]:
        rows = of_endpoints[of_endpoints["method"] == method].set_index("score")
        for place, score in enumerate(ENDPOINTS):
            name = method if place == 0 else ""
            text = NOT_MEASURED
            if score in rows.index:
                text = _effect_text(rows.loc[score].to_dict())
            yield from _wrapped(f"  {_cut(name)}{SCORES[score].label:<11}{text}")
    if len(methods) > MOST_ROWS:
        yield f"  and {len(methods) - MOST_ROWS} more in tables/fronts.md"

    for control in list(dict.fromkeys(controls["control"]))[:SHOWN_CONTROLS]:
        rows = controls[controls["control"] == control].set_index("score")
        differences = [
            f"{SCORES[score].label} {signed(rows.loc[score, 'difference'])}"
            for score in ENDPOINTS
            if score in rows.index
        ]
        yield shorten(
            f"  {_cut(control)}{', '.join(differences)} (control, at its own R2)"
        )
    for sentence in say_looks(controls):
        yield from textwrap.wrap(
            sentence, WIDTH, initial_indent="  ", subsequent_indent="  "
        )
    for line in _summarise_prices(means, methods[:MOST_ROWS]):
        yield shorten(line)


def _summarise_failures(folder: Path) -> Iterator[str]:
    """Yield which SAEs diverged, and why cells are missing in the comparison.

    Args:
        folder: The results of an experiment.
    """
    experiment_rows = leaderboard.read(folder)
    metrics = experiment_rows.metrics
    for method, count in diverged(metrics).items():
        yield shorten(f"  {method}: {count} SAEs diverged (logs/train says when)")
    made_by = experiment_rows.made_by
    names = Names.model_validate({"methods": made_by.methods.methods})
    of_protocol = fronts.of_protocol(metrics, made_by.fronts)
    trials = fronts.validation_trials(of_protocol, made_by.fronts)
    sentences = feasibility.explain(trials, names, made_by.fronts)
    for sentence in sentences[:MOST_REASONS]:
        yield from textwrap.wrap(
            sentence, WIDTH, initial_indent="  ", subsequent_indent="    "
        )


def _wrapped(line: str) -> list[str]:
    """Return a line of the table on lines of at most `WIDTH` columns."""
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * (LONGEST_NAME + 14))


def _cut(name: str) -> str:
    """Return the name of a method as the first column has it, which marks a cut."""
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    return f"{name:<{LONGEST_NAME + 1}}"


def _effect_text(row: dict[Any, Any]) -> str:
    """Return an effect with its interval and outcome."""
    outcome = outcomes.say(row)
    if outcomes.is_out_of_reach(row) or isnan(row["effect"]):
        return outcome
    effect = interval(row["effect"], row["low"], row["high"])
    return f"{effect:<24}  {outcome}"


def _summarise_prices(means: pd.DataFrame, methods: list[str]) -> Iterator[str]:
    """Yield a line for each method that is worse in a score, with its interval.

    Effects are signed so that more is better.
    """
    is_worse = means["score"].isin(OWN_FRONTS) & (means["high"] < 0)
    worse = means[is_worse & ~means["score"].isin(ENDPOINTS)]
    for method in methods:
        prices = [
            f"{SCORES[row.score].label} {interval(row.effect, row.low, row.high)}"
            for row in worse[worse["method"] == method].itertuples()
        ]
        if prices:
            yield f"  the price of {method}: {', '.join(prices)}"


def _summarise_imported(imported: pd.DataFrame) -> Iterator[str]:
    """Yield what SAEs that were made elsewhere score, the baseline in brackets."""
    for method, rows in imported.groupby("method", sort=False):
        scores = [
            f"{SCORES[row.score].label} {row.value:.3f} ({plain(row.baseline)})"
            for row in rows.itertuples()
            if row.score in ("r2", *ENDPOINTS)
        ]
        yield shorten(f"  {_cut(method)}{', '.join(scores)}")
    if len(imported):
        yield "  made elsewhere (in brackets the baseline), not tuned here"


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
