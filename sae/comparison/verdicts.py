"""What may be said of effects: means over datasets, intervals, and a verdict.

For each method and score there is a row for each family of backbones and one for their
mean, over the datasets in which all families have an effect:

- an effect of a family is averaged over seeds, over backbones and k, and then over
  datasets; datasets of the same pictures are one;
- from `LEAST_DATASETS` on intervals are Student's t over datasets. With fewer the
  mean of families has one over (dataset, family) pairs, and nothing is said in words.

Verdicts are of the mean of families, in detection and MS. `CONFIRMATORY` methods are
tested together, and all other methods together, each with Holm's correction:

- *better*, *worse*: p is below the level after the correction, and every dataset has
  the effect's sign. *Better* in detection also asks that neither of its two views has
  an interval wholly below 0;
- *equivalent within .01*: the interval of two one-sided tests, of 90 % at a level of
  .05, lies within `NEGLIGIBLE` of 0; each effect for itself, uncorrected;
- *better, by less than .01*, or *worse*: both at once;
- *differs by backbone*: two families have effects of different sign, and the interval
  of their difference, paired by dataset, leaves out 0;
- *out of reach*: in a quarter of the cells or more;
- *inconclusive*: none of these.
"""

import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.comparison.effects import OUT_OF_REACH
from sae.comparison.intervals import IntervalRule, holm, student
from sae.comparison.published import REG1, REG2
from sae.core import files
from sae.scoring import old_names
from sae.scoring.choice import DETECTION, ENDPOINTS

CONFIRMATORY = (REG1, REG2)
# A tenth to a fifth of what Top-k has beyond an untrained SAE in detection.
NEGLIGIBLE = 0.01
MOST_OUT_OF_REACH = 0.25  # of the cells: from this share on nothing is tested
LEAST_DATASETS = 6
LEAST_PAIRS = 3  # of (dataset, family), for an interval
ALL_FAMILIES = "mean"  # in the column `family`
VIEWS = ("detection_per_latent", "detection_per_activation")

# Column `verdict`.
BETTER = "better"
WORSE = "worse"
BY_LESS = ", by less than"  # of both, with the margin behind it
EQUIVALENT = "equivalent within"  # with the margin behind it
INCONCLUSIVE = "inconclusive"
DIFFERS = "differs by backbone"
# Column `reason`, of what has no verdict,
TOO_FEW = "fewer than six datasets"
NO_EFFECT = "not measured"
# and of what is inconclusive although its interval leaves out 0.
BEFORE_HOLM = "before Holm's correction"
SIGNS_DIFFER = "datasets differ in sign"
VIEW_FALLS = "one of its two views falls"

KEYS = ["method", "score"]
COLUMNS = [
    *("method", "baseline", "control", "score", "family", "cells", "datasets"),
    *("up", "out_of_reach", "all_cells", "seeds", "fresh", "value", "level"),
    *("effect", "low", "high", "low_one_sided", "high_one_sided", "p", "p_holm"),
    *("same_sign", "verdict", "reason"),
]


def is_shown(verdict: Any) -> bool:
    """Say whether a verdict is that a method is better, or worse."""
    return isinstance(verdict, str) and verdict.startswith((BETTER, WORSE))


def word(
    effect: float, *, differs: bool, is_small: bool, margin: float = NEGLIGIBLE
) -> str:
    """Return the word for an effect that was tested.

    Args:
        effect: A method minus its baseline.
        differs: Whether a test says that it is not 0.
        is_small: Whether a test says that it lies within the margin.
        margin: Within which an effect counts as none.
    """
    margin_text = f"{margin:g}".removeprefix("0")
    if differs:
        direction = BETTER if effect > 0 else WORSE
        return f"{direction}{BY_LESS} {margin_text}" if is_small else direction
    return f"{EQUIVALENT} {margin_text}" if is_small else INCONCLUSIVE


def means(
    effects: pd.DataFrame,
    families: Mapping[str, str],
    rule: IntervalRule,
    pictures: Mapping[str, str] = {},
    endpoints: Collection[str] = ENDPOINTS,
) -> pd.DataFrame:
    """Average every method's effects over datasets, with intervals and a verdict.

    Args:
        effects: Of :func:`sae.comparison.effects.effects`.
        families: {backbone: its family}.
        rule: How wide intervals are.
        pictures: {dataset: a name of its pictures}; its own is that of others.
        endpoints: The scores that get verdicts.

    Returns:
        `COLUMNS`: for each method and score a row for each family, and one of their
        mean (`ALL_FAMILIES`). `cells`, `datasets`: how many are averaged; `up`: cells
        in which the effect is above 0; `out_of_reach`: cells in which the method is,
        of `all_cells` that there are, averaged or not;
        `seeds`: how many each cell has, at least; `fresh`: whether tuning used none of
        them; `value`, `level`: of the method and its baseline, in these cells;
        `effect`, `low`, `high`, `p`: the mean and its interval; `low_one_sided`,
        `high_one_sided`: the interval of two one-sided tests; `p_holm`, `verdict`: of
        the mean of families alone; `reason`: why there is no verdict, or no clear one.
    """
    compared = effects[effects["method"] != effects["baseline"]]
    compared = compared.assign(
        family=compared["backbone"].map(lambda name: families.get(name, name)),
        pictures=compared["dataset"].map(lambda name: pictures.get(name, name)),
    )
    all_families = list(dict.fromkeys(compared["family"]))
    rows = []
    samples = {}
    for key, cells in compared.groupby(KEYS, sort=False):
        by_family = _family_means(cells, all_families)
        samples[key] = by_family
        complete = cells[cells["pictures"].isin(by_family.index)]
        for family in [*all_families, ALL_FAMILIES]:
            of_family = complete
            if family != ALL_FAMILIES:
                of_family = complete[complete["family"] == family]
            rows.append(
                {
                    **dict(zip(KEYS, key, strict=True)),
                    "family": family,
                    **_count(of_family, cells, family),
                    **_average(by_family, family, rule),
                }
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    for name in ("verdict", "reason"):
        table[name] = table[name].astype(object)
    _fill_verdicts(table, samples, rule, endpoints)
    return table


def read_table(file: Path) -> pd.DataFrame:
    """Read a table of effects that an experiment has.

    Raises:
        UserError: The file is missing or was altered, or its scores have names of
            before (`sae.scoring.old_names`).
    """
    table = files.read_parquet(file)
    old_names.refuse(set(table["score"]), file, file.parent.parent.name)
    return table


def of_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the mean of families."""
    return table[table["family"] == ALL_FAMILIES]


def _family_means(cells: pd.DataFrame, all_families: list[str]) -> pd.DataFrame:
    """Return the mean effect of each dataset and family: (datasets, families).

    Kept are the datasets in which all families have one.
    """
    by_family = cells.groupby(["pictures", "family"], sort=False)["effect"].mean()
    return by_family.unstack().reindex(columns=all_families).dropna()


def _count(
    cells: pd.DataFrame, every_cell: pd.DataFrame, family: str
) -> dict[str, Any]:
    """Return what is counted of the cells of a row, and averaged over them."""
    if family != ALL_FAMILIES:
        every_cell = every_cell[every_cell["family"] == family]
    first = every_cell.iloc[0] if len(every_cell) else None
    with_effect = cells[cells["effect"].notna()]
    seeds = with_effect["seeds"].str.split().str.len()
    return {
        "baseline": None if first is None else first["baseline"],
        "control": first is not None and first["control"],
        "cells": len(with_effect),
        "up": int((with_effect["effect"] > 0).sum()),
        "out_of_reach": int((every_cell["status"] == OUT_OF_REACH).sum()),
        "all_cells": len(every_cell),
        "seeds": seeds.min(),
        "fresh": bool((with_effect["fresh"] == True).all()),  # noqa: E712 (objects)
        "value": with_effect["value"].mean(),
        "level": with_effect["level"].mean(),
    }


def _average(
    by_family: pd.DataFrame, family: str, rule: IntervalRule
) -> dict[str, Any]:
    """Return the mean and the intervals of a family's effect, or of all families'."""
    sample = by_family.mean(axis=1) if family == ALL_FAMILIES else by_family[family]
    datasets = len(sample)
    signs = np.sign(sample)
    average = {
        "datasets": datasets,
        "effect": sample.mean(),
        "same_sign": bool(datasets and (signs == signs.iloc[0]).all()),
    }
    if datasets < LEAST_DATASETS:
        # Few datasets: over pairs with a family, which share pictures.
        sample = by_family if family == ALL_FAMILIES else sample
        if sample.size < LEAST_PAIRS:
            return average
    values = sample.to_numpy().ravel()
    two_sided = student(values, rule.confidence)
    one_sided = student(values, rule.one_sided)
    return average | {
        "low": two_sided.mean - two_sided.half_width,
        "high": two_sided.mean + two_sided.half_width,
        "low_one_sided": two_sided.mean - one_sided.half_width,
        "high_one_sided": two_sided.mean + one_sided.half_width,
        "p": two_sided.p,
    }


def _fill_verdicts(
    table: pd.DataFrame,
    samples: Mapping[Any, pd.DataFrame],
    rule: IntervalRule,
    endpoints: Collection[str],
) -> None:
    """Fill `p_holm`, `verdict` and `reason` of the endpoints, for means of families."""
    of_endpoints = of_mean(table)
    of_endpoints = of_endpoints[
        of_endpoints["score"].isin(list(endpoints))
        & ~of_endpoints["control"].astype(bool)
    ]
    tested = []
    for row in of_endpoints.itertuples():
        reason = _reason_not_to_test(row)
        if reason is None:
            tested.append(row.Index)
        else:
            table.loc[row.Index, "reason"] = reason

    is_confirmatory = table["method"].isin(CONFIRMATORY)
    tests = pd.Index(tested)
    for family_of_tests in (
        tests[is_confirmatory[tests]],
        tests[~is_confirmatory[tests]],
    ):
        p = table.loc[family_of_tests, "p"].astype(float)
        table.loc[family_of_tests, "p_holm"] = holm(p)

    for row in table.loc[tests].itertuples():
        if _differs_by_family(samples[row.method, row.score], rule):
            table.loc[row.Index, "verdict"] = DIFFERS
            continue
        differs = row.p_holm < rule.level and row.same_sign
        small = row.low_one_sided > -NEGLIGIBLE and row.high_one_sided < NEGLIGIBLE
        verdict = word(row.effect, differs=differs, is_small=small)
        reason = None
        if verdict.startswith(BETTER) and _view_falls(table, row.method, row.score):
            verdict, reason = INCONCLUSIVE, VIEW_FALLS
        elif verdict == INCONCLUSIVE and row.p < rule.level:
            reason = BEFORE_HOLM if row.same_sign else SIGNS_DIFFER
        table.loc[row.Index, ["verdict", "reason"]] = [verdict, reason]


def _reason_not_to_test(row: Any) -> str | None:
    """Say why nothing is tested of a method; its cells out of reach come first."""
    if row.out_of_reach and row.out_of_reach >= MOST_OUT_OF_REACH * row.all_cells:
        return OUT_OF_REACH
    if not row.cells:
        return NO_EFFECT
    return TOO_FEW if row.datasets < LEAST_DATASETS else None


def _differs_by_family(by_family: pd.DataFrame, rule: IntervalRule) -> bool:
    """Say whether two families have effects of different signs that surely differ."""
    for one, other in itertools.combinations(by_family, 2):
        if by_family[one].mean() * by_family[other].mean() >= 0:
            continue
        difference = student(
            (by_family[one] - by_family[other]).to_numpy(), rule.confidence
        )
        if abs(difference.mean) > difference.half_width:
            return True
    return False


def _view_falls(table: pd.DataFrame, method: str, score: str) -> bool:
    """Say whether one of the two views of detection lies wholly below 0."""
    if score != DETECTION:
        return False
    views = of_mean(table)
    views = views[(views["method"] == method) & views["score"].isin(VIEWS)]
    return bool((views["high"] < 0).any())
