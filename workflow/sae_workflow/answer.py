"""What an experiment found, in a few lines: what `make run` ends in."""

from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pandas as pd

from sae.comparison.claims import UNTESTED, read
from sae.comparison.outcomes import headline
from sae.comparison.published import interval, plain, signed
from sae.comparison.scores import OWN_FRONTS, SCORES
from sae.core import paths
from sae.report.claims import as_text
from sae.report.fronts import NONE, SCALE
from sae.scoring.front import ENDPOINTS

MOST = 8  # methods, and claims
WIDTH = 100  # columns


def text(experiment: str) -> Iterator[str]:
    """The answer, at most 25 lines of `WIDTH` columns.

    Raises:
        OSError: a file of the experiment is not there.
    """
    where = {"experiment": experiment, "suffix": "csv"}
    folder = Path(paths.EXPERIMENT.format(**where))
    tables = folder / "tables"
    means = headline(pd.read_csv(tables / "front_means.csv"))
    controls = pd.read_csv(tables / "front_controls.csv")
    yield from _fronts(means, controls)
    yield from _imported(pd.read_csv(tables / "front_imported.csv"))
    yield from _claims(read(Path(paths.CLAIMS.format(**where))))
    yield ""
    yield f"to look at:  {paths.SITE.format(**where)} (open it in a browser)"
    yield f"to read on:  {folder}/ has tables/, figures/, claims.md and every number in metrics.csv"


def _fronts(means: pd.DataFrame, controls: pd.DataFrame) -> Iterator[str]:
    """Yield what methods have beside the baseline, what that is worth, and its price."""
    found = means[means["score"].isin(ENDPOINTS)]
    if found.empty:
        yield NONE
        return
    cells = found["cells"].max()
    yield f"Above the baseline at the same R2, in these {cells} cells (mean over blocks, interval, outcome):"
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
    for control in list(dict.fromkeys(controls["control"]))[:SCALE]:
        rows = controls[controls["control"] == control].set_index("score")
        known = [name for name in ENDPOINTS if name in rows.index]
        values = {name: signed(rows.loc[name, "difference"]) for name in known}
        shown = [values.get(name, "not measured") for name in ENDPOINTS]
        shown[-1] += "  control, at its own R2"
        yield f"  {control[:13]:<14}" + "".join(f"{one:<42}" for one in shown).rstrip()
    yield from map(shorten, _prices(means, methods[:MOST]))


def _imported(imported: pd.DataFrame) -> Iterator[str]:
    """Yield what SAEs that were made elsewhere score, the baseline in brackets."""
    for method, rows in imported.groupby("method", sort=False):
        parts = [
            f"{SCORES[row.score].label} {row.value:.3f} ({plain(row.baseline)})"
            for row in rows.itertuples()
            if row.score in ("r2", *ENDPOINTS)
        ]
        yield shorten(f"  {method[:13]:<14}{', '.join(parts)}")
    if len(imported):
        yield "  made elsewhere (in brackets the baseline), not compared at the same R2"


def _prices(means: pd.DataFrame, methods: list[str]) -> Iterator[str]:
    """Yield a line for each method that is worse in a score, with its interval."""
    worse = means[means["score"].isin(OWN_FRONTS) & (means["high"] < 0)]
    for method in methods:
        rows = worse[(worse["method"] == method) & ~worse["score"].isin(ENDPOINTS)]
        costs = [
            f"{SCORES[row.score].label} {interval(row.effect, row.low, row.high)}"
            for row in rows.itertuples()
        ]
        if costs:
            yield f"  the price of {method}: {', '.join(costs)}"


def _effect(row: pd.Series) -> str:
    """Return an effect with its interval and outcome."""
    if isnan(row["effect"]):
        return "in no cell"
    outcome = row["outcome"].replace(" in these cells", "")
    return f"{interval(row['effect'], row['low'], row['high'])} {outcome}"


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
        yield f"  {UNTESTED}: claims.md says why; for most there are too few pairs of a dataset and a backbone"


def shorten(line: str) -> str:
    """A line of at most `WIDTH` columns."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
