"""The leaderboard of protocol `fair`: every tuned method beside the tuned baseline that sets the reconstruction.

A method's value is the mean over cells of its candidate's score, seeds averaged first; its difference is from the
baseline at the end of its chain of `against`, with the wider interval (`sae.report.bootstrap`). Where that reaches 0
the method is a *tie* with the baseline, whatever its rank. Ranks are of the values; their intervals are of ranks over
resamples of the (dataset, backbone) blocks. Undertrained cells are left out.
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
]


class Score(NamedTuple):
    """A column of the leaderboard: of metrics, what is subtracted, which way is better (+1 up), how it is written."""

    column: str
    minus: str | None = None
    better: int = 1
    style: str = ".3f"


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
it has the baseline's numbers (none in: how many cells)."""


def with_rise(picks: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`picks` with a column `rise`: NMSE at four times the training k, divided by that at the training k."""
    curve = of_chosen(picks, points[points["curve"] == "robustness"])
    at = {n: curve[curve["x"] == n * curve["k"]].set_index([*RUN, "method"])["y"] for n in (1, 4)}
    rise = (at[4] / at[1]).rename("rise")
    return picks.merge(rise.reset_index(), on=[*RUN, "method"], how="left")


def table(picks: pd.DataFrame, names: Names, rule: dict[str, Any]) -> pd.DataFrame:
    """A row per score and method, the best first; a score that no method has is left out.

    Columns `COLUMNS`; `lost`: cells in which no trial of the method was eligible.

    Args:
        picks: of :func:`sae.report.fair.picked` at one tolerance, perhaps with `rise`.
        rule: confidence, resamples, bootstrap_seed (`claims` in config.yaml).
    """
    picks, against, found = picks[~picks["undertrained"]], names.compared, []
    methods = [name for name in names.order(picks["method"]) if name in against]
    for name, score in SCORES.items():
        values = {m: by_run(picks[picks["method"] == m], score.column, score.minus).dropna() for m in methods}
        values = {method: of for method, of in values.items() if len(of)}
        if not values:
            continue
        means = {method: float(of.groupby(CELL).mean().mean()) for method, of in values.items()}
        ranks = _ranks(values, score, rule)
        for method in sorted(values, key=lambda m: -score.better * means[m]):
            base = root(method, against)
            change, ends = 0.0, (0.0, 0.0)
            if method != base and base in values:
                difference = (values[method] - values[base]).dropna()
                change, ends = float(difference.groupby(CELL).mean().mean()), wider_interval(difference, rule)
            tie = method != base and ends[0] <= 0 <= ends[1]
            cells, lost = values[method].groupby(CELL).ngroups, picks[(picks["method"] == method) & picks["fallback"]]
            found.append(
                (name, method, means[method], change, *ends, tie, *ranks[method], cells, lost.groupby(CELL).ngroups)
            )
    return pd.DataFrame(found, columns=COLUMNS).astype({"tie": bool})


def _ranks(values: dict[str, pd.Series], score: Score, rule: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """{method: its rank, and the interval of its rank} on the blocks that all methods have; 1 is the best."""
    blocks = pd.DataFrame({method: of.groupby(BLOCK).mean() for method, of in values.items()}).dropna()
    if blocks.empty:
        return {method: (float("nan"),) * 3 for method in values}
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
            line[row["score"]] = f"{text}; {row['rank']:.0f} ({row['rank_low']:.0f} to {row['rank_high']:.0f})"
        shown.append(line)
    return pd.DataFrame(shown, columns=["method", *scores]).fillna("-")


def read(file: str | Path) -> pd.DataFrame:
    """The leaderboard as its csv holds it."""
    return pd.read_csv(file, dtype={"score": str, "method": str, "tie": bool}, keep_default_na=False, na_values=[""])
