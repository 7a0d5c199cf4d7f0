"""A summary of what an experiment found, in a few lines: what `make run` ends in."""

import textwrap
from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pandas as pd

from sae.comparison import board, fronts
from sae.comparison.claims import UNTESTED
from sae.comparison.outcomes import headline
from sae.comparison.published import interval, plain, signed
from sae.comparison.scores import OWN_FRONTS, SCORES, diverged
from sae.core import files, paths
from sae.report import feasibility
from sae.report.claims import as_text
from sae.report.fronts import NO_COMPARISON, SHOWN_CONTROLS, say_looks
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS

MOST_ROWS = 8  # methods, and claims
MOST_REASONS = 2  # methods of which it says why they are not compared
WIDTH = 100  # columns of a line
NOT_MEASURED = "not measured"


def summarise(experiment: str) -> Iterator[str]:
    """Yield the summary of an experiment, some dozens of lines at most.

    Raises:
        UserError: A file of the experiment is missing or was altered.
    """
    folder = Path(paths.EXPERIMENT.format(experiment=experiment))
    tables = folder / "tables"
    means = headline(files.read_parquet(tables / "front_means.parquet"))
    controls = files.read_parquet(tables / "front_controls.parquet")
    imported = files.read_parquet(tables / "front_imported.parquet")
    claims = files.read_parquet(paths.TYPED_CLAIMS.format(experiment=experiment))
    site = paths.SITE.format(experiment=experiment)

    yield from _summarise_fronts(means, controls)
    yield from _summarise_failures(folder)
    yield from _summarise_imported(imported)
    yield from _summarise_claims(claims)
    yield ""
    yield f"to look at:  {site} (open it in a browser)"
    yield (
        f"to read on:  {folder}/ has tables/, figures/, claims.md and every number in "
        "metrics.csv"
    )


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
    cell_count = of_endpoints["cells"].max()
    yield (
        f"Above the baseline at the same R2, in these {cell_count} cells (mean over "
        "blocks, interval, outcome):"
    )
    yield _row_of_endpoints("", [SCORES[name].label for name in ENDPOINTS])

    methods = list(dict.fromkeys(of_endpoints["method"]))
    for method in methods[:MOST_ROWS]:
        rows = of_endpoints[of_endpoints["method"] == method].set_index("score")
        effects = [
            _print_effect(rows.loc[name]) if name in rows.index else NOT_MEASURED
            for name in ENDPOINTS
        ]
        yield _row_of_endpoints(method, effects)
    if len(methods) > MOST_ROWS:
        yield f"  and {len(methods) - MOST_ROWS} more in tables/fronts.md"

    for control in list(dict.fromkeys(controls["control"]))[:SHOWN_CONTROLS]:
        rows = controls[controls["control"] == control].set_index("score")
        differences = [
            signed(rows.loc[name, "difference"]) if name in rows.index else NOT_MEASURED
            for name in ENDPOINTS
        ]
        differences[-1] += "  control, at its own R2"
        yield _row_of_endpoints(control, differences)
    for sentence in say_looks(controls):
        yield f"  {sentence}"
    for line in _summarise_prices(means, methods[:MOST_ROWS]):
        yield shorten(line)


def _summarise_failures(folder: Path) -> Iterator[str]:
    """Yield which SAEs diverged, and why cells are missing in the comparison.

    Args:
        folder: The results of an experiment.
    """
    experiment_rows = board.read(folder)
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


def _row_of_endpoints(name: str, texts: list[str]) -> str:
    """Return a row of the table: a name, and a text for each endpoint."""
    columns = "".join(f"{text:<42}" for text in texts)
    return f"  {name[:13]:<14}{columns.rstrip()}"


def _print_effect(row: pd.Series) -> str:
    """Return an effect with its interval and outcome."""
    if isnan(row["effect"]):
        return "in no cell"
    outcome = row["outcome"].replace(" in these cells", "")
    return f"{interval(row['effect'], row['low'], row['high'])} {outcome}"


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
        yield shorten(f"  {method[:13]:<14}{', '.join(scores)}")
    if len(imported):
        yield "  made elsewhere (in brackets the baseline), not compared at the same R2"


def _summarise_claims(claims: pd.DataFrame) -> Iterator[str]:
    """Yield how many claims have each verdict, and those of monosemanticity."""
    counts = claims["verdict"].value_counts()
    yield ""
    yield "Claims: " + ", ".join(
        f"{verdict} {count}" for verdict, count in counts.items()
    )

    is_of_ms = claims["claim"].str.endswith(("raises_ms", "raises_independent_ms"))
    is_tested = claims["verdict"] != UNTESTED
    shown_claims = claims[is_of_ms & is_tested][:MOST_ROWS]
    rows = as_text(shown_claims).to_dict("records")
    for row in rows:
        yield shorten(f"  {row['verdict']:<16}{row['measured']:<24} {row['claim']}")
    if any(row["verdict"].endswith("?") for row in rows):
        yield "  ?: a control without training scores as high (claims.md)"
    if UNTESTED in set(claims["verdict"]):
        yield (
            f"  {UNTESTED}: claims.md says why; for most there are too few pairs of a "
            "dataset and a backbone"
        )


def shorten(line: str) -> str:
    """Return a line cut to at most `WIDTH` columns."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
