"""Where to start: a few views, each chosen by a rule that stands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from sae.comparison.scores import SCORES
from sae.report.names import Names, printed
from sae.scoring.front import ENDPOINTS

# Test images on which a latent fires, so that its scores rest on more than a few.
OFTEN = 10
ALIKE = 0.7  # decoder cosine of two latents that are taken for the same
WELL = 0.95  # detection
BADLY = 0.7  # detection
# Names that are shown; each promises something on so many test images or more.
MOST_NAMES = 6
CARD_IMAGES = 5  # images of a latent on its card
_LATENT_COLUMNS = ["n_active", "ms", "detection", "purity"]
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


@dataclass(frozen=True)
class StartSae:
    """An SAE that has a file, as the rules read it.

    Attributes:
        cell: (dataset, backbone, k).
        method: Its method.
        table: (m rows by latent) n_active and the scores of latents; where names were
            sought, name, name_precision and named_images: on how many test images the
            activation reaches the threshold of the name.
        baseline: What is most like each of its latents in the baseline of its cell;
            None of the baseline itself.
        highest_images: (m, 10) rows of the images on which each latent fires most, -1
            where it fires on fewer.
    """

    cell: tuple[Any, ...]
    method: str
    table: pd.DataFrame
    baseline: BaselineMatch | None
    highest_images: np.ndarray

    def strip(self, latent: int, names: Names, cells: Sequence[Any]) -> Strip:
        """Return the images of a latent."""
        images = self.highest_images[latent]
        return Strip(
            names.method(self.method),
            cells.index(self.cell),
            images[images >= 0].tolist(),
        )


@dataclass(frozen=True)
class BaselineMatch:
    """For each latent of an SAE the one of the baseline that is most like it.

    Attributes:
        sae: The baseline's SAE.
        latents: (m,) latents of the baseline.
        cosines: (m,) how alike the two decoder rows are.
    """

    sae: StartSae
    latents: np.ndarray
    cosines: np.ndarray


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
    saes: Sequence[StartSae],
    names: Names,
    effects: Iterable[Mapping[str, Any]],
    cells: Sequence[tuple[Any, ...]],
) -> list[View]:
    """Choose the views to start with: names, then extremes.

    No two show one latent, or mostly the same images. In the extremes the first method
    that is compared with another one stands for all methods.

    Args:
        saes: The SAEs that have a file.
        names: How methods are printed.
        effects: Rows of :func:`sae.report.site.overview.effect_rows`.
        cells: The cells, in the order of the site.

    """
    rows = _named_latents(saes, names, cells)
    method = first_compared(names)
    latents = _latents_of_all(saes)
    for rule in _latent_rules(method, names, latents):
        latent = rule.chosen_latent()
        if latent is None:
            continue
        sae = saes[int(latent["sae"])]
        number = int(latent["latent"])
        filters = {}
        strips = [sae.strip(number, names, cells)]
        if rule.column == "gain" and sae.baseline is not None:
            filters["with"] = sae.baseline.sae.method
            match = int(sae.baseline.latents[number])
            strips.append(sae.baseline.sae.strip(match, names, cells))
        if not any(_is_shown(strip, rows, cells) for strip in strips):
            href = address("latent", *sae.cell, sae.method, number, **filters)
            rows.append(View(rule.title, rule.sentence, href, strips))
    if method is not None:
        rows += _most_gaining_cell(method, saes, names, effects, cells)
    return rows


def _named_latents(
    saes: Sequence[StartSae], names: Names, cells: Sequence[tuple[Any, ...]]
) -> list[View]:
    """Return views of the latents with the most precise names, one a name."""
    tables = [
        sae.table.assign(
            sae=place, latent=range(len(sae.table)), dataset=str(sae.cell[0])
        )
        for place, sae in enumerate(saes)
        if "name" in sae.table
    ]
    if not tables:
        return []
    latents = pd.concat(tables, ignore_index=True)
    named = latents[latents["name"].notna() & (latents["named_images"] >= CARD_IMAGES)]
    named = named.sort_values(
        ["name_precision", "named_images"], ascending=False, kind="stable"
    )
    named = named.drop_duplicates("name")
    # Datasets take turns.
    turn = named.groupby("dataset").cumcount()
    named = named.loc[turn.sort_values(kind="stable").index]

    rows: list[View] = []
    for row in named.itertuples():
        sae = saes[row.sae]
        strip = sae.strip(row.latent, names, cells)
        if len(rows) == MOST_NAMES:
            break
        if not _is_shown(strip, rows, cells):
            precision = f"{row.name_precision:.2f}"
            rule = f"Precision {precision} on {row.named_images:.0f} test images."
            href = address("latent", *sae.cell, sae.method, row.latent)
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


def first_panel(
    names: Names, effects: Iterable[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Choose the panel of fronts with which the site begins: an ordinary one.

    It is the cell whose effect is the median of the first compared method's, in the
    first endpoint that has effects; of an even number of cells the lower of the two in
    the middle.

    Args:
        names: How methods are printed.
        effects: Rows of :func:`sae.report.site.overview.effect_rows`.

    Returns:
        `cell`, the place of its cell in the site's list; `score`, which it shows
        against R²; `rule`, by which the cell was chosen.
    """
    method = first_compared(names)
    if method is None:
        return None
    place = names.order(names.methods).index(method)
    for score in ENDPOINTS:
        rows = [
            row
            for row in effects
            if row["method"] == place
            and row["score"] == score
            and not np.isnan(row["effect"])
        ]
        if rows:
            rows = sorted(rows, key=lambda row: row["effect"])
            median = rows[(len(rows) - 1) // 2]
            label = names.method(method)
            rule = "The only cell with an effect."
            if len(rows) > 1:
                rule = (
                    f"Of {len(rows)} cells, this is the median by {label}'s effect in "
                    f"{SCORES[score].label}."
                )
            return {"cell": median["cell"], "score": score, "rule": rule}
    return None


def _most_gaining_cell(
    method: str,
    saes: Iterable[StartSae],
    names: Names,
    effects: Iterable[Mapping[str, Any]],
    cells: Sequence[tuple[Any, ...]],
) -> list[View]:
    place = names.order(names.methods).index(method)
    cells_with_file = {sae.cell for sae in saes if sae.method == method}
    method_effects = [
        row
        for row in effects
        if row["method"] == place
        and not np.isnan(row["effect"])
        and cells[row["cell"]] in cells_with_file
    ]
    # The first endpoint in which a cell gains decides.
    for score in ENDPOINTS:
        of_score = [
            row for row in method_effects if row["score"] == score and row["effect"] > 0
        ]
        if of_score:
            best = max(of_score, key=lambda row: row["effect"])
            label = names.method(method)
            rule = (
                f"The cell in which {label} gains most {SCORES[score].label} at the "
                "same R²."
            )
            cell = cells[best["cell"]]
            href = address("compare", *cell, a=names.tuned[method], b=method)
            title = f"Where {label} helps most"
            return [View(title, rule, href)]
    return []


class _LatentRule(NamedTuple):
    """A rule that chooses a latent: the one of highest, or `lowest`, `column`."""

    title: str
    sentence: str
    latents: pd.DataFrame
    column: str
    lowest: bool = False

    def chosen_latent(self) -> pd.Series | None:
        """Return the row of the latent that the rule chooses, if it has a choice."""
        if self.latents.empty:
            return None
        values = self.latents[self.column].dropna().astype(float)
        if values.empty:
            return None
        return self.latents.loc[values.idxmin() if self.lowest else values.idxmax()]


def _latent_rules(
    method: str | None, names: Names, latents: pd.DataFrame
) -> list[_LatentRule]:
    label = names.method(method or "")
    often = latents[latents["n_active"] >= OFTEN]
    return [
        _LatentRule(
            f"Largest gain with {label}",
            f"{_OF_OFTEN} the largest gain in MS over its match in the baseline.",
            often[often["method"] == method],
            "gain",
        ),
        _LatentRule(
            "Rare, but well detected",
            f"Of those with a detection of {WELL:g} or more, the one that fires least.",
            latents[latents["detection"] >= WELL],
            "n_active",
            lowest=True,
        ),
        _LatentRule(
            "High MS, but poorly detected",
            f"{_OF_OFTEN} the highest MS and a detection below {BADLY:g}.",
            often[often["detection"] < BADLY],
            "ms",
        ),
        _LatentRule("Highest MS", f"{_OF_OFTEN} the highest MS.", often, "ms"),
        _LatentRule(
            "Mixed classes",
            f"{_OF_OFTEN} the lowest purity.",
            often,
            "purity",
            lowest=True,
        ),
    ]


def _latents_of_all(saes: Sequence[StartSae]) -> pd.DataFrame:
    """Return a row for each latent of each SAE, with what the rules read."""
    tables = []
    for place, sae in enumerate(saes):
        table = sae.table.reindex(columns=_LATENT_COLUMNS).astype(float)
        table = table.assign(
            sae=place, method=sae.method, latent=range(len(table)), gain=np.nan
        )
        if sae.baseline is not None:
            baseline_table = sae.baseline.sae.table.reindex(columns=_LATENT_COLUMNS)
            matches = baseline_table.iloc[sae.baseline.latents].reset_index(drop=True)
            alike = sae.baseline.cosines >= ALIKE
            match_fires_often = matches["n_active"] >= OFTEN
            gain = table["ms"] - matches["ms"].astype(float)
            table["gain"] = gain.where(alike & match_fires_often)
        tables.append(table)
    if not tables:
        return pd.DataFrame(columns=[*_LATENT_COLUMNS, "sae", "method"])
    return pd.concat(tables, ignore_index=True)
