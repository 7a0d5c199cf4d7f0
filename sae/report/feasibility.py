"""Why methods cannot be compared in a cell: what their trials lack, in words."""

import pandas as pd

from sae.comparison.fronts import FrontRule
from sae.report.names import Names
from sae.scoring.rows import CELL


def explain(trials: pd.DataFrame, names: Names, rule: FrontRule) -> list[str]:
    """Say for each method without a feasible trial in some cell what is the matter.

    Args:
        trials: A row for each trial, of `sae.comparison.fronts.validation_trials`.
        names: The experiment's methods, and how they are printed.
        rule: What is feasible.

    Returns:
        A sentence for each such method, in the order of the config.
    """
    sentences = []
    for method in names.order(names.tuned):
        of_method = trials[trials["method"] == method]
        by_cell = of_method.groupby(CELL)["feasible"]
        cell_count = by_cell.ngroups
        of_lost_cells = of_method[~by_cell.transform("any")]
        lost_count = of_lost_cells.groupby(CELL).ngroups
        if lost_count:
            sentences.append(
                f"{names.method(method)} has no feasible trial in {lost_count} of "
                f"{cell_count} cells: {_reason(of_lost_cells, rule)}."
            )
    return sentences


def _reason(trials: pd.DataFrame, rule: FrontRule) -> str:
    """Say what trials that are all not feasible have in common."""
    ended_well = trials[trials["status"] == "ok"]
    if ended_well.empty:
        return "all its SAEs diverged there"
    most_firing = ended_well["firing"].max()
    if most_firing < rule.firing:
        return (
            f"at most {most_firing:.0%} of its latents fire on training images, and "
            f"{rule.firing:.0%} must; fewer latents (m), more steps or more images help"
        )
    lowest_l0 = (ended_well["l0"] / ended_well["k"]).min()
    if lowest_l0 > rule.l0:
        return (
            f"its L0 on validation is {lowest_l0:.2f} k at least, and may be "
            f"{rule.l0:g} k at most"
        )
    return "no trial has both enough latents that fire and an L0 that is low enough"
