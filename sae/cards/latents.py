"""Which latents a card shows: some by lot, the best named, and those about nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sae.cards.measure import Measured
from sae.data.store import Activations
from sae.scoring.metrics.concepts import group_numbers

SHOWN = 10  # of each kind
PICTURES = 9  # of each latent
# A latent that another backbone finds less well than this is about nothing.
LEAST_DETECTION = 0.6


@dataclass(frozen=True)
class ShownLatent:
    """A latent, and the test images on which it is highest, of each group one.

    Attributes:
        latent: Its number.
        name: "" where it has none.
        fires: On how many test images.
        detection, ms: NaN where they are not known.
        rows: Of the images, the highest first.
        activations: Its activations on them.
    """

    latent: int
    name: str
    fires: int
    detection: float
    ms: float
    rows: Sequence[int]
    activations: Sequence[float]


@dataclass(frozen=True)
class CardLatents:
    """The latents that a card shows.

    Attributes:
        by_lot: Drawn by a seed from those that fire on test.
        best_named: Of the highest precision of their names, then of the most images.
        about_nothing: Those that fire most of those that are about nothing: no keyword
            says what they are; or, where there are none, no other backbone finds their
            images; or, where there is none, their images are not more alike than any.
        image_ids: Of the test images.
    """

    by_lot: list[ShownLatent]
    best_named: list[ShownLatent]
    about_nothing: list[ShownLatent]
    image_ids: list[Any]

    def as_lists(self) -> dict[str, list[dict[str, Any]]]:
        """Return them as card.json has them, with ids of images in place of rows."""
        return {
            kind: [
                {
                    **vars(shown),
                    "rows": [str(self.image_ids[row]) for row in shown.rows],
                }
                for shown in getattr(self, kind)
            ]
            for kind in ("by_lot", "best_named", "about_nothing")
        }


def choose_latents(measured: Measured, test: Activations, seed: int = 0) -> CardLatents:
    """Choose the latents of an SAE that its card shows.

    Args:
        measured: The SAE.
        test: The test images.
        seed: Of the lot.
    """
    scores = measured.on_test()
    table = measured.latents
    fires = np.flatnonzero(table["n_active"] > 0)
    drawn = np.random.default_rng(seed).permutation(fires)[:SHOWN]

    named = np.array([], dtype=int)
    if "name" in table:
        by_precision = table[table["name"].notna()].sort_values(
            ["name_precision", "n_active"], ascending=False, kind="stable"
        )
        named = by_precision.index.to_numpy()[:SHOWN]

    most_first = table[_is_about_nothing(table, scores) & (table["n_active"] > 0)]
    most_first = most_first.sort_values("n_active", ascending=False, kind="stable")
    about_nothing = most_first.index.to_numpy()[:SHOWN]

    codes = measured.subject.codes("test").by_latent()
    groups = group_numbers(test)
    shown = [
        [_show(int(latent), table, codes, groups) for latent in latents]
        for latents in (np.sort(drawn), named, about_nothing)
    ]
    by_lot, best_named, most_about_nothing = shown
    return CardLatents(
        by_lot, best_named, most_about_nothing, test.index["image_id"].tolist()
    )


def _is_about_nothing(table: pd.DataFrame, scores: dict[str, Any]) -> pd.Series:
    if "name" in table:
        stands_for = table.get("stands_for", pd.Series(None, table.index))
        return table["name"].isna() & (table["often"] == "") & stands_for.isna()
    if "detection" in table:
        return table["detection"] < LEAST_DETECTION
    return table["ms"] <= scores["ms_floor"]


def _show(
    latent: int, table: pd.DataFrame, codes: Any, groups: np.ndarray
) -> ShownLatent:
    part = slice(codes.indptr[latent], codes.indptr[latent + 1])
    order = np.argsort(-codes.data[part], kind="stable")
    rows = codes.indices[part][order]
    activations = codes.data[part][order]
    _, firsts = np.unique(groups[rows], return_index=True)
    firsts = np.sort(firsts)[:PICTURES]
    row = table.iloc[latent]
    name = row.get("name")
    return ShownLatent(
        latent=latent,
        name="" if name is None or pd.isna(name) else str(name),
        fires=int(row["n_active"]),
        detection=float(row.get("detection", np.nan)),
        ms=float(row["ms_across_groups"] if "ms_across_groups" in row else row["ms"]),
        rows=rows[firsts].tolist(),
        activations=[float(value) for value in activations[firsts]],
    )
