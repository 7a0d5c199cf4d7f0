"""The leaderboard of protocol `fair`: every tuned method beside the tuned baseline that sets the reconstruction.

A method's value is the mean over cells of its candidate's score, seeds averaged first; its difference is from the
baseline at the end of its chain of `against`, with the wider interval (`sae.report.bootstrap`). Where that reaches 0
the method is a *tie* with the baseline, whatever its rank. Ranks are of the values; their intervals are of ranks over
resamples of the (dataset, backbone) blocks. Undertrained cells are left out. Controls, and SAEs that were made
elsewhere, stand below without a rank: nobody tuned them, and they have their own R^2.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.report.bootstrap import wider_interval
from sae.report.names import Names
from sae.report.scores import RUN, by_run
from sae.scoring.fair import root
from sae.scoring.selection import CELL, of_chosen

BLOCK = ["dataset", "backbone"]
COLUMNS = [
    "score",
    "method",
    "value",
    "difference",
    "low",
    "high",
    "tie",
    "rank",
    "rank_low",
    "rank_high",
    "cells",
    "lost",
    "tuned",
]


class Score(NamedTuple):
    """A column of the leaderboard: of metrics, what is subtracted, which way is better (+1 up), how it is written."""

    column: str
    minus: str | None = None
    better: int = 1
    style: str = ".3f"


NO_RANK = (float("nan"),) * 3
SCORES = {
    "MS independent": Score("ms_mean_alive_independent"),
    "MS": Score("ms_mean_alive"),
    "purity - null": Score("purity_binary", "purity_binary_null"),
    "probe AUC": Score("probe_auc"),
    "stability": Score("stability"),
    "rise at 4k": Score("rise", better=-1),
    "dead": Score("dead", better=-1, style=".0f"),
    "R2": Score("r2"),
}
NOTES = """\
Means over cells of candidates with fresh seeds, on test; in brackets the interval of the difference from the tuned
baseline; then the rank, with its interval over blocks. `=`: a tie, the interval of the difference reaches 0. MS
independent: by backbones of other families. rise at 4k: NMSE at four times the training k over that at k. Every method
was tuned in as many trials, and stands at the baseline's R2 (docs/protocol.md). Where no trial of a method was eligible
it has the baseline's numbers (none in: how many cells). Methods without a rank were not tuned and stand at their own
R2."""


def with_rise(picks: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`picks` with a column `rise`: NMSE at four times the training k, divided by that at the training k."""
    curve = of_chosen(picks, points[points["curve"] == "robustness"])
    at = {n: curve[curve["x"] == n * curve["k"]].set_index([*RUN, "method"])["y"] for n in (1, 4)}
    rise = (at[4] / at[1]).rename("rise")
    return picks.merge(rise.reset_index(), on=[*RUN, "method"], how="left")


def table(picks: pd.DataFrame, untuned: pd.DataFrame, names: Names, rule: dict[str, Any]) -> pd.DataFrame:
    """A row per score and method, the best first, then those that were not tuned; scores that no method has are not in.

    Columns `COLUMNS`; `lost`: cells in which no trial of the method was eligible.

    Args:
        picks: of :func:`sae.report.fair.picked` at one tolerance, perhaps with `rise`.
        untuned: of :func:`sae.scoring.selection.chosen` on test, likewise: of its methods those that `picks` lacks.
        rule: confidence, resamples, bootstrap_seed (`claims` in config.yaml).
    """
    picks, against, found = picks[~picks["undertrained"]], names.compared, []
    trained = pd.MultiIndex.from_frame(picks[CELL]).unique()
    untuned = untuned[pd.MultiIndex.from_frame(untuned[CELL]).isin(trained)]
    for name, score in SCORES.items():
        values = _by_method(picks, names, score)
        if not values:
            continue
        means = {method: float(of.groupby(CELL).mean().mean()) for method, of in values.items()}
        ranks = _ranks(values, score, rule)
        for method in sorted(values, key=lambda m: -score.better * means[m]):
            base = root(method, against)
            difference = (values[method] - values[base]).dropna() if method != base and base in values else None
            lost = picks[(picks["method"] == method) & picks["fallback"]].groupby(CELL).ngroups
            row = (name, method, *_compared(values[method], difference, rule), *ranks[method])
            found.append((*row, values[method].groupby(CELL).ngroups, lost, True))
        for method, own in _by_method(untuned[~untuned["method"].isin(values)], names, score).items():
            # Its seeds are not those of the candidates: the difference is from the baseline's mean in the cell.
            base = values[names.baselines[0]].groupby(CELL).mean()
            difference = own - base.reindex(own.index.droplevel("seed")).to_numpy()
            row = (name, method, *_compared(own, difference, rule), *NO_RANK)
            found.append((*row, own.groupby(CELL).ngroups, 0, False))
    return pd.DataFrame(found, columns=COLUMNS).astype({"tie": bool, "tuned": bool})


def _by_method(rows: pd.DataFrame, names: Names, score: Score) -> dict[str, pd.Series]:
    """{method: its score by `RUN`}, of those that have it."""
    methods = [name for name in names.order(rows["method"]) if name in names.compared]
    found = {m: by_run(rows[rows["method"] == m], score.column, score.minus).dropna() for m in methods}
    return {method: values for method, values in found.items() if len(values)}


def _compared(values: pd.Series, difference: pd.Series | None, rule: dict[str, Any]) -> tuple[float | bool, ...]:
    """Value, difference, low, high, tie; no difference is that of a baseline from itself."""
    value = float(values.groupby(CELL).mean().mean())
    if difference is None or difference.empty:
        return value, 0.0, 0.0, 0.0, False
    low, high = wider_interval(difference, rule)
    return value, float(difference.groupby(CELL).mean().mean()), low, high, low <= 0 <= high


def _ranks(values: dict[str, pd.Series], score: Score, rule: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """{method: its rank, and the interval of its rank} on the blocks that all methods have; 1 is the best."""
    blocks = pd.DataFrame({method: of.groupby(BLOCK).mean() for method, of in values.items()}).dropna()
    if blocks.empty:
        return dict.fromkeys(values, NO_RANK)
    signed = -score.better * blocks.to_numpy()
    rng = np.random.default_rng(rule["bootstrap_seed"])
    drawn = rng.integers(len(blocks), size=(rule["resamples"], len(blocks)))
    means = signed[drawn].mean(axis=1)
    # Equal means share the better rank.
    ranks = 1 + (means[:, None, :] < means[:, :, None]).sum(axis=2)
    own = 1 + (signed.mean(axis=0)[None, :] < signed.mean(axis=0)[:, None]).sum(axis=1)
    tail = (1 - rule["confidence"]) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0)
    return {m: (float(own[i]), float(low[i]), float(high[i])) for i, m in enumerate(blocks.columns)}


def as_text(board: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The leaderboard for reading: a row per method, by rank in the first score; a column per score."""
    scores = list(dict.fromkeys(board["score"]))
    first = board[board["score"] == scores[0]] if scores else board
    shown = []
    for method, lost in zip(first["method"], first["lost"], strict=True):
        line = {"method": names.method(method) + (f" (none in {lost})" if lost else "")}
        for row in board[board["method"] == method].to_dict("records"):
            style = SCORES[row["score"]].style
            text = format(row["value"], style)
            if row["low"] != row["high"]:
                ends = " [-, -]" if np.isinf(row["low"]) else f" [{row['low']:+{style}}, {row['high']:+{style}}]"
                text += ends + (" =" if row["tie"] else "")
            if row["tuned"]:
                text += f"; {row['rank']:.0f} ({row['rank_low']:.0f} to {row['rank_high']:.0f})"
            line[row["score"]] = text
        shown.append(line)
    return pd.DataFrame(shown, columns=["method", *scores]).fillna("-")


def read(file: str | Path) -> pd.DataFrame:
    """The leaderboard as its csv holds it."""
    return pd.read_csv(
        file, dtype={"score": str, "method": str, "tie": bool, "tuned": bool}, keep_default_na=False, na_values=[""]
    )
