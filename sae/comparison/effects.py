"""What methods have beside their baselines, cell by cell: one row, one set of SAEs.

In a cell (dataset, backbone, k) protocol `tuned` chose one trial of each method on
validation images (`sae.scoring.choice`), and trained it with fresh seeds. Every score
of a method is the mean of these SAEs on test images, whatever the score; an effect is
that mean minus the baseline's. Controls are not tuned: they are read as they are,
beside the same baseline.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sae.comparison.methods import Methods
from sae.comparison.scores import COMPARED, SCORES, values
from sae.core.errors import UserError
from sae.scoring import choice
from sae.scoring.rows import CELL
from sae.scoring.selection import rows_under

OK = "ok"
OUT_OF_REACH = "out of reach"
BASELINE_FAILED = "a fresh seed of the baseline failed"
# Columns of `choices`, beside the cell.
CHOICE = [
    *("method", "baseline", "control", "status", "reason", "trial", "seeds"),
    *("fresh", "r2_val", "best_r2", "shortfall"),
]
# Columns of `effects` beside these.
EFFECT = ["score", "value", "level", "effect"]
COLUMNS = [*CELL, *CHOICE, *EFFECT]


def root(method: str, against: Mapping[str, str | None]) -> str:
    """Return the baseline at the end of a method's chain of `against`."""
    while (compared_with := against.get(method)) is not None:
        method = compared_with
    return method


def choices(selection: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """Return what was chosen of each tuned method in each cell.

    Args:
        selection: selection.parquet of all cells; rows of protocol `tuned` are read.
        names: The experiment's methods.

    Returns:
        Columns `CELL` and `CHOICE`. `status`: `OK`, or `OUT_OF_REACH` if no trial
        reconstructs as well as the baseline's best or a fresh seed failed, its own or
        the baseline's, as `reason` says; `trial`: what was chosen; `seeds`: those that are scored, with spaces
        between; `fresh`: whether tuning did not use them; `r2_val`: the R^2 on
        validation of the chosen trial, or the method's best; `best_r2`: R*;
        `shortfall`: what a method that is out of reach lacks of R* - `choice.MARGIN`.
    """
    against = names.tuned
    trials = rows_under(selection, "tuned")
    trials = trials[trials["method"].isin(list(against))]
    rows = []
    for key, of_method in trials.groupby([*CELL, "method"], sort=False):
        *cell, method = key
        rows.append(
            {
                **dict(zip(CELL, cell, strict=True)),
                "method": method,
                "baseline": root(method, against),
                "control": False,
                **_choice_of(of_method),
            }
        )
    table = pd.DataFrame(rows, columns=[*CELL, *CHOICE])
    failed = table[(table["method"] == table["baseline"]) & (table["status"] != OK)]
    for row in failed.to_dict("records"):
        in_cell = (table[CELL] == [row[name] for name in CELL]).all(axis=1)
        beside = in_cell & (table["baseline"] == row["baseline"])
        beside &= table["status"] == OK
        table.loc[beside, ["status", "reason"]] = [OUT_OF_REACH, BASELINE_FAILED]
    return table


def _choice_of(trials: pd.DataFrame) -> dict[str, Any]:
    """Return what was chosen of a method's trials in a cell, or why nothing was."""
    best_r2 = trials["bar"].iloc[0]
    chosen = trials[trials["role"] == "chosen"]
    if len(chosen):
        trial = chosen.iloc[0]
        is_read = trial["status"] == "chosen"
        return {
            "status": OK if is_read else OUT_OF_REACH,
            "reason": None if is_read else trial["status"],
            "trial": trial["trial"],
            "seeds": trial["seeds"],
            "fresh": trial["fresh"],
            "r2_val": trial["r2"],
            "best_r2": best_r2,
        }
    feasible = trials[trials["status"] != "not feasible"]
    highest_r2 = feasible["r2"].max()
    return {
        "status": OUT_OF_REACH,
        "reason": "no feasible trial" if feasible.empty else "reconstructs less",
        "r2_val": highest_r2,
        "best_r2": best_r2,
        "shortfall": best_r2 - choice.MARGIN - highest_r2,
    }


def effects(
    metrics: pd.DataFrame, selection: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Compare every method and control with its baseline, in every cell and score.

    Args:
        metrics: Tidy metrics, MS across groups where a dataset has groups.
        selection: As :func:`choices` takes it.
        names: The experiment's methods.

    Returns:
        `COLUMNS`; a row for each cell, method and score that any SAE of the experiment
        has. `value`, `level`: of the method and of its baseline, means over seeds on
        test; `effect`: their difference. A baseline's own rows have no effect, and a
        method that is out of reach has no value.

    Raises:
        UserError: metrics lack an SAE that was chosen.
    """
    chosen = choices(selection, names)
    if chosen.empty:
        return pd.DataFrame(columns=COLUMNS)
    test = metrics[metrics["split"] == "test"]
    scores = pd.DataFrame({name: SCORES[name].of(test) for name in COMPARED})
    scores = scores.assign(r2=values(test, "r2"), l0=values(test, "l0"))
    scores = scores.dropna(axis=1, how="all")
    # Means over the seeds of each trial, a column for each score.
    saes = test[[*CELL, "method", "trial", "seed"]].join(scores)

    with_means = pd.concat(
        [_chosen_means(chosen, saes), _control_means(test, saes, chosen, names)],
        ignore_index=True,
    )
    long = with_means.melt([*CELL, *CHOICE], list(scores), "score", "value")
    levels = long[long["method"] == long["baseline"]]
    levels = levels[[*CELL, "method", "score", "value"]]
    levels = levels.rename(columns={"method": "baseline", "value": "level"})
    joined = long.merge(levels, on=[*CELL, "baseline", "score"], how="left")
    is_baseline = joined["method"] == joined["baseline"]
    effect = (joined["value"] - joined["level"]).where(~is_baseline)
    return joined.assign(effect=effect)[COLUMNS]


def _chosen_means(chosen: pd.DataFrame, saes: pd.DataFrame) -> pd.DataFrame:
    """Add to each choice the means of its seeds on test; NaN if it is out of reach."""
    key = [*CELL, "method", "trial", "seed"]
    of_reach = chosen[chosen["status"] == OK]
    seeds = of_reach.assign(seed=of_reach["seeds"].str.split()).explode("seed")
    seeds = seeds.astype({"seed": int})[key]
    read = seeds.merge(saes, on=key, how="left", indicator=True)
    missing = read[read["_merge"] != "both"]
    if len(missing):
        first = missing.iloc[0]
        raise UserError(
            f"metrics have no row of {first['dataset']} / {first['backbone']} / "
            f"k{first['k']}: {first['method']}, {first['trial']}, seed "
            f"{first['seed']}, which was chosen. Run the experiment again"
        )
    scores = [name for name in saes if name not in key]
    means = read.groupby(key[:-1])[scores].mean().reset_index()
    return chosen.merge(means, on=key[:-1], how="left")


def _control_means(
    test: pd.DataFrame, saes: pd.DataFrame, chosen: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Return the means of each control over its seeds, as if they had been chosen."""
    is_control = saes["method"].isin(names.controls) & (test["status"] == "ok")
    baseline = names.baselines[0] if names.baselines else None
    of_controls = saes[is_control].merge(chosen[CELL].drop_duplicates(), on=CELL)
    by_cell = of_controls.groupby([*CELL, "method"], sort=False)
    scores = [name for name in saes if name not in (*CELL, "method", "trial", "seed")]
    means = by_cell[scores].mean()
    means["trial"] = by_cell["trial"].first()
    means["seeds"] = by_cell["seed"].agg(
        lambda seeds: " ".join(map(str, sorted(seeds)))
    )
    return means.reset_index().assign(
        baseline=baseline, control=True, status=OK, fresh=True
    )


def imported(
    metrics: pd.DataFrame, selection: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Place SAEs that were made elsewhere, as a card does.

    An SAE of another training stands beside the best trial of the baseline that
    reconstructs as well as it: of R^2 at least its own minus `choice.MARGIN`, on
    validation, with the highest detection. It is read with all seeds with which the
    experiment trained it: that of the tuning, and the fresh ones if it was chosen.

    Args:
        metrics: As :func:`effects` takes them.
        selection: As :func:`choices` takes it.
        names: The experiment's methods; the first baseline counts.

    Returns:
        A row for each cell, method and score: columns of the cell, `method`, `score`,
        `value`, `topk` (NaN where no trial reconstructs as well), `trial`.
    """
    columns = [*CELL, "method", "score", "value", "topk", "trial"]
    if not names.imported or not names.baselines:
        return pd.DataFrame(columns=columns)
    trials = rows_under(selection, "tuned")
    trials = trials[trials["method"] == names.baselines[0]]
    trials = trials.assign(feasible=trials["status"] != "not feasible")
    own = metrics[metrics["method"].isin(names.imported)]
    r2 = own[own["split"] == "val"].set_index([*CELL, "method"])["r2"]
    test = metrics[metrics["split"] == "test"]
    baseline = test[test["method"] == names.baselines[0]]

    rows = []
    for sae in own[own["split"] == "test"].to_dict("records"):
        cell = [sae[name] for name in CELL]
        of_cell = trials[(trials[CELL] == cell).all(axis=1)]
        best = choice.choose(of_cell, r2[(*cell, sae["method"])])
        beside = baseline.iloc[:0]
        if best is not None:
            in_cell = (baseline[CELL] == cell).all(axis=1)
            beside = baseline[in_cell & (baseline["trial"] == best["trial"])]
        for score in ("r2", *COMPARED):
            value = SCORES[score].of(pd.DataFrame([sae])).iloc[0]
            if pd.isna(value):
                continue
            of_topk = SCORES[score].of(beside)
            rows.append(
                {
                    **dict(zip(CELL, cell, strict=True)),
                    "method": sae["method"],
                    "score": score,
                    "value": value,
                    "topk": of_topk.mean(),
                    "trial": None if best is None else best["trial"],
                }
            )
    return pd.DataFrame(rows, columns=columns)
