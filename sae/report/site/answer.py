"""The sentences at the top of the site: what the methods gain, and at what cost."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sae.comparison.effects import OUT_OF_REACH
from sae.comparison.intervals import IntervalRule
from sae.comparison.published import plain, signed
from sae.comparison.scores import SCORES
from sae.comparison.verdicts import (
    ALL_FAMILIES,
    BETTER,
    LEAST_DATASETS,
    VIEWS,
    of_mean,
)
from sae.report import comparison
from sae.report.names import Names
from sae.scoring.choice import DETECTION

MOST_METHODS = 2  # of which the answer speaks
COST = ("coverage", "r2")
# The control that says what an effect is worth: the first of these that there is.
SCALE = ("untrained", "frozen_decoder")


def answer(
    means: pd.DataFrame,
    cells: pd.DataFrame,
    imported: pd.DataFrame,
    claims: pd.DataFrame,
    names: Names,
    rule: IntervalRule,
) -> list[str]:
    """Say what the two highest methods gain, what it costs, and what it is worth.

    Args:
        means: comparison.parquet.
        cells: comparison_cells.parquet.
        imported: comparison_imported.parquet.
        claims: claims.parquet.
        names: How methods are printed.
        rule: How wide intervals are.

    Returns:
        Paragraphs.
    """
    about_imported = _about_imported(imported, names)
    out_of_reach = [
        sentence.replace("R2", "R²")
        for sentence in comparison.why_out_of_reach(cells, names)
    ]
    measured = comparison.measured(means)
    if not measured:
        nothing = [] if about_imported else [comparison.NO_COMPARISON.replace("`", "")]
        if nothing and len(claims):
            nothing.append("The paper's claims, by the paper's own rule, stand below.")
        return [*nothing, *about_imported, *out_of_reach]

    score = measured[0]
    is_method = ~of_mean(means)["control"].astype(bool)
    rows = of_mean(means)[is_method & (of_mean(means)["score"] == score)]
    rows = rows.assign(is_better=rows["verdict"].str.startswith(BETTER, na=False))
    rows = rows[rows["effect"].notna() & (rows["reason"] != OUT_OF_REACH)]
    rows = rows.sort_values(["is_better", "effect"], ascending=False, kind="stable")
    paragraphs = [
        _about_method(means[means["method"] == method], score, names, rule)
        for method in rows["method"].head(MOST_METHODS)
    ]
    paragraphs += _scale(means, score, names)
    if (rows["datasets"] < LEAST_DATASETS).any():
        paragraphs.append(f"Verdicts need {LEAST_DATASETS} datasets.")
    paragraphs += out_of_reach
    # What rounds to 0 has a plus.
    return [
        re.sub(r"-(0\.0+)(?!\d)", r"+\1", text) for text in paragraphs + about_imported
    ]


def _about_method(
    rows: pd.DataFrame, score: str, names: Names, rule: IntervalRule
) -> str:
    """Say what a method has beside its baseline, by family and by view, and its cost."""
    by_score = of_mean(rows).set_index("score")
    row = by_score.loc[score].to_dict()
    sentences = [_effect(row, score, names, rule)]
    if isinstance(row["verdict"], str):
        sentences.append(f"The verdict is {comparison.say(row)}.")

    families = rows[(rows["score"] == score) & (rows["family"] != ALL_FAMILIES)]
    if len(families) > 1:
        parts = [f"{row.family} {signed(row.effect)}" for row in families.itertuples()]
        sentences.append(f"By family of backbones: {', '.join(parts)}.")
    effects = by_score["effect"].dropna()
    if score == DETECTION:
        parts = [
            f"{SCORES[view].label.removeprefix('detection ')} {signed(effects[view])}"
            for view in VIEWS
            if view in effects
        ]
        if parts:
            sentences.append(f"By view: {', '.join(parts)}.")
    parts = [
        f"{SCORES[cost].label} {signed(effects[cost])}"
        for cost in COST
        if cost in effects
    ]
    if parts:
        sentences.append(f"Cost: {', '.join(parts)}.")
    return " ".join(sentences)


def _effect(
    row: Mapping[str, Any], score: str, names: Names, rule: IntervalRule
) -> str:
    """Say a method's effect; that it raises or lowers a score, if its interval does."""
    verb = "changes"
    amount = signed(row["effect"])
    if row["low"] > 0 or row["high"] < 0:
        verb = "raises" if row["low"] > 0 else "lowers"
        amount = plain(abs(row["effect"]))
    if pd.isna(row["low"]):
        interval = comparison.counted(int(row["cells"]), "cell") + ", no interval"
    else:
        level = f"{100 * rule.confidence:.0f} %"
        interval = f"{level} interval {signed(row['low'])} to {signed(row['high'])}"
    label = SCORES[score].label
    return (
        f"{names.method(row['method'])} {verb} {label} by {amount} over "
        f"{names.method(row['baseline'])} ({interval})."
    )


def _scale(means: pd.DataFrame, score: str, names: Names) -> list[str]:
    """Say what a control has, which says what an effect is worth."""
    rows = of_mean(means)
    rows = rows[rows["control"].astype(bool) & (rows["score"] == score)]
    differences = rows.set_index("method")["effect"].dropna()
    for control in [*SCALE, *differences.index]:
        if control in differences:
            baseline = names.method(rows["baseline"].iloc[0])
            return [
                f"For scale: {names.method(control)}, at its own R², differs from "
                f"{baseline} by {signed(differences[control])} in {SCORES[score].label}."
            ]
    return []


def _about_imported(imported: pd.DataFrame, names: Names) -> list[str]:
    baseline = names.method(names.baselines[0]) if names.baselines else "the baseline"
    return [
        f"{names.method(str(method))}, made elsewhere (in brackets the best {baseline} "
        f"that reconstructs as well): {comparison.imported_scores(rows)}."
        for method, rows in imported.groupby("method", sort=False)
    ]
