"""The comparison of methods for reading: verdicts, and all scores of the same SAEs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from sae.comparison.effects import OUT_OF_REACH
from sae.comparison.intervals import IntervalRule
from sae.comparison.published import interval, plain, signed
from sae.comparison.scores import COMPARED, SCORES
from sae.comparison.verdicts import (
    ALL_FAMILIES,
    BETTER,
    BY_LESS,
    DIFFERS,
    EQUIVALENT,
    INCONCLUSIVE,
    LEAST_DATASETS,
    NEGLIGIBLE,
    WORSE,
    of_mean,
)
from sae.report.markup import markdown, wrapped
from sae.report.names import Names
from sae.scoring.choice import DETECTION, ENDPOINTS, MARGIN, MOST_L0

MARGIN_TEXT = f"{NEGLIGIBLE:g}".removeprefix("0")
PIXELS = "detection_pixels"
NO_COMPARISON = (
    "Nothing to compare: no method has a chosen SAE beside its baseline's. Methods are "
    "compared by protocol `tuned` (docs/protocol.md)."
)
NO_DETECTION = (
    "No backbone of another family sees these images, so the trial of highest R2 was "
    "chosen, and detection is not compared."
)


def which_saes(means: pd.DataFrame) -> str:
    """Say in one line of which SAEs a row is.

    Args:
        means: Of `sae.comparison.verdicts.means`, with an effect in some cell.
    """
    chosen = "feasible trial of highest R2"
    if DETECTION in measured(means):
        chosen = (
            f"trial of highest detection whose R2 is within {MARGIN:g} of the baseline's "
            "best"
        )
    text = f"Each row is of one set of SAEs: per cell the {chosen}, on validation"
    rows = means[(means["cells"] > 0) & ~means["control"].astype(bool)]
    if rows.empty:
        return f"{text}. No method is compared: below are controls alone."
    seeds = int(rows["seeds"].min())
    kind = "fresh seeds" if rows["fresh"].all() else "seeds, the tuning's own"
    if seeds == 1:
        kind = kind.replace("seeds", "seed", 1)
    return f"{text}; scored on test, mean of {seeds} {kind}."


def measured(means: pd.DataFrame, endpoints: Iterable[str] = ENDPOINTS) -> list[str]:
    """Return the endpoints that have effects: MS alone without a held-out encoder."""
    with_effect = means[means["effect"].notna()]
    return [name for name in endpoints if (with_effect["score"] == name).any()]


def meanings(rule: IntervalRule) -> dict[str, str]:
    """Return {verdict: when it is said}.

    Args:
        rule: The level of tests.
    """
    level = f"{rule.level:.2g}".removeprefix("0")
    return {
        f"{BETTER}, {WORSE}": (
            f"p < {level} after Holm's correction over detection and MS and over "
            "methods (Reg. 1 and Reg. 2 together, all others together), and every "
            "dataset has the effect's sign; better in detection also asks that neither "
            "of its two views lies wholly below 0"
        ),
        f"{EQUIVALENT} {MARGIN_TEXT}": (
            f"the {rule.one_sided:.0%} interval lies within {MARGIN_TEXT} of 0: two "
            "one-sided tests, uncorrected"
        ),
        f"{BETTER}{BY_LESS} {MARGIN_TEXT}": (
            f"{BETTER} and {EQUIVALENT} {MARGIN_TEXT} at once; and so {WORSE}{BY_LESS} "
            f"{MARGIN_TEXT}"
        ),
        DIFFERS: (
            "families of backbones have effects of different sign, and the interval of "
            "their difference leaves out 0"
        ),
        OUT_OF_REACH: (
            "in a quarter of the cells or more no trial reconstructs as well as the "
            "baseline's best, or a fresh seed failed"
        ),
        INCONCLUSIVE: (
            f"none of these. It says what the {rule.confidence:.0%} interval allows"
        ),
    }


def key_of_verdicts(rule: IntervalRule) -> str:
    """Return what each verdict means, as a list in markdown."""
    return "\n".join(
        wrapped(f"- *{verdict}*: {when}.") for verdict, when in meanings(rule).items()
    )


def say(row: Mapping[Any, Any]) -> str:
    """Return the verdict on an effect in words; "-" where there is none.

    Args:
        row: Of `sae.comparison.verdicts.means`.
    """
    if row["reason"] == OUT_OF_REACH:
        cells = counted(int(row["all_cells"]), "cell")
        return f"{OUT_OF_REACH} in {int(row['out_of_reach'])} of {cells}"
    verdict = row["verdict"]
    if not isinstance(verdict, str):
        return "-"
    if verdict != INCONCLUSIVE:
        return verdict
    text = f"{verdict}: {_allowed(row['low'], row['high'])}"
    return f"{text} ({row['reason']})" if isinstance(row["reason"], str) else text


def counted(count: int, noun: str) -> str:
    """Write how many there are of something, such as "1 cell" or "2 cells"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _allowed(low: float, high: float) -> str:
    low = round(low, 3)
    high = round(high, 3)
    if low < 0 < high:
        return f"a loss of {_amount(low)} to a gain of {_amount(high)}"
    if high > 0:
        return f"a gain of {_amount(low)} to {_amount(high)}"
    return f"a loss of {_amount(high)} to {_amount(low)}"


def _amount(value: float) -> str:
    """Write a value without its sign, such as ".02"; 0 as "0"."""
    text = f"{abs(value):.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") or "0"


def effect_text(row: Mapping[Any, Any]) -> str:
    """Write an effect and its interval; "-" where there is none."""
    return interval(row["effect"], row["low"], row["high"])


def page(
    means: pd.DataFrame,
    names: Names,
    rule: IntervalRule,
    cells: pd.DataFrame | None = None,
    imported: pd.DataFrame | None = None,
) -> list[str]:
    """Return the paragraphs of a page about methods, without a title.

    Args:
        means: Of `sae.comparison.verdicts.means`.
        names: How methods are printed.
        rule: How wide intervals are.
        cells: Of `sae.comparison.effects.effects`; without it there is no table by
            dataset, and nothing is said of what is out of reach.
        imported: Of `sae.comparison.effects.imported`.
    """
    made_elsewhere = [] if imported is None else imported_section(imported, names)
    if not (means["cells"] > 0).any():
        reasons = [] if cells is None else why_out_of_reach(cells, names)
        return [*(reasons or [NO_COMPARISON]), *made_elsewhere]
    paragraphs = [wrapped(which_saes(means))]
    if DETECTION not in measured(means):
        paragraphs.append(NO_DETECTION)
    paragraphs += [
        markdown(verdict_table(means, names)),
        wrapped(_notes(means, rule)),
        key_of_verdicts(rule),
        "## All scores of the same SAEs",
        markdown(score_table(means, names)),
        wrapped(
            "The first rows are the baseline's own values; the others are differences "
            "from it. Controls stand at their own R2. A score that only some cells have "
            "says how many."
        ),
        "\n".join(
            wrapped(f"- *{SCORES[name].label}*: {SCORES[name].what}")
            for name in shown_scores(means)
        ),
    ]
    if cells is not None:
        paragraphs += why_out_of_reach(cells, names)
        by_dataset = dataset_table(cells, names)
        if len(by_dataset):
            paragraphs += ["## By dataset", markdown(by_dataset)]
    return [*paragraphs, *made_elsewhere]


def _notes(means: pd.DataFrame, rule: IntervalRule) -> str:
    datasets = int(means["datasets"].max())
    text = (
        "An effect is a method minus its baseline, averaged over k and backbones of a "
        "family, then over the datasets that all families have. "
    )
    if datasets >= LEAST_DATASETS:
        text += f"In brackets the {rule.confidence:.0%} interval over datasets."
    else:
        if means["low"].notna().any():
            text += (
                f"In brackets the {rule.confidence:.0%} interval over (dataset, family) "
                "pairs. "
            )
        text += f"Verdicts need {LEAST_DATASETS} datasets."
    return (
        f"{text} A trial is feasible where its L0 is at most {MOST_L0:g} k. *up*: cells "
        "in which the effect is above 0. docs/protocol.md has the rule."
    )


def verdict_table(
    means: pd.DataFrame, names: Names, endpoints: Iterable[str] = ENDPOINTS
) -> pd.DataFrame:
    """Return the endpoints: for each method a line a family, then their mean."""
    lines = []
    endpoints = measured(means, endpoints)
    for (_, family), rows in means.groupby(["method", "family"], sort=False):
        by_score = rows.set_index("score")
        line = {"method": _label(rows, names), "backbones": family}
        for score in endpoints:
            if score not in by_score.index:
                continue
            row = by_score.loc[score].to_dict()
            line[SCORES[score].label] = effect_text(row)
            line.setdefault("up", f"{row['up']}/{row['cells']}")
            line["R2"] = signed_r2(by_score)
            if family == ALL_FAMILIES:
                line[f"verdict on {SCORES[score].label}"] = say(row)
        lines.append(line)
    return _without_repeats(pd.DataFrame(lines).fillna("-"))


def signed_r2(by_score: pd.DataFrame) -> str:
    """Write the difference in test R2; "!" marks one beyond the margin."""
    if "r2" not in by_score.index or pd.isna(by_score.loc["r2", "effect"]):
        return "-"
    difference = float(by_score.loc["r2", "effect"])
    return signed(difference) + (" !" if abs(difference) > MARGIN else "")


def shown_scores(means: pd.DataFrame) -> list[str]:
    """Return the scores that the table of all scores has."""
    present = set(means.loc[means["level"].notna(), "score"])
    return [name for name in (*COMPARED, "r2", "l0") if name in present]


def score_table(
    means: pd.DataFrame, names: Names, scores: Iterable[str] | None = None
) -> pd.DataFrame:
    """Return scores, or all: lines of the baseline's values, then of differences.

    A score of fewer cells than others of the line says of how many.
    """
    scores = list(scores or shown_scores(means))
    lines = []
    for (baseline, family), rows in means.groupby(["baseline", "family"], sort=False):
        values = _of_most_cells(rows)[["level", "cells"]]
        label = names.method(str(baseline))
        lines.append(_score_line(label, family, values, scores, plain))
    for (_, family), rows in means.groupby(["method", "family"], sort=False):
        values = rows.set_index("score")[["effect", "cells"]]
        lines.append(_score_line(_label(rows, names), family, values, scores, signed))
    return _without_repeats(pd.DataFrame(lines))


def _score_line(
    label: str,
    family: Any,
    values: pd.DataFrame,
    scores: Iterable[str],
    write: Callable[[float], str],
) -> dict[str, Any]:
    """Return a line of :func:`score_table`.

    Args:
        label: Of the method.
        family: Of backbones.
        values: By score, a value and of how many cells it is the mean.
        scores: Those that are shown.
        write: What writes a value.
    """
    line = {"method": label, "backbones": family}
    most = values["cells"].max()
    for name in scores:
        text = "-"
        if name in values.index and pd.notna(values.loc[name].iloc[0]):
            value, cells = values.loc[name]
            text = write(value)
            if cells < most:
                text += f" ({int(cells)}/{int(most)})"
        line[SCORES[name].label] = text
    return line


def dataset_table(cells: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return the effect on detection, or MS, of each dataset, a column each."""
    compared = cells[cells["effect"].notna() & ~cells["control"].astype(bool)]
    lines = []
    for score in ENDPOINTS:
        of_score = compared[compared["score"] == score]
        by_dataset = of_score.groupby(["method", "dataset"], sort=False)[
            "effect"
        ].mean()
        for method, values in by_dataset.groupby(level="method", sort=False):
            line = {"method": names.method(str(method)), "score": SCORES[score].label}
            for (_, dataset), value in values.items():
                line[names.dataset(dataset)] = signed(value)
            lines.append(line)
    table = pd.DataFrame(lines)
    # One dataset has the numbers of the first table.
    return table if len(table.columns) > 3 else table[:0]


def imported_scores(rows: pd.DataFrame) -> str:
    """Write what an SAE that was made elsewhere scores, the baseline in brackets.

    Args:
        rows: One method's, of `sae.comparison.effects.imported`.
    """
    means = rows.groupby("score", sort=False)[["value", "topk"]].mean()
    return ", ".join(
        f"{SCORES[score].label} {plain(means.loc[score, 'value'])} "
        f"({plain(means.loc[score, 'topk'])})"
        for score in ("r2", *ENDPOINTS)
        if score in means.index
    )


def imported_section(imported: pd.DataFrame, names: Names) -> list[str]:
    """Return the paragraphs about SAEs that were made elsewhere, if there are any.

    Args:
        imported: Of `sae.comparison.effects.imported`.
        names: How methods are printed.
    """
    if imported.empty:
        return []
    lines = []
    for (method, score), rows in imported.groupby(["method", "score"], sort=False):
        beside = rows["topk"].notna()
        line = {
            "method": f"{names.method(str(method))} (not tuned here)",
            "score": SCORES[str(score)].label,
            "its own": plain(rows["value"].mean()),
            "baseline": plain(rows.loc[beside, "topk"].mean()),
            "cells": f"{beside.sum()}/{len(rows)}",
        }
        lines.append(line)
    return ["## Made elsewhere", markdown(pd.DataFrame(lines)), wrapped(IMPORTED)]


IMPORTED = (
    "SAEs that were made elsewhere, beside the baseline's trial of highest detection "
    f"whose R2 is at least the SAE's own minus {MARGIN:g}, on validation: means over "
    "the cells in which there is one, on test, over the seeds with which that trial was "
    "trained. They were not tuned here, so that they are in no comparison of methods; "
    "the command `card` gives an interval."
)


def why_out_of_reach(cells: pd.DataFrame, names: Names) -> list[str]:
    """Say for each method that is out of reach somewhere what is the matter.

    Args:
        cells: Of `sae.comparison.effects.effects`.
        names: How methods are printed.
    """
    by_cell = cells.drop_duplicates(["dataset", "backbone", "k", "method"])
    sentences = []
    for method, rows in by_cell.groupby("method", sort=False):
        out = rows[rows["status"] == OUT_OF_REACH]
        if out.empty:
            continue
        reasons = " and ".join(dict.fromkeys(out["reason"]))
        lacking = out["shortfall"].max()
        lack = "" if pd.isna(lacking) else f", by {plain(lacking)} of R2 at most"
        sentences.append(
            f"{names.method(str(method))} is out of reach in {len(out)} of "
            f"{counted(len(rows), 'cell')}: {reasons}{lack}."
        )
    return sentences


def pixel_sentence(means: pd.DataFrame) -> list[str]:
    """Say what the baseline's detection is by 8 x 8 pixels, if that was measured.

    Args:
        means: Of `sae.comparison.verdicts.means`.
    """
    levels = _of_most_cells(of_mean(means))["level"]
    if not {DETECTION, PIXELS} <= set(levels.dropna().index):
        return []
    return [
        "By 8 x 8 pixels of each image instead of a backbone the baseline's detection "
        f"is {levels[PIXELS]:.3f} ({levels[DETECTION]:.3f} with a backbone, .5 by "
        "chance): that much takes no network to see."
    ]


def effects_of(means: pd.DataFrame, scores: Iterable[str]) -> pd.DataFrame:
    """Return the rows of the mean of families of some scores."""
    rows = of_mean(means)
    return rows[rows["score"].isin(list(scores))]


def _of_most_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return by score the row of the method that has it in most cells."""
    most_cells_first = rows.sort_values("cells", ascending=False, kind="stable")
    return most_cells_first.drop_duplicates("score").set_index("score")


def _label(rows: pd.DataFrame, names: Names) -> str:
    label = names.method(rows["method"].iloc[0])
    return f"{label} (control)" if rows["control"].iloc[0] else label


def _without_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the lines of families where an experiment has but one."""
    if table.empty or table["backbones"].nunique() > 2:
        return table
    rows = table[table["backbones"] == ALL_FAMILIES]
    return rows.drop(columns="backbones").loc[:, lambda kept: (kept != "-").any()]
