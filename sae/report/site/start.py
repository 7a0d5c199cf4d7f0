"""Where to start: a few views, each chosen by a rule that stands beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd

from sae.comparison.published import signed
from sae.comparison.scores import SCORES
from sae.report.names import Names, printed
from sae.scoring.choice import ENDPOINTS
from sae.scoring.rows import CELL

# Test images on which a latent fires, so that its scores rest on more than a few.
OFTEN = 10
ALIKE = 0.7  # decoder cosine of two latents that are taken for the same
WELL = 0.95  # detection
BADLY = 0.7  # detection
# Names that are shown; each promises something on so many test images or more.
MOST_NAMES = 6
CARD_IMAGES = 5  # images of a latent on its card
_LATENT_COLUMNS = ["n_active", "ms", "detection", "purity"]
_NAME_COLUMNS = ["name", "name_precision", "named_images"]
_OF_OFTEN = f"Of the latents that fire on {OFTEN} test images or more, the one with"


@dataclass(frozen=True)
class Strip:
    """The images of a latent, in a row.

    Attributes:
        label: Whose latent it is.
        cell: The place of its cell in the site's list.
        images: Rows of the test images on which it fires most, the highest first.
    """

    label: str
    cell: int
    images: list[int]


@dataclass(frozen=True)
class View:
    """A view to start with.

    Attributes:
        title: Of the link.
        rule: By which it was chosen.
        href: Its address.
        strips: Images of the latent that it shows; of its match behind them.
        named: Whether its title is the name of the latent.
    """

    title: str
    rule: str
    href: str
    strips: list[Strip] = field(default_factory=list)
    named: bool = False


def latent_rows(
    cell: int, method: str, table: pd.DataFrame, highest_images: np.ndarray
) -> pd.DataFrame:
    """Return a row for each latent of an SAE, as the rules read it.

    Args:
        cell: The place of its cell in the site's list.
        method: Its method.
        table: (m rows by latent) n_active and the scores of latents; where names were
            sought, name, name_precision and named_images: on how many test images the
            activation reaches the threshold of the name.
        highest_images: (m, 10) rows of the images on which each latent fires most, -1
            where it fires on fewer.
    """
    scores = table.reindex(columns=_LATENT_COLUMNS).astype(float)
    return scores.assign(
        **{name: table[name] for name in _NAME_COLUMNS if name in table},
        cell=cell,
        method=method,
        latent=range(len(table)),
        images=[images[images >= 0].tolist() for images in highest_images],
        gain=np.nan,
    )


def beside_baseline(
    rows: pd.DataFrame, baseline: pd.DataFrame, latents: np.ndarray, cosines: np.ndarray
) -> pd.DataFrame:
    """Return rows of latents with the match of each in the baseline of its cell.

    Args:
        rows: Of :func:`latent_rows`, m.
        baseline: Those of the baseline's SAE.
        latents: (m,) latents of the baseline, each the most like one of the SAE.
        cosines: (m,) how alike the two decoder rows are.

    Returns:
        The rows with the method and the images of the match (`match_method`,
        `match_images`), and the `gain` in MS over it where the two are alike.
    """
    matches = baseline.iloc[latents].reset_index(drop=True)
    is_comparable = (cosines >= ALIKE) & (matches["n_active"] >= OFTEN)
    return rows.assign(
        match_method=matches["method"],
        match_images=matches["images"],
        gain=(rows["ms"] - matches["ms"]).where(is_comparable),
    )


def address(view: str, *places: Any, **filters: Any) -> str:
    """Return a view's address: its places, then what filters it."""
    quoted_places = [quote(str(place), safe="") for place in places]
    path = "/".join(["#", view, *quoted_places])
    if not filters:
        return path
    parameters = [
        f"{name}={quote(str(value), safe='')}" for name, value in filters.items()
    ]
    return f"{path}?{'&'.join(parameters)}"


def views(
    tables: Sequence[pd.DataFrame],
    names: Names,
    effects: pd.DataFrame,
    cells: Sequence[tuple[Any, ...]],
) -> list[View]:
    """Choose the views to start with: names, then extremes.

    No two show one latent, or mostly the same images. In the extremes the first method
    that is compared with another one stands for all methods.

    Args:
        tables: Of :func:`latent_rows`, of each SAE that has a file.
        names: How methods are printed.
        effects: Of :func:`sae.comparison.effects.effects`.
        cells: The cells, in the order of the site.
    """
    if not tables:
        return []
    latents = pd.concat(tables, ignore_index=True)
    rows = _named_latents(latents, names, cells)
    method = first_compared(names)
    _add_extremes(rows, latents, method, names, cells)
    if method is not None:
        cells_with_file = set(latents.loc[latents["method"] == method, "cell"])
        rows += _most_gaining_cell(method, cells_with_file, names, effects, cells)
    return rows


def _named_latents(
    latents: pd.DataFrame, names: Names, cells: Sequence[tuple[Any, ...]]
) -> list[View]:
    """Return views of the latents with the most precise names, one a name.

    Those of SAEs that were made elsewhere come first.
    """
    if "name" not in latents:
        return []
    named = latents[latents["name"].notna() & (latents["named_images"] >= CARD_IMAGES)]
    named = named.assign(is_imported=named["method"].isin(names.imported))
    named = named.sort_values(
        ["is_imported", "name_precision", "named_images"],
        ascending=False,
        kind="stable",
    )
    named = named.drop_duplicates("name")
    # Datasets take turns.
    datasets = named["cell"].map(lambda cell: str(cells[cell][0]))
    turn = named.groupby(datasets).cumcount()
    named = named.loc[turn.sort_values(kind="stable").index]

    rows: list[View] = []
    for row in named.itertuples():
        strip = Strip(names.method(row.method), row.cell, row.images)
        if len(rows) == MOST_NAMES:
            break
        if not _is_shown(strip, rows, cells):
            precision = f"{row.name_precision:.2f}"
            rule = f"Precision {precision} on {row.named_images:.0f} test images."
            href = address("latent", *cells[row.cell], row.method, row.latent)
            rows.append(View(printed(row.name), rule, href, [strip], named=True))
    return rows


def _is_shown(
    strip: Strip, rows: Iterable[View], cells: Sequence[tuple[Any, ...]]
) -> bool:
    """Whether a view has more than half of the images that a strip would show."""
    images = set(strip.images[:CARD_IMAGES])
    for shown in (strip for row in rows for strip in row.strips):
        shown_images = set(shown.images[:CARD_IMAGES])
        fewer = min(len(images), len(shown_images))
        is_of_dataset = cells[shown.cell][0] == cells[strip.cell][0]
        if is_of_dataset and len(images & shown_images) > fewer / 2:
            return True
    return False


def first_compared(names: Names) -> str | None:
    """Return the first method that is compared with another one, if there is one."""
    compared = (
        method for method, against in names.tuned.items() if against is not None
    )
    return next(compared, None)


def first_cell(
    chosen_counts: Sequence[int],
    effects: pd.DataFrame,
    names: Names,
    cells: Sequence[tuple[Any, ...]],
) -> dict[str, Any]:
    """Choose the cell that views open on: an ordinary one, in which all is there.

    Of the cells in which most methods have a chosen SAE it is the one whose effect is
    nearest to the median of all cells: the first compared method's, in the first
    endpoint that has effects. Of two that are as near the first one counts.

    Args:
        chosen_counts: By cell, how many methods have a chosen SAE.
        effects: Of :func:`sae.comparison.effects.effects`.
        names: How methods are printed.
        cells: The cells, in the order of the site.

    Returns:
        `cell`, its place among the cells; `rule`, by which it was chosen.
    """
    most = max(chosen_counts)
    is_candidate = np.array(chosen_counts) == most
    method = first_compared(names)
    for score in ENDPOINTS:
        by_cell = _effects_by_cell(effects, method, score, cells)
        if not (is_candidate & ~np.isnan(by_cell)).any():
            continue
        median = np.nanmedian(by_cell)
        distances = np.where(is_candidate, np.abs(by_cell - median), np.nan)
        rule = "The only cell."
        if len(cells) > 1:
            rule = (
                f"Views open on this cell: of those in which most methods have a chosen "
                f"SAE ({is_candidate.sum()} of {len(cells)}) it has the effect of "
                f"{names.method(str(method))} on {SCORES[score].label} that is nearest "
                f"to the median ({signed(median)})."
            )
        return {"cell": int(np.nanargmin(distances)), "rule": rule}
    rule = "Views open on the first cell in which most methods have a chosen SAE."
    return {"cell": int(is_candidate.argmax()), "rule": rule}


def _effects_by_cell(
    effects: pd.DataFrame,
    method: str | None,
    score: str,
    cells: Sequence[tuple[Any, ...]],
) -> np.ndarray:
    """Return a method's effect in each cell; NaN where there is none."""
    rows = effects[(effects["method"] == method) & (effects["score"] == score)]
    keys = rows[CELL].itertuples(index=False, name=None)
    by_cell = dict(zip(keys, rows["effect"], strict=True))
    return np.array([by_cell.get(cell, np.nan) for cell in cells], float)


def _most_gaining_cell(
    method: str,
    cells_with_file: Collection[int],
    names: Names,
    effects: pd.DataFrame,
    cells: Sequence[tuple[Any, ...]],
) -> list[View]:
    has_file = np.isin(np.arange(len(cells)), list(cells_with_file))
    # The first endpoint in which a cell gains decides.
    for score in ENDPOINTS:
        by_cell = _effects_by_cell(effects, method, score, cells)
        gains = np.where(has_file & (by_cell > 0), by_cell, 0)
        if gains.any():
            label = names.method(method)
            rule = f"The cell in which {label} gains most {SCORES[score].label}."
            cell = cells[int(gains.argmax())]
            href = address("compare", *cell, a=names.tuned[method], b=method)
            return [View(f"Where {label} helps most", rule, href)]
    return []


def _add_extremes(
    rows: list[View],
    latents: pd.DataFrame,
    method: str | None,
    names: Names,
    cells: Sequence[tuple[Any, ...]],
) -> None:
    """Add views of the latents that are the highest or the lowest in something."""
    label = names.method(method or "")
    often = latents[latents["n_active"] >= OFTEN]
    of_method = often[often["method"] == method]
    well = latents[latents["detection"] >= WELL]
    badly = often[often["detection"] < BADLY]
    # The title, the rule, and the column of which the latent is the highest or lowest.
    rules: list[tuple[str, str, pd.Series, Literal["highest", "lowest"]]] = [
        (
            f"Largest gain with {label}",
            f"{_OF_OFTEN} the largest gain in MS over its match in the baseline.",
            of_method["gain"],
            "highest",
        ),
        (
            "Rare, but well detected",
            f"Of those with a detection of {WELL:g} or more, the one that fires least.",
            well["n_active"],
            "lowest",
        ),
        (
            "High MS, but poorly detected",
            f"{_OF_OFTEN} the highest MS and a detection below {BADLY:g}.",
            badly["ms"],
            "highest",
        ),
        ("Highest MS", f"{_OF_OFTEN} the highest MS.", often["ms"], "highest"),
        ("Mixed classes", f"{_OF_OFTEN} the lowest purity.", often["purity"], "lowest"),
    ]
    for title, rule, column, end in rules:
        values = column.dropna()
        if values.empty:
            continue
        latent = latents.loc[values.idxmax() if end == "highest" else values.idxmin()]
        cell = int(latent["cell"])
        strips = [Strip(names.method(latent["method"]), cell, latent["images"])]
        filters = {}
        if column.name == "gain":
            filters["with"] = latent["match_method"]
            baseline = names.method(latent["match_method"])
            strips.append(Strip(baseline, cell, latent["match_images"]))
        if not any(_is_shown(strip, rows, cells) for strip in strips):
            place = (*cells[cell], latent["method"], latent["latent"])
            href = address("latent", *place, **filters)
            rows.append(View(title, rule, href, strips))
