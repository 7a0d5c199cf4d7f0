"""The three readings of what a method has beside its baseline, as tables of effects.

Fronts at the weights of validation are the headline. Fronts at equal R^2 on test, and
matched pairs of trials, stand beside them and decide nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from sae.comparison import fronts, pairs
from sae.scoring.front import ENDPOINTS


class Readings(NamedTuple):
    """Effects by three readings; each table has a column `method`.

    Attributes:
        fronts: Of :func:`sae.comparison.fronts.effects`, by the weights of validation.
        equal_r2: Of that function at equal R^2 on test; endpoints alone.
        pairs: Of :func:`sae.comparison.pairs.effects`.
    """

    fronts: pd.DataFrame
    equal_r2: pd.DataFrame
    pairs: pd.DataFrame

    def renamed(self, names: Mapping[str, str]) -> "Readings":
        """Return the readings with other names of methods."""
        return Readings(
            *(table.assign(method=table["method"].map(names)) for table in self)
        )


def read(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: fronts.FrontRule
) -> Readings:
    """Read what every method has beside its baseline, in each cell.

    Args:
        metrics: Tidy metrics of an experiment, MS across groups; SAEs of other
            protocols than the rule's are left out.
        against: {method: the method that it is compared with, or None of a baseline}.
        rule: What is feasible, and where fronts are read.
    """
    metrics = fronts.of_protocol(metrics, rule)
    equal_r2 = fronts.effects(metrics, against, rule, equal_test_r2=True)
    return Readings(
        fronts=fronts.effects(metrics, against, rule),
        equal_r2=equal_r2[equal_r2["score"].isin(ENDPOINTS)],
        pairs=pairs.effects(metrics, against, rule),
    )


def joined(parts: Iterable[Readings]) -> Readings:
    """Join the readings of several experiments, whose methods have different names."""
    tables = []
    for of_one_kind in zip(*parts, strict=True):
        not_empty = [table for table in of_one_kind if len(table)]
        tables.append(pd.concat(not_empty or of_one_kind[:1], ignore_index=True))
    return Readings(*tables)
