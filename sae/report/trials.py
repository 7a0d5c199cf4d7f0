"""What the figures of protocol `fair` share: the tuning seed's trials, and what a choice among them gives on test."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from sae.core import files
from sae.report.names import Names
from sae.report.scores import across_groups, diverged
from sae.scoring.fair import root
from sae.scoring.rows import FAIR
from sae.scoring.selection import CELL, under

MS = "ms_mean_alive"
RECIPE = ["lr", "encoder_scale", "steps"]


def of_tuning(results: Path, names: Names) -> pd.DataFrame:
    """A row per cell, tuned method and trial of the tuning seed, the first that has all of them.

    Columns `CELL`, method, trial, seed, `RECIPE`, point (the trial's number in the design, the same for every method),
    r2, ms, and val_r2, val_ms. A trial that diverged is left out; :func:`lost` counts it.
    """
    metrics = across_groups(under(files.read_parquet(results / "metrics.parquet"), FAIR))
    metrics = metrics[metrics["status"] == "ok"]
    counts = metrics.groupby("seed")["trial"].nunique()
    rows = metrics[(metrics["seed"] == counts.idxmax()) & metrics["method"].isin(names.compared)]
    test, val = (rows[rows["split"] == split] for split in ("test", "val"))
    key = [*CELL, "method", "trial"]
    # Methods share their learning rates, point by point.
    point = test.groupby(CELL, sort=False)["lr"].rank(method="dense").astype(int)
    found = test[[*key, *RECIPE]].assign(seed=test["seed"], point=point, r2=test["r2"], ms=test[MS])
    return found.merge(val[[*key, "r2", MS]].rename(columns={"r2": "val_r2", MS: "val_ms"}), on=key)


def lost(results: Path) -> dict[str, str]:
    """What :func:`sae.report.scores.diverged` says of all SAEs of protocol `fair`: for the legends of trials."""
    return diverged(under(files.read_parquet(results / "metrics.parquet"), FAIR))


def effects(
    trials: pd.DataFrame, names: Names, tolerance: float, points: Collection[int] | None = None
) -> pd.DataFrame:
    """What each method's choice gives on test beyond its baseline's choice: `CELL`, method, ms, r2; 0 on a tie.

    The rule of protocol `fair` with one tuning seed and no shortlist: highest MS on val among the trials whose R^2 on
    val is at most `tolerance` below the baseline's best.

    Args:
        trials: of :func:`of_tuning`.
        points: of the design; None: all.
    """
    if points is not None:
        trials = trials[trials["point"].isin(points)]
    best = trials.groupby([*CELL, "method"], sort=False)["val_r2"].max()
    against = names.compared
    bars = trials[CELL].assign(method=[root(m, against) for m in trials["method"]])
    reached = trials["val_r2"] >= best.reindex(pd.MultiIndex.from_frame(bars)).to_numpy() - tolerance
    eligible = trials[reached]
    choice = eligible.loc[eligible.groupby([*CELL, "method"], sort=False)["val_ms"].idxmax()]
    chosen = choice.set_index([*CELL, "method"])[["ms", "r2"]]
    found = []
    for key, cell in trials.groupby(CELL, sort=False):
        for method in names.order(cell["method"]):
            other = against[method]
            if other is None:
                continue
            row = dict(zip(CELL, key, strict=True)) | {"method": method, "ms": 0.0, "r2": 0.0}
            if (*key, method) in chosen.index and (*key, other) in chosen.index:
                row |= (chosen.loc[(*key, method)] - chosen.loc[(*key, other)]).to_dict()
            found.append(row)
    return pd.DataFrame(found, columns=[*CELL, "method", "ms", "r2"])


def at_one_recipe(trials: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What each trial gives on test beyond the method compared with, trained by the same recipe; none is chosen.

    A row per trial: `CELL`, `RECIPE`, ms, r2, method. Left out: a trial at whose recipe the other method was not tried.
    Where that was tried more than once (other options) it is the mean.

    Args:
        trials: of :func:`of_tuning`.
    """
    key, columns = [*CELL, *RECIPE], ["ms", "r2"]
    found = []
    for method, other in names.compared.items():
        if other is None:
            continue
        own = trials[trials["method"] == method].set_index(key)[columns]
        base = trials[trials["method"] == other].groupby(key, dropna=False)[columns].mean()
        difference = (own - base.reindex(own.index)).dropna().reset_index()
        if len(difference):
            found.append(difference.assign(method=method))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*key, *columns, "method"])
