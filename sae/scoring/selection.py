"""Say which rows of an experiment's metrics protocol `paper` chose.

The protocol itself is `sae.protocols.paper`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sae.scoring.rows import CELL


def rows_under(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return the rows of a table of SAEs, or of choices, that belong to a protocol."""
    return table[table["protocol"] == protocol]


def mark(metrics: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Add `selected` and `selection` to tidy metrics of any number of banks.

    `selection` is that of the choice ('chosen' or 'edge') on its rows, 'fallback' on
    all rows of a method and seed of which nothing was acceptable, 'not_selected'
    otherwise. Both speak of protocol `paper` alone. A method of which `selection` knows
    nothing was trained at the choice of another one (`at`): its SAEs are all 'chosen',
    unless they diverged.

    Args:
        metrics: with columns dataset, backbone, k, method, trial, seed, status,
            protocol.
        selection: selection.parquet of all cells.

    Returns:
        A copy, its rows in the same order; the rows of one SAE agree on all splits.
    """
    method_and_seed = [*CELL, "method", "seed"]
    choices = rows_under(selection, "paper")
    choices = choices.reindex(columns=[*method_and_seed, "trial", "status"])
    choices = choices.astype({"seed": int, "status": object})
    choices = choices.rename(columns={"trial": "chosen_trial", "status": "verdict"})
    saes = metrics[[*method_and_seed, "trial", "status", "protocol"]].merge(
        choices, on=method_and_seed, how="left", validate="many_to_one"
    )

    of_paper = saes["protocol"] == "paper"
    without_choice = saes["verdict"].isna()
    at_the_choice_of_another = without_choice & (saes["status"] == "ok")
    is_the_choice = saes["chosen_trial"] == saes["trial"]
    selected = of_paper & (at_the_choice_of_another | is_the_choice)

    verdict = np.where(selected, saes["verdict"].fillna("chosen"), "not_selected")
    fell_back = of_paper & (saes["verdict"] == "fallback")
    verdict = np.where(fell_back, "fallback", verdict)
    return metrics.assign(selected=selected.to_numpy(bool), selection=verdict)


def chosen_rows(
    metrics: pd.DataFrame, split: str, against: Mapping[str, str | None]
) -> pd.DataFrame:
    """Return a row for each cell, method and seed of one split: its selected SAE.

    On fallback it has the numbers of the method that it is compared with.

    Args:
        metrics: tidy metrics that :func:`mark` marked.
        split: 'val' or 'test'.
        against: {method: the method it is compared with, or None}; rows of methods that
            are not in it are left out.

    Returns:
        Rows of `metrics` with two more columns: `source`, the method whose numbers they
        are, and `fallback`, whether that is another one than `method`. A fallback that
        has nothing to fall back on has no row.
    """
    method_and_seed = [*CELL, "seed", "method"]
    of_split = metrics["split"] == split
    rows = metrics[of_split & metrics["method"].isin(list(against))]
    selected = rows[rows["selected"]]
    parts = [selected.assign(source=selected["method"], fallback=False)]

    # What has no numbers of its own, and the method whose numbers are to stand for it.
    fallbacks = rows[rows["selection"] == "fallback"]
    fallbacks = fallbacks.drop_duplicates([*CELL, "method", "seed"])[method_and_seed]
    fallbacks = fallbacks.assign(source=fallbacks["method"].map(against))
    source_rows = selected.rename(columns={"method": "source"})
    while len(fallbacks):
        filled = fallbacks.merge(source_rows, on=[*CELL, "seed", "source"])
        filled_rows = filled.assign(fallback=True, selected=False, selection="fallback")
        parts.append(filled_rows[parts[0].columns])

        # If that method fell back too, take the one that it is compared with.
        is_filled = filled[method_and_seed].assign(is_filled=True)
        fallbacks = fallbacks.merge(is_filled, on=method_and_seed, how="left")
        fallbacks = fallbacks[fallbacks["is_filled"].isna()].drop(columns="is_filled")
        next_source = fallbacks["source"].map(against)
        fallbacks = fallbacks.assign(source=next_source).dropna(subset="source")

    # An empty frame would take part in the types of the columns.
    parts_with_rows = [part for part in parts if len(part)]
    return pd.concat(parts_with_rows or parts, ignore_index=True)


def curves_of_chosen(picked: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of chosen SAEs, under the method that they stand for.

    Args:
        picked: what :func:`chosen_rows` returned. On fallback another method's curve
            stands for a method, as its numbers do.
        points: curves.parquet, with columns dataset, backbone, k, method, trial, seed,
            curve, x, y.

    Returns:
        These columns.
    """
    sae = [*CELL, "trial", "seed", "source"]
    points = points.rename(columns={"method": "source"})[[*sae, "curve", "x", "y"]]
    joined = picked[[*sae, "method"]].merge(points, on=sae)
    return joined[[*CELL, "method", "trial", "seed", "curve", "x", "y"]]
