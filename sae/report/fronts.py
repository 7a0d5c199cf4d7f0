"""The fronts for reading: what each method has beside its baseline at the same R^2."""

from collections.abc import Iterable
from math import nan
from typing import Any

import pandas as pd

from sae.comparison import fronts
from sae.comparison.intervals import POWER, IntervalRule
from sae.comparison.outcomes import headline
from sae.comparison.published import interval, plain, signed
from sae.comparison.scores import CHOSEN_ONLY, OWN_FRONTS, SCORES
from sae.report import outcomes
from sae.report.markup import column_key, markdown, wrapped
from sae.report.names import Names
from sae.scoring.front import DETECTION, ENDPOINTS, MS

SHOWN_CONTROLS = 2  # the first of the config stand beside effects
# What stands in the first table: the endpoints; detection by looks, what detection is
# worth; and detection that cannot be raised by measuring fewer latents.
LOOKS = "detection_looks"
HEADLINE = (DETECTION, LOOKS, "detection_auc_all", MS)
NO_COMPARISON = (
    "Nothing to compare: no method has a feasible trial in a cell where the baseline "
    "has one."
)
OTHER_SCORES = [name for name in OWN_FRONTS if name not in HEADLINE]
AT_VERTICES_SCORES = [name for name in CHOSEN_ONLY if name != LOOKS]
OF_LOOKS = (
    "Detection by looks is a control, too: 8 x 8 pixels of an image in place of a "
    "backbone. Judged SAEs alone have it, so some tables have it of controls and of the "
    "baseline beside them, and not of an effect."
)
OF_CONTROLS = (
    "Controls are not tuned and stand at their own R2, beside the baseline that the "
    "paper's rule chose; they say what a difference is worth. Their intervals are "
    "those of controls.md."
)
WHAT_IF = (
    "The share of latents that must fire is a bound of what is feasible. With another "
    "bound the window and the fronts are other ones, whose vertices have no fresh "
    "seeds. So all rows here are read with the seed of the tuning, that of the rule's "
    "own bound, too."
)


def notes(
    means: pd.DataFrame,
    rule: fronts.FrontRule,
    intervals: IntervalRule,
    *,
    has_datasets: bool,
    has_controls: bool,
    has_looks: bool,
) -> list[str]:
    """Return the paragraphs about what a reader must know of the first table.

    Args:
        means: Of `sae.comparison.outcomes.means`.
        rule: Of fronts.
        intervals: How wide intervals are.
        has_datasets: Whether the table has a column for each dataset.
        has_controls: Whether it has lines of controls.
        has_looks: Whether it has lines of detection by looks.
    """
    datasets = ""
    if has_datasets:
        datasets = ". The mean of each dataset follows"
    block = "(dataset, family of backbones)"
    speaks_of = (
        "An outcome speaks of other families of backbones on these datasets, not of "
        "other datasets."
    )
    if outcomes.speaks_of_others(means):
        block = "dataset, a mean over families of backbones"
        speaks_of = (
            "An outcome speaks of other datasets, seen by these families of backbones."
        )
    columns = {
        "baseline": "the baseline's own score in the same reading, mean over cells",
        "effect": (
            "the method's front minus the baseline's, mean over blocks, signed so that "
            f"more is better. A block is a {block}. In brackets "
            f"is the {intervals.confidence:.0%} interval over blocks{datasets}"
        ),
        "up": "cells in which the effect is above 0",
        "at lower R2": (
            "cells in which the method ends left of where the baseline's score is "
            f"highest, by {fronts.TOLERANCE:g} of R2 at most. Both are read there"
        ),
        "out of reach": "cells in which the method ends further left",
        "no comparison": (
            "cells in which no trial is feasible, all seeds diverged, fresh seeds are "
            "missing, or the score was not measured"
        ),
        "dR2": "the price: the difference in test R2 at the same weights",
    }
    reading = (
        f"Both fronts are read over the window of {rule.widths[0]:g} of R2 below the "
        "baseline's best. The window is chosen on validation; the scores are of test. "
        "Detection and MS are read with fresh seeds, where they were trained; "
        "detection of all latents is read with the seed of the tuning. A "
        f"trial is feasible where its L0 is at most {rule.l0:g} k and "
        f"{rule.firing:.0%} of its latents fire on training images. Cells that are out "
        "of reach or have no comparison are in no mean."
    )
    tests = (
        "Detection and MS are tested together. The test is corrected for the number of "
        "methods and scores and the interval is not, so an outcome may be inconclusive "
        f"where the interval leaves out 0. {speaks_of} What other readings say decides "
        "nothing. docs/protocol.md has the rule."
    )
    paragraphs = [wrapped(reading), wrapped(tests)]
    if has_controls:
        paragraphs.append(wrapped(OF_CONTROLS))
    if has_looks:
        paragraphs.append(wrapped(OF_LOOKS))
    paragraphs.append(column_key(columns))
    words = outcomes.meanings(intervals).items()
    bullets = [wrapped(f"- *{word}*: {when}.") for word, when in words]
    paragraphs.append("\n".join(bullets))
    return paragraphs


READINGS = {
    "by cell": "the mean over cells instead of blocks",
    "over backbones": "the interval if each (dataset, backbone) were a block",
    "over seeds": "the interval over fresh seeds, with the cells fixed",
    "equal test R2": "both sides where they have the same R2 on test",
    "pairs": "trials with the same common options: the difference of the score on test",
    "pairs dR2": "their difference in test R2",
    "width": "other windows",
    "found": (
        f"the smallest effect that is shown with a power of {POWER:g}, at the "
        "strictest step of Holm's correction"
    ),
}
OWN_FRONTS_NOTES = (
    "Each score has a front of its own: what a method has at its best in that score, "
    "at the same R2. There are no outcomes. The scores are read with the seed of the "
    "tuning, since fresh seeds were trained at the vertices of detection and MS alone."
)
IMPORTED = (
    "SAEs that were made elsewhere, beside the baseline that the paper's rule chose: "
    "means over their cells, on test. They were not tuned here, so that they are in no "
    "comparison of methods. *Baseline at its R2* is what the baseline's front has where "
    "validation has the SAE's R2, or at the end of the front that is nearest; above the "
    "front nothing is read. An SAE beside this is one SAE on these images (the command "
    "`card` gives its interval)."
)
AT_VERTICES = (
    "These scores are read where {front} is highest, not at their own best, so these "
    "are no effects. There are no outcomes. Only judged SAEs have these scores."
)


def page(
    means: pd.DataFrame,
    names: Names,
    rule: fronts.FrontRule,
    intervals: IntervalRule,
    *,
    datasets: pd.DataFrame | None = None,
    controls: pd.DataFrame | None = None,
) -> list[str]:
    """Return the paragraphs of a page about means, without a title.

    Args:
        means: Of `sae.comparison.outcomes.means`.
        names: How methods are printed.
        rule: Of the fronts.
        intervals: How wide intervals are.
        datasets: Of `sae.comparison.outcomes.by_dataset`.
        controls: Of `sae.comparison.controls.compare`, over all datasets together.
    """
    table = headline_table(means, names, datasets, controls)
    if table.empty:
        return [NO_COMPARISON]
    headline_notes = notes(
        means,
        rule,
        intervals,
        has_datasets=datasets is not None,
        has_controls=controls is not None and len(controls) > 0,
        has_looks=SCORES[LOOKS].label in set(table["score"]),
    )
    paragraphs = [markdown(table), *headline_notes]

    other_readings = readings_table(means, names)
    if len(other_readings):
        paragraphs += ["## Other readings", markdown(other_readings)]
        paragraphs += [
            "These are the same effects, read in other ways.",
            column_key(READINGS),
        ]

    other_scores = score_table(means, names, OTHER_SCORES, datasets)
    if len(other_scores):
        title = "## Prices, and other scores"
        paragraphs += [title, markdown(other_scores), wrapped(OWN_FRONTS_NOTES)]

    # Scores of chosen SAEs alone all stand at the vertices of one front.
    at_vertices = score_table(means, names, AT_VERTICES_SCORES, datasets)
    if len(at_vertices):
        first_width = headline(means)
        rows = first_width[first_width["score"].isin(AT_VERTICES_SCORES)]
        front = SCORES[rows["front"].iloc[0]].label
        title = f"## At {front}'s vertices"
        at_vertices_notes = wrapped(AT_VERTICES.format(front=front))
        paragraphs += [title, markdown(at_vertices), at_vertices_notes]
    return paragraphs


def imported_section(imported: pd.DataFrame, names: Names) -> list[str]:
    """Return the paragraphs about SAEs that were made elsewhere, if there are any.

    Args:
        imported: Of `sae.comparison.controls.imported_beside`.
        names: How methods are printed.
    """
    if imported.empty:
        return []
    table = imported_table(imported, names)
    return ["## Made elsewhere", markdown(table), wrapped(IMPORTED)]


def sensitivity_section(sensitivity: pd.DataFrame, names: Names) -> list[str]:
    """Return the paragraphs about other bounds of what is feasible.

    Args:
        sensitivity: Means with a column `asked`, the bound in words.
        names: How methods are printed.
    """
    table = sensitivity_table(sensitivity, names)
    return ["## What if", markdown(table), wrapped(WHAT_IF)]


def headline_table(
    means: pd.DataFrame,
    names: Names,
    datasets: pd.DataFrame | None = None,
    controls: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the scores of `HEADLINE`, methods and then controls."""
    lines = []
    shown_controls = list(names.controls)[:SHOWN_CONTROLS]
    for score in HEADLINE:
        for row in _rows_with_content(means, [score]):
            line = _line(row, names, datasets)
            line[outcomes.heading(means)] = outcomes.say(row)
            lines.append(line)
        if lines and controls is not None:
            of_score = controls[controls["score"] == score]
            of_shown = of_score[of_score["control"].isin(shown_controls)]
            for row in of_shown.to_dict("records"):
                line = {
                    "method": f"{names.method(row['control'])} (control, at its own R2)",
                    "score": SCORES[score].label,
                    "baseline": f"{row['baseline']:.3f}",
                    "effect": interval(row["difference"], row["low"], row["high"]),
                }
                lines.append(line)
    return pd.DataFrame(lines).fillna("-")


def say_looks(controls: pd.DataFrame) -> list[str]:
    """Say what the baseline's detection is by looks, in a sentence.

    Args:
        controls: Of `sae.comparison.controls.compare`, over all datasets together.

    Returns:
        Nothing where that was not measured.
    """
    baseline = controls.drop_duplicates("score").set_index("score")["baseline"]
    if not {DETECTION, LOOKS} <= set(baseline.index):
        return []
    return [
        "Judged by 8 x 8 pixels of each image instead of a backbone, the baseline's "
        f"detection is {baseline[LOOKS]:.3f} ({baseline[DETECTION]:.3f} with a "
        "backbone, .5 by chance): that much takes no network to see."
    ]


def readings_table(means: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return how else the endpoints are read, a line for each method and endpoint."""
    other_widths = list(means["width"].unique()[1:])
    by_width = means.set_index(["method", "score", "width"])
    lines = []
    for row in _rows_with_content(means, ENDPOINTS):
        if outcomes.is_out_of_reach(row):
            continue
        line = {"method": names.method(row["method"])}
        line["score"] = SCORES[row["score"]].label
        line["effect"] = _fine(row["effect"], row["low"], row["high"])
        line["by cell"] = _fine(row["effect_by_cell"])

        line["over backbones"] = _brackets(row["low_backbones"], row["high_backbones"])
        line["over seeds"] = _brackets(row["low_seeds"], row["high_seeds"])
        for title, name in (("equal test R2", "equal_r2"), ("pairs", "pairs")):
            line[title] = _fine(row[name], row[f"{name}_low"], row[f"{name}_high"])
            if row[f"{name}_cells"] < row["cells"]:
                line[title] += f" ({row[f'{name}_cells']:.0f} cells)"

        line["pairs dR2"] = _fine(row["pairs_r2"])
        for width in other_widths:
            key = (row["method"], row["score"], width)
            line[f"width {width:g}"] = "-"
            if key in by_width.index:
                mean = by_width.loc[key]
                text = _fine(mean["effect"], mean["low"], mean["high"])
                line[f"width {width:g}"] = text

        line["p, Holm"] = "-" if pd.isna(row["p_holm"]) else f"{row['p_holm']:.3f}"
        line["found"] = interval(row["smallest"], write="{:.3f}".format)
        lines.append(line)
    table = pd.DataFrame(lines)
    # Not every experiment has every reading.
    return table.loc[:, (table != "-").any()]


def score_table(
    means: pd.DataFrame,
    names: Names,
    scores: Iterable[str],
    datasets: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return effects in scores that have no outcome, a line for each method."""
    lines = [
        _line(row, names, datasets)
        for score in scores
        for row in _rows_with_content(means, [score])
    ]
    return pd.DataFrame(lines).fillna("-")


def imported_table(imported: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return SAEs that were made elsewhere, with the baseline beside each score."""
    lines = []
    for row in imported.to_dict("records"):
        line = {"method": f"{names.method(row['method'])} (not tuned here)"}
        line["score"] = SCORES[row["score"]].label
        line["its own"] = interval(row["value"], write="{:.3f}".format)
        line["baseline"] = interval(row["baseline"], write="{:.3f}".format)
        line["cells"] = str(row["cells"])
        line["baseline at its R2"] = "-"
        line["beside it"] = "-"
        if row.get("cells_at_front", 0) > 0:
            line["baseline at its R2"] = plain(row["front"])
            line["beside it"] = signed(row["beside_front"])
        if row.get("above_reach", 0) > 0:
            count = f"{row['above_reach']:.0f} of {row['cells']}"
            line["beside it"] += f"; above the front in {count}"
        lines.append(line)
    return pd.DataFrame(lines)


def sensitivity_table(means: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return the means of `sae.comparison.fronts.sensitivity`, for reading."""
    lines = []
    for bound, rows in means.groupby("asked", sort=False):
        for row in _rows_with_content(rows, ENDPOINTS):
            lines.append({"what if": bound, **_line(row, names, None)})
    return pd.DataFrame(lines).fillna("-")


def _rows_with_content(
    means: pd.DataFrame, scores: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the rows at the first width that have an effect or cells left out."""
    first_width = headline(means)
    rows = first_width[first_width["score"].isin(list(scores))]
    has_cells_left_out = rows["infeasible"] + rows["out_of_reach"] > 0
    return rows[rows["effect"].notna() | has_cells_left_out].to_dict("records")


def _line(
    row: dict[str, Any], names: Names, datasets: pd.DataFrame | None
) -> dict[str, str]:
    has_mean = not outcomes.is_out_of_reach(row)
    line = {
        "method": names.method(row["method"]),
        "score": SCORES[row["score"]].label,
        "baseline": interval(row["level"], write="{:.3f}".format),
        "effect": "-",
    }
    if has_mean:
        line["effect"] = interval(row["effect"], row["low"], row["high"])
    if datasets is not None and has_mean:
        dataset_rows = datasets[
            (datasets["method"] == row["method"])
            & (datasets["score"] == row["score"])
            & (datasets["width"] == row["width"])
        ]
        effects = zip(dataset_rows["dataset"], dataset_rows["effect"], strict=True)
        for dataset, effect in effects:
            line[names.dataset(dataset)] = signed(effect)
    line["up"] = f"{row['up']}/{row['cells']}"
    line["at lower R2"] = str(row["at_lower_r2"])
    line["out of reach"] = str(row["out_of_reach"])
    line["no comparison"] = str(row["infeasible"])
    line["dR2"] = interval(row["r2_difference"])
    return line


def _fine(value: float, low: float = nan, high: float = nan) -> str:
    return interval(value, low, high, "{:+.4f}".format)


def _brackets(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"[{low:+.4f}, {high:+.4f}]"
