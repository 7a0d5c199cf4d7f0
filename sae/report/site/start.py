"""Where to start: a few views, each chosen by a rule that stands beside it, not by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from sae.comparison.scores import SCORES
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS

OFTEN = 10  # test images on which a latent fires, so that its scores rest on more than a few
ALIKE = 0.7  # decoder cosine of two latents that are taken for the same
WELL, BADLY = 0.95, 0.7  # detection
_READ = ["n_active", "ms", "detection", "purity"]


class Found(NamedTuple):
    """An SAE that has a file.

    Attributes:
        place: dataset, backbone, k.
        table: m rows by latent.
        baseline: that of its cell; for each latent (m,) the number of the one there that is most like it, and their
            cosine.
    """

    place: tuple[Any, ...]
    method: str
    table: pd.DataFrame
    baseline: tuple[Found, np.ndarray, np.ndarray] | None


def address(view: str, *places: Any, **filters: Any) -> str:
    """A view's address: its places, then what filters it."""
    asked = "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in filters.items()
    )
    return "/".join(["#", view, *(quote(str(place), safe="") for place in places)]) + (
        f"?{asked}" if asked else ""
    )


def views(
    saes: Sequence[Found],
    names: Names,
    effects: Sequence[Mapping[str, Any]],
    cells: Sequence[tuple[Any, ...]],
) -> list[dict[str, str]]:
    """Rows of title, rule and href.

    Args:
        effects: of the overview, by number of cell and method; cells: by number.
    """
    first = next(
        (method for method, other in names.tuned.items() if other is not None), None
    )
    found, label = list[dict[str, str]](), names.method(first or "")
    number = names.order(names.methods).index(first) if first else None
    shown = {sae.place for sae in saes if sae.method == first}
    gains = [e for e in effects if e["method"] == number and e["effect"] == e["effect"]]
    gains = [
        e for e in gains if cells[e["cell"]] in shown
    ]  # Else there is nothing of it to look at.
    measured = [score for score in ENDPOINTS if any(e["score"] == score for e in gains)]
    gains = [e for e in gains if e["score"] in measured[:1]]
    if first and gains:
        best = max(gains, key=lambda effect: effect["effect"])
        rule = f"The cell in which {label} gains most {SCORES[measured[0]].label} at the same R²."
        href = address("compare", *cells[best["cell"]], a=names.tuned[first], b=first)
        found.append({"title": f"Where {label} helps most", "rule": rule, "href": href})
    of_saes = [_latents(number, sae) for number, sae in enumerate(saes)]
    every = pd.concat(
        of_saes or [pd.DataFrame(columns=[*_READ, "sae"])], ignore_index=True
    )
    often = every[every["n_active"] >= OFTEN]
    of_often = f"Of the latents that fire on {OFTEN} test images or more, that of"
    gained = (
        often[[saes[n].method == first for n in often["sae"]]] if first else often[:0]
    )
    well, badly = every[every["detection"] >= WELL], often[often["detection"] < BADLY]
    for title, rule, rows, by in (
        (
            f"Most gained by {label}",
            f"{of_often} most gain in MS over its match in the baseline.",
            gained,
            "gain",
        ),
        (
            "Rare, and well detected",
            f"Of detection {WELL:g} or more, the latent that fires least.",
            well,
            "-n_active",
        ),
        (
            "High MS, badly detected",
            f"{of_often} highest MS with a detection below {BADLY:g}.",
            badly,
            "ms",
        ),
        ("Highest MS", f"{of_often} highest MS.", often, "ms"),
        ("Across classes", f"{of_often} lowest purity.", often, "-purity"),
    ):
        values = rows[by.strip("-")].dropna().astype(float) if len(rows) else rows[:0]
        if len(values):
            row = rows.loc[values.idxmin() if by[0] == "-" else values.idxmax()]
            sae = saes[int(row["sae"])]
            beside = (
                {"with": sae.baseline[0].method}
                if by == "gain" and sae.baseline
                else {}
            )
            href = address(
                "latent", *sae.place, sae.method, int(row["latent"]), **beside
            )
            found.append({"title": title, "rule": rule, "href": href})
    return found


def _latents(number: int, sae: Found) -> pd.DataFrame:
    """What the rules read of each latent of an SAE; `gain`: over its match in the baseline, if it has one."""
    table = sae.table.reindex(columns=_READ).astype(float)
    table = table.assign(sae=number, latent=range(len(table)), gain=np.nan)
    if sae.baseline:
        base, match, cosine = sae.baseline
        there = base.table.reindex(columns=_READ).iloc[match].reset_index(drop=True)
        alike = (cosine >= ALIKE) & (there["n_active"] >= OFTEN)
        table["gain"] = (table["ms"] - there["ms"].astype(float)).where(alike)
    return table
