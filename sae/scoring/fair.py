"""Protocol `fair`: every method tuned in as many trials, and compared at the reconstruction of the tuned baseline.

docs/protocol.md has the rule in formulas; its numbers are `fair` in config.yaml. Everything here reads validation and
training images alone. The methods are {name: the method it is `against`, or None}; a method's *root* is where that
chain ends, the baseline whose reconstruction it has to reach.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sae.core.errors import UserError
from sae.scoring.rows import CELL, FAIR

METRICS = ("reconstruction", "monosemanticity", "firing")  # What the rule reads.
_MS = "ms_mean_alive"
_SAE = ["method", "trial", "seed"]
_MEANS = ["r2", "ms", "l0", "firing"]


def scores(validation: pd.DataFrame) -> pd.DataFrame:
    """What the rule reads of each SAE: `_SAE`, ok, r2, ms, l0, and firing, the share of latents that fire on train.

    Args:
        validation: a row per SAE with status, m, the swept options, and what `METRICS` give on val.
    """
    firing = 1 - validation["dead_train"] / validation["m"]
    found = validation[[*_SAE, "r2", "l0"]].assign(ms=ms(validation), firing=firing)
    return found.assign(ok=(validation["status"] == "ok") & found[_MEANS].notna().all(axis=1))


def ms(validation: pd.DataFrame) -> pd.Series:
    """The MS that the rule reads: over alive latents, across groups where images have groups."""
    across = validation.get(f"{_MS}_across_groups")
    return validation[_MS] if across is None else across.fillna(validation[_MS])


def root(method: str, methods: Mapping[str, str | None]) -> str:
    """The baseline at the end of a method's chain of `against`."""
    while (other := methods[method]) is not None:
        method = other
    return method


def shortlist(trials: pd.DataFrame, methods: Mapping[str, str | None], rule: Mapping[str, Any]) -> pd.DataFrame:
    """The trials that are trained with more tuning seeds: columns method, trial.

    Of each method the `shortlist` trials of highest MS among those whose R^2 is at most `near` below the best of its
    root; of a root also its `shortlist` trials of highest R^2. A method may have fewer, or none.

    Args:
        trials: :func:`scores` of the tuning seed.
        rule: trials (how many each method has), shortlist, near.

    Raises:
        UserError: a method has more or fewer trials than the others, or every trial of a root diverged.
    """
    found = []
    for method in methods:
        there = trials[trials["method"] == method]
        if len(there) != rule["trials"]:
            raise UserError(f"fair: {method} has {len(there)} trials, but every method must have {rule['trials']}")
    for method in methods:
        base = root(method, methods)
        best = trials[(trials["method"] == base) & trials["ok"]]["r2"].max()
        if pd.isna(best):
            raise UserError(f"fair: every trial of {base} diverged, so nothing can be compared with it; lower the lr")
        own = trials[(trials["method"] == method) & trials["ok"]]
        near = own[own["r2"] >= best - rule["near"]]
        picked = list(near.sort_values("ms", ascending=False, kind="stable")["trial"][: rule["shortlist"]])
        if method == base:
            picked += list(own.sort_values("r2", ascending=False, kind="stable")["trial"][: rule["shortlist"]])
        found += [(method, trial) for trial in dict.fromkeys(picked)]
    return pd.DataFrame(found, columns=["method", "trial"])


def choose(
    tuned: pd.DataFrame, methods: Mapping[str, str | None], rule: Mapping[str, Any], cell: Mapping[str, Any]
) -> pd.DataFrame:
    """The candidate of each method at each tolerance: what is trained with fresh seeds and judged.

    A trial's values are its means over the tuning seeds; one that diverged with any of them is out. R* is the highest
    R^2 of the root. Eligible at a tolerance: R^2 >= R* - tolerance; L0 <= `l0` times k; firing >= that of the trial
    that set R*, minus `firing`. The candidate is the eligible trial of highest MS; a method without one is a tie.

    Args:
        tuned: :func:`scores` of shortlisted trials with every tuning seed.
        rule: seeds (tuning, shortlist, fresh), tolerances, l0, firing.
        cell: dataset, backbone, k.

    Returns:
        A row per method, tolerance and fresh seed: `CELL`, method, seed, protocol, tolerance, trial (None if a tie),
        status ('chosen' or 'tie'), the trial's r2, ms, l0, firing (NaN if a tie), bar (R* - tolerance).
    """
    seeds = {rule["seeds"]["tuning"], *rule["seeds"]["shortlist"]}
    whole = tuned[tuned["ok"] & tuned["seed"].isin(seeds)].groupby(["method", "trial"], sort=False)
    means = whole[_MEANS].mean()[whole["seed"].nunique() == len(seeds)].reset_index()
    found = []
    for method in methods:
        base = means[means["method"] == root(method, methods)]
        if base.empty:
            raise UserError(f"fair: no trial of {root(method, methods)} survived every tuning seed; lower the lr")
        star = base.loc[base["r2"].idxmax()]
        for tolerance in rule["tolerances"]:
            eligible = means[
                (means["method"] == method)
                & (means["r2"] >= star["r2"] - tolerance)
                & (means["l0"] <= rule["l0"] * cell["k"])
                & (means["firing"] >= star["firing"] - rule["firing"])
            ]
            row = {name: cell[name] for name in CELL} | {"method": method}
            rest = {"protocol": FAIR, "tolerance": tolerance}
            if eligible.empty:
                rest |= {"trial": None, "status": "tie", **dict.fromkeys(_MEANS, float("nan"))}
            else:
                best = eligible.loc[eligible["ms"].idxmax()]
                rest |= {"trial": best["trial"], "status": "chosen", **{name: best[name] for name in _MEANS}}
            rest["bar"] = star["r2"] - tolerance
            found += [row | {"seed": seed} | rest for seed in rule["seeds"]["fresh"]]
    return pd.DataFrame(found)


def longer(lengths: pd.DataFrame, rule: Mapping[str, Any]) -> int | None:
    """How many steps to try next; None if the longest tried is long enough, or as long as allowed.

    Args:
        lengths: a row per SAE of the baseline tried so far: steps, lr, r2, ms on val.
        rule: most, gain_r2, gain_ms.
    """
    steps = int(lengths["steps"].max())
    return None if settled(lengths, rule) or 2 * steps > rule["most"] else 2 * steps


def settled(lengths: pd.DataFrame, rule: Mapping[str, Any]) -> bool:
    """Whether the last doubling of the steps gained the baseline less than `gain_r2` and its MS less than `gain_ms`.

    Each length counts with the learning rate of highest R^2.
    """
    best = lengths.loc[lengths.groupby("steps")["r2"].idxmax()].sort_values("steps")
    if len(best) < 2:
        return False
    before, last = best.iloc[-2], best.iloc[-1]
    return bool(last["r2"] - before["r2"] < rule["gain_r2"] and last["ms"] - before["ms"] < rule["gain_ms"])
