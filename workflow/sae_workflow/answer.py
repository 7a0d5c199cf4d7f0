"""What an experiment found, in a few lines: what `make run` ends in."""

from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pandas as pd

from sae.comparison.claims import UNTESTED, read
from sae.comparison.intervals import MIN_BLOCKS, headline
from sae.comparison.published import interval
from sae.comparison.scores import ENDPOINTS, SCORES
from sae.core import paths
from sae.report.claims import as_text
from sae.report.fronts import NONE

MOST = 8  # methods, and claims
WIDTH = 100  # columns


def text(experiment: str) -> Iterator[str]:
    """The answer, at most 25 lines of `WIDTH` columns.

    Raises:
        OSError: a file of the experiment is not there.
    """
    where = {"experiment": experiment, "suffix": "csv"}
    folder = Path(paths.EXPERIMENT.format(**where))
    yield from _fronts(pd.read_csv(folder / "tables/front_means.csv"))
    yield from _claims(read(Path(paths.CLAIMS.format(**where))))
    yield ""
    yield f"to look at:  {paths.SITE.format(**where)} (open it in a browser)"
    yield f"to read on:  {folder}/ has tables/, figures/, claims.md and every number in metrics.csv"


def _fronts(means: pd.DataFrame) -> Iterator[str]:
    found = headline(means[means["score"].isin(ENDPOINTS)])
    if found.empty:
        yield NONE
        return
    cells = found["cells"].max()
    yield f"Above the baseline at the same R2 (mean of at most {cells} cells, its 95 % interval, outcome):"
    yield (
        f"  {'':<14}"
        + "".join(f"{SCORES[name].label:<42}" for name in ENDPOINTS).rstrip()
    )
    methods = list(dict.fromkeys(found["method"]))
    for method in methods[:MOST]:
        rows = found[found["method"] == method].set_index("score")
        shown = [
            _effect(rows.loc[name]) if name in rows.index else "not measured"
            for name in ENDPOINTS
        ]
        yield f"  {method[:13]:<14}" + "".join(f"{one:<42}" for one in shown).rstrip()
    if len(methods) > MOST:
        yield f"  and {len(methods) - MOST} more in tables/fronts.md"
    if found["at_lower_r2"].any():
        yield "  *: it reaches less R2 than the baseline, by more than the window"


def _effect(row: pd.Series) -> str:
    outcome = f"{row['outcome']}{'*' if row['at_lower_r2'] else ''}".removeprefix(
        "shown "
    )
    shown = interval(row["effect"], row["low"], row["high"])
    return "in no cell" if isnan(row["effect"]) else f"{shown} {outcome}"


def _claims(claims: pd.DataFrame) -> Iterator[str]:
    yield ""
    yield "Claims: " + ", ".join(
        f"{verdict} {count}"
        for verdict, count in claims["verdict"].value_counts().items()
    )
    of_ms = claims["claim"].str.endswith(("raises_ms", "raises_independent_ms"))
    shown = as_text(claims[of_ms & (claims["verdict"] != UNTESTED)][:MOST]).to_dict(
        "records"
    )
    yield from (
        shorten(f"  {row['verdict']:<16}{row['measured']:<24} {row['claim']}")
        for row in shown
    )
    if any(row["verdict"].endswith("?") for row in shown):
        yield "  ?: a control without training scores as high (claims.md)"
    if UNTESTED in set(claims["verdict"]):
        yield f"  {UNTESTED}: for most it takes {MIN_BLOCKS} pairs of a dataset and a backbone (claims.md)"


def shorten(line: str) -> str:
    """A line of at most `WIDTH` columns."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
