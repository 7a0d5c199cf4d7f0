"""The sentences at the top of the site: what the methods gained, and at what price."""

import re

import pandas as pd

from sae.comparison import fronts, published
from sae.comparison.outcomes import (
    BETTER,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    OUT_OF_REACH,
    headline,
)
from sae.comparison.scores import OWN_FRONTS, SCORES
from sae.report import outcomes
from sae.report.fronts import SHOWN_CONTROLS, say_looks
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS

MOST_METHODS = 2  # methods of which the answer says what they gain
# Up to so many methods the price of each is named; of more, of those of which the
# answer speaks.
MOST_PRICED = 4


def answer(
    means: pd.DataFrame,
    controls: pd.DataFrame,
    imported: pd.DataFrame,
    claims: pd.DataFrame,
    names: Names,
    failures: list[str],
) -> list[str]:
    """Say which two methods have the highest detection, its worth, and its price.

    Args:
        means: front_means.parquet.
        controls: front_controls.parquet.
        imported: front_imported.parquet.
        claims: claims.parquet.
        names: How methods are printed.
        failures: What `sae.report.feasibility.explain` says.

    Returns:
        Sentences.
    """
    first_width = headline(means)
    effects = first_width.dropna(subset="effect").set_index(["method", "score"])
    scores_with_effects = effects.index.get_level_values("score")
    measured = [score for score in ENDPOINTS if score in scores_with_effects]
    about_imported = _about_imported(imported, names)
    if not measured:
        return about_imported or [*_no_comparison(first_width, claims), *failures]

    # Methods that are better come first, those out of reach last.
    by_method = effects.xs(measured[0], level="score")
    by_method = by_method.assign(
        is_better=by_method["outcome"].str.startswith(BETTER),
        is_in_reach=by_method["reason"] != OUT_OF_REACH,
    )
    by_method = by_method.sort_values(
        ["is_better", "is_in_reach", "effect"], ascending=False, kind="stable"
    )
    methods = list(by_method.index)
    best = methods[:MOST_METHODS]
    in_reach = list(by_method.index[by_method["is_in_reach"]])
    priced = in_reach if len(in_reach) <= MOST_PRICED else in_reach[:MOST_METHODS]

    sentences = [_verdict(method, effects, names) for method in best]
    if not outcomes.speaks_of_others(effects):
        where = outcomes.on_datasets(effects)
        sentences[0] = f"{where[0].upper()}{where[1:]}, {sentences[0]}"
    sentences += _scale(controls, measured[0], names)
    sentences += say_looks(controls)
    if priced:
        sentences.append(_price(priced, effects, measured[0], names))
    # What rounds to 0 has a plus.
    return [
        re.sub(r"-(0\.0+)(?!\d)", r"+\1", text) for text in sentences + about_imported
    ]


def _no_comparison(means: pd.DataFrame, claims: pd.DataFrame) -> list[str]:
    reason = "No method here has feasible trials beside a baseline's"
    if means["out_of_reach"].any():
        reason = "No method here reaches the R² at which its baseline is compared"
    sentences = [f"{reason}: nothing compares at the same R²."]
    if len(claims):
        sentences.append("The paper's claims, by the paper's own rule, stand below.")
    return sentences


def _verdict(method: str, effects: pd.DataFrame, names: Names) -> str:
    """Say what a method is beside its baseline in each endpoint."""
    label = names.method(method)
    baseline = names.method(fronts.root(method, names.tuned))
    parts = []
    for score in ENDPOINTS:
        if (method, score) not in effects.index:
            continue
        row = effects.loc[(method, score)].to_dict()
        outcome, _, more = outcomes.say(row).partition(": ")
        number = published.signed(row["effect"])
        if row["outcome"] == INCONCLUSIVE:
            number = f"{number}; could be {more}"
        elif outcomes.is_out_of_reach(row):
            number = more
        elif row["outcome"] == NOT_COMPARABLE:
            cells = outcomes.counted(int(row["cells"]), "cell")
            mean = published.interval(row["effect"], row["low"], row["high"])
            number = f"{more}; mean of {cells}: {mean}"
        parts.append(f"{SCORES[score].label} is {outcome} ({number})")
    return f"{label} beside {baseline} at the same R²: {'; '.join(parts)}."


def _scale(controls: pd.DataFrame, score: str, names: Names) -> list[str]:
    """Say what the first controls have, which says what an effect is worth."""
    rows = controls[controls["score"] == score].head(SHOWN_CONTROLS)
    if rows.empty:
        return []
    parts = [
        f"{names.method(row.control)} {published.signed(row.difference)}"
        for row in rows.itertuples()
    ]
    label = SCORES[score].label
    return [f"For scale, controls in {label}, each at its own R²: {', '.join(parts)}."]


def _about_imported(imported: pd.DataFrame, names: Names) -> list[str]:
    baseline = names.method(names.baselines[0]) if names.baselines else "baseline"
    sentences = []
    for method, rows in imported.groupby("method", sort=False):
        parts = []
        for row in rows.itertuples():
            if row.score in ("r2", *ENDPOINTS):
                baseline_value = published.plain(row.baseline)
                label = SCORES[row.score].label
                part = f"{label} {row.value:.3f} ({baseline_value}"
                if getattr(row, "cells_at_front", 0) > 0:
                    part += f"; at its R² {published.plain(row.front)}"
                parts.append(f"{part})")
        sentences.append(
            f"{names.method(str(method))}, made elsewhere, not tuned here (and "
            f"{baseline}): {', '.join(parts)}."
        )
    return sentences


def _price(methods: list[str], effects: pd.DataFrame, score: str, names: Names) -> str:
    """Name every score of some methods whose interval lies on the wrong side of 0."""
    parts = []
    for method in methods:
        losses = []
        has_interval = False
        for priced_score in OWN_FRONTS:
            if (method, priced_score) not in effects.index:
                continue
            row = effects.loc[(method, priced_score)]
            has_interval |= bool(pd.notna(row["high"]))
            if row["high"] < 0:
                effect = published.interval(row["effect"], row["low"], row["high"])
                losses.append(f"{SCORES[priced_score].label} ({effect})")
        lost = "loses in no score (no interval lies below 0)"
        if losses:
            lost = f"loses in {' and in '.join(losses)}"
        elif not has_interval:
            lost = "has too few blocks to say in which scores it loses"
        r2_difference = published.signed(effects.loc[(method, score), "r2_difference"])
        parts.append(
            f"{names.method(method)} {lost}, and its R² differs by {r2_difference}"
        )
    price = f"What it costs: {'; '.join(parts)}."

    rows = effects.loc[[(method, score) for method in methods]]
    cells_left_out = rows["infeasible"] + rows["out_of_reach"]
    most_left_out = int(cells_left_out.max())
    if most_left_out:
        most_cells = int((cells_left_out + rows["cells"]).max())
        price += f" In {most_left_out} of {most_cells} cells there is no comparison."
    return price
