"""Which rows of an experiment's metrics are those of what protocol `paper` chose (`sae.protocols.paper`)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sae.scoring.rows import CELL


def under(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of a table of SAEs, or of choices, that belong to a protocol."""
    return table[table["protocol"] == protocol]


def mark(metrics: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Add `selected` and `selection` to tidy metrics of any number of banks.

    `selection` is that of the choice ('chosen' or 'edge') on its rows, 'fallback' on all rows of a method and seed
    of which nothing was acceptable, 'not_selected' otherwise. Both speak of protocol `paper` alone. A method of
    which `selection` knows nothing was trained at the choice of another one (`at`): its SAEs are all 'chosen',
    unless they diverged.

    Args:
        metrics: with columns dataset, backbone, k, method, trial, seed, status, protocol.
        selection: selection.parquet of all cells.

    Returns:
        A copy, its rows in the same order; the rows of one SAE agree on all splits.
    """
    by = [*CELL, "method", "seed"]
    choice = (
        under(selection, "paper")
        .reindex(columns=[*by, "trial", "status"])
        .astype({"seed": int, "status": object})
    )
    choice = choice.rename(columns={"trial": "_trial", "status": "_verdict"})
    both = metrics[[*by, "trial", "status", "protocol"]].merge(
        choice, on=by, how="left", validate="many_to_one"
    )
    own = both["protocol"] == "paper"
    given = both["_verdict"].isna() & (both["status"] == "ok")
    selected = own & (given | (both["_trial"] == both["trial"]))
    verdict = np.where(selected, both["_verdict"].fillna("chosen"), "not_selected")
    verdict = np.where(own & (both["_verdict"] == "fallback"), "fallback", verdict)
    return metrics.assign(selected=selected.to_numpy(bool), selection=verdict)


def chosen(
    metrics: pd.DataFrame, split: str, against: Mapping[str, str | None]
) -> pd.DataFrame:
    """One row per cell, method and seed, of one split: the selected SAE, or on fallback the numbers of another method.

    Args:
        metrics: tidy metrics that :func:`mark` marked.
        split: 'val' or 'test'.
        against: {method: the method it is compared with, or None}; rows of methods that are not in it are left out.

    Returns:
        Rows of `metrics` with two more columns: `source`, the method whose numbers they are, and `fallback`, whether
        that is another one than `method`. A fallback that has nothing to fall back on has no row.
    """
    rows = metrics[(metrics["split"] == split) & metrics["method"].isin(list(against))]
    picked = rows[rows["selected"]]
    parts = [picked.assign(source=picked["method"], fallback=False)]
    lost = rows[rows["selection"] == "fallback"].drop_duplicates(
        [*CELL, "method", "seed"]
    )[[*CELL, "seed", "method"]]
    lost = lost.assign(source=lost["method"].map(against))
    while len(lost):
        found = lost.merge(
            picked.rename(columns={"method": "source"}), on=[*CELL, "seed", "source"]
        )
        parts.append(
            found.assign(fallback=True, selected=False, selection="fallback")[
                parts[0].columns
            ]
        )
        # If that method fell back too, take the one that it is compared with.
        known = found[[*CELL, "seed", "method"]].assign(found=True)
        left = lost.merge(known, on=[*CELL, "seed", "method"], how="left")
        left = left[left["found"].isna()].drop(columns="found")
        lost = left.assign(source=left["source"].map(against)).dropna(subset="source")
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def of_chosen(picked: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The curves of chosen SAEs: rows of `points` (curves.parquet) under the method they stand for.

    Args:
        picked: what :func:`chosen` returned. On fallback another method's curve stands for it, as its numbers do.
        points: columns dataset, backbone, k, method, trial, seed, curve, x, y.

    Returns:
        The same columns.
    """
    sae = [*CELL, "trial", "seed", "source"]
    points = points.rename(columns={"method": "source"})[[*sae, "curve", "x", "y"]]
    return picked[[*sae, "method"]].merge(points, on=sae)[
        [*CELL, "method", "trial", "seed", "curve", "x", "y"]
    ]
