"""Which trial of each method counts: chosen on the validation split by the rule of arXiv:2606.27321 (protocol `paper`).

A method that is compared with another one (`against`) gets its largest lambda whose R^2 is at least the other's.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sae.core.errors import UserError
from sae.scoring.rows import CELL, KEY

__all__ = ["CELL", "KEY", "choose", "chosen", "mark", "of_chosen", "under"]
TOLERANCE = 0.0  # of protocol `paper`: R^2 at least the other's, not one bit less.


def under(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of a table of SAEs, or of choices, that belong to a protocol."""
    return table[table["protocol"] == protocol]


def choose(validation: pd.DataFrame, methods: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Choose one trial per method and seed of one bank.

    A method without a sweep has one trial, which is chosen. With `against`: of the trials whose R^2 is at least that of
    the other method's choice of the same seed (an equal one is enough), those of the largest lambda; of several the one
    with the highest R^2. Without `against`: the highest R^2. Of equals the first in the order of `validation`. A
    diverged SAE is never chosen.

    Args:
        validation: a row per SAE of the bank: dataset, backbone, k, method, trial, seed, lambda, status, r2 on val.
        methods: {name: {against: name or None, sweep: names of options}}, of all methods in `validation` at least.

    Returns:
        A row per method and seed, in the order of `validation`. Columns dataset, backbone, k, method, seed, protocol,
        tolerance, trial, status, r2, bar. `status`: 'chosen';
        'edge' where the choice is the sweep's largest lambda, so that a larger one might have done too; 'fallback'
        where nothing is acceptable: `trial` is then missing, and the numbers of the method it is `against` stand for
        it. `r2`: of the choice, NaN on fallback. `bar`: R^2 to reach, NaN where there is none.

    Raises:
        UserError: `validation` has no row of a method that another one is `against`, with the same seed.
    """
    made: dict[tuple[str, int], dict[str, Any]] = {}

    def decide(method: str, seed: int) -> dict[str, Any]:
        if (method, seed) not in made:
            rows = validation[(validation["method"] == method) & (validation["seed"] == seed)]
            if rows.empty:
                raise UserError(f"selection: the bank has no SAE of method {method} with seed {seed} to compare with")
            made[method, seed] = _one(rows, methods[method], bar(methods[method].get("against"), seed))
        return made[method, seed]

    def bar(method: str | None, seed: int) -> float:
        if method is None:
            return math.nan
        choice = decide(method, seed)
        return choice["r2"] if choice["trial"] is not None else choice["bar"]

    there = {name: rows["seed"].unique() for name, rows in validation.groupby("method")}
    cell = {name: validation[name].iloc[0] for name in CELL}
    rows = []
    for method in validation["method"].unique():
        for seed in there[method]:
            rule = {"method": method, "seed": seed, "protocol": "paper", "tolerance": TOLERANCE}
            rows.append(cell | rule | decide(method, seed))
    return pd.DataFrame(rows)


def _one(rows: pd.DataFrame, method: Mapping[str, Any], bar: float) -> dict[str, Any]:
    acceptable = rows[(rows["status"] == "ok") & rows["r2"].notna()]
    verdict = "chosen"
    if method.get("sweep") and method.get("against"):
        acceptable = acceptable[acceptable["r2"] >= bar]
        if acceptable["lambda"].notna().any():
            largest = acceptable["lambda"].max()
            acceptable = acceptable[acceptable["lambda"] == largest]
            verdict = "edge" if "lambda" in method["sweep"] and largest == rows["lambda"].max() else "chosen"
    if acceptable.empty:
        return {"trial": None, "status": "fallback", "r2": math.nan, "bar": bar}
    best = acceptable.loc[acceptable["r2"].idxmax()]
    return {"trial": best["trial"], "status": verdict, "r2": best["r2"], "bar": bar}


def mark(metrics: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Add `selected` and `selection` to tidy metrics of any number of banks.

    `selection` is that of the choice ('chosen' or 'edge') on its rows, 'fallback' on all rows of a method and seed
    of which nothing was acceptable, 'not_selected' otherwise. Both speak of protocol `paper` alone. A method of
    which `selection` knows nothing was trained at the choice of another one (`at`): its SAEs are all 'chosen',
    unless they diverged.

    Args:
        metrics: with columns dataset, backbone, k, method, trial, seed, status, protocol.
        selection: what :func:`choose` returned, of all the banks.

    Returns:
        A copy, its rows in the same order; the rows of one SAE agree on all splits.
    """
    by = [*CELL, "method", "seed"]
    choice = under(selection, "paper")[[*by, "trial", "status"]]
    choice = choice.rename(columns={"trial": "_trial", "status": "_verdict"})
    both = metrics[[*by, "trial", "status", "protocol"]].merge(choice, on=by, how="left", validate="many_to_one")
    own = both["protocol"] == "paper"
    given = both["_verdict"].isna() & (both["status"] == "ok")
    selected = own & (given | (both["_trial"] == both["trial"]))
    verdict = np.where(selected, both["_verdict"].fillna("chosen"), "not_selected")
    verdict = np.where(own & (both["_verdict"] == "fallback"), "fallback", verdict)
    return metrics.assign(selected=selected.to_numpy(bool), selection=verdict)


def chosen(metrics: pd.DataFrame, split: str, against: Mapping[str, str | None]) -> pd.DataFrame:
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
    lost = rows[rows["selection"] == "fallback"].drop_duplicates([*CELL, "method", "seed"])[[*CELL, "seed", "method"]]
    lost = lost.assign(source=lost["method"].map(against))
    while len(lost):
        found = lost.merge(picked.rename(columns={"method": "source"}), on=[*CELL, "seed", "source"])
        parts.append(found.assign(fallback=True, selected=False, selection="fallback")[parts[0].columns])
        # What fell back on a method that fell back too goes on to the one that that is against.
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
    both = picked[[*sae, "method"]].merge(points, on=sae)
    return both[[*CELL, "method", "trial", "seed", "curve", "x", "y"]]
