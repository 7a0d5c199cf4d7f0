"""The leaderboard of protocol `fair`: every tuned method beside the tuned baseline that sets the reconstruction.

A method's value is the mean over cells of its candidate's score, seeds averaged first; its difference is from the
baseline at the end of its chain of `against`, with the wider interval (`sae.report.bootstrap`). Where that reaches 0
the method is a *tie* with the baseline, whatever its rank. Ranks are of the values; their intervals are of ranks over
resamples of the (dataset, backbone) blocks and of the seeds in them. Undertrained cells, of any run that is shown, are
left out. Controls, and SAEs that were made elsewhere, stand below without a rank: nobody tuned them, and they have
their own R^2.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.core import files
from sae.report import stored
from sae.report.bootstrap import wider_interval
from sae.report.names import Names
from sae.report.scores import RUN, by_run
from sae.report.stored import Rows
from sae.report.tables import markdown
from sae.scoring.fair import root
from sae.scoring.selection import CELL, of_chosen

BLOCK = ["dataset", "backbone"]
COLUMNS = [
    "score",
    "method",
    "label",
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
    "stored",
]


class Score(NamedTuple):
    """A column of the leaderboard: of metrics, of which one, what is subtracted, what is better (+1 up), the style."""

    column: str
    metric: str
    minus: str | None = None
    better: int = 1
    style: str = ".3f"


NO_RANK = (float("nan"),) * 3
SCORES = {
    "MS independent": Score("ms_mean_alive_independent", "independent"),
    "MS": Score("ms_mean_alive", "monosemanticity"),
    "purity - null": Score("purity_binary", "purity", "purity_binary_null"),
    "probe AUC": Score("probe_auc", "probe"),
    "stability": Score("stability", "stability"),
    "rise at 4k": Score("rise", "robustness", better=-1),
    "dead": Score("dead", "firing", better=-1, style=".0f"),
    "R2": Score("r2", "reconstruction"),
}
MOST_L0 = 1.02  # times k: what an SAE that nobody tuned has beyond that is said beside its name
NOTES = """\
Means over cells of candidates with fresh seeds, on test; in parentheses the difference from the tuned baseline and its
interval; then the rank, with its interval over blocks and seeds, too narrow where blocks are few. `=`: a tie, the
interval of the difference reaches 0. MS independent: by backbones of other families. stability: of all latents; it
falls with the number of dead ones, which no two seeds share. rise at 4k: NMSE at four times the training k over that at
k. Every method was tuned in as many trials, and stands at the baseline's R2 (docs/protocol.md). Where no trial of a
method was eligible it has the numbers of the method that it is compared with (none in: how many cells); with fewer than
five blocks, a single block without an eligible trial makes the method a tie, whatever the others say; where that is so
in every cell it has no numbers. A method that lacks blocks has no rank. Controls and imported SAEs, at the end, were
not tuned and stand at their own R2; L0 beside a name: above 1.02 k. `*`: a row of a stored run, compared with that
run's baseline; differences between it and others are not paired."""


NO_CELLS = "Empty: every cell is undertrained (docs/protocol.md)."


def with_rise(picks: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`picks` with a column `rise`: NMSE at four times the training k, divided by that at the training k."""
    curve = of_chosen(picks, points[points["curve"] == "robustness"])
    at = {n: curve[curve["x"] == n * curve["k"]].set_index([*RUN, "method"])["y"] for n in (1, 4)}
    rise = (at[4] / at[1]).rename("rise")
    return picks.merge(rise.reset_index(), on=[*RUN, "method"], how="left")


def table(runs: Sequence[Rows], rule: dict[str, Any]) -> pd.DataFrame:
    """A row per score and method, the best first, then those that were not tuned; scores that no method has are not in.

    Columns `COLUMNS`; `lost`: cells in which no trial of the method was eligible; `stored`: of another run than the
    first. A method is compared with the baseline of its own run.

    Args:
        runs: this run's rows, then those that it joins, of whose methods those are left out that an earlier run has.
            Rows may have `rise`.
        rule: confidence, resamples, bootstrap_seed (`claims` in config.yaml).
    """
    runs = _alike(runs)
    owners: dict[str, int] = {}
    for number, run in enumerate(runs):
        for method in (*run.tuned["method"].unique(), *run.untuned["method"].unique()):
            owners.setdefault(method, number)
    labels = {method: _label(method, runs[number]) for method, number in owners.items()}
    found = []
    for name, score in SCORES.items():
        values = [_by_method(run.tuned, run.names, score) for run in runs]
        every = {m: of for number, own in enumerate(values) for m, of in own.items() if owners[m] == number}
        lost = {m: _lost(runs[owners[m]], m) for m in every}
        ranked = {m: of for m, of in every.items() if lost[m] < of.groupby(CELL).ngroups}
        ranks = _ranks(ranked, score, rule) if ranked else {}
        means = {method: float(of.groupby(CELL).mean().mean()) for method, of in every.items()}
        for method in sorted(every, key=lambda m: -score.better * means[m]):
            run, there = runs[owners[method]], values[owners[method]]
            base = root(method, run.names.compared)
            difference = (there[method] - there[base]).dropna() if method != base and base in there else None
            row = (name, method, labels[method], *_compared(there[method], difference, rule))
            row = (*row, *ranks.get(method, NO_RANK), there[method].groupby(CELL).ngroups, lost[method])
            found.append((*row, True, owners[method] > 0))
        for number, run in enumerate(runs):
            baseline = next((values[number][b] for b in run.names.baselines if b in values[number]), None)
            for method, of in _by_method(run.untuned, run.names, score).items():
                if owners[method] != number or baseline is None:
                    continue
                # Its seeds are not those of the candidates: the difference is from the baseline's mean in the cell.
                difference = of - baseline.groupby(CELL).mean().reindex(of.index.droplevel("seed")).to_numpy()
                row = (name, method, labels[method], *_compared(of, difference, rule), *NO_RANK)
                found.append((*row, of.groupby(CELL).ngroups, 0, False, number > 0))
    return pd.DataFrame(found, columns=COLUMNS).astype({"tie": bool, "tuned": bool, "stored": bool})


def _alike(runs: Sequence[Rows]) -> list[Rows]:
    """The runs in the cells that all have, and in which none's baseline would gain from more steps."""
    trained = [set(stored.cell_names(r.tuned[~r.tuned["undertrained"].astype(bool)])) for r in runs]
    common = set.intersection(*trained)

    def of_common(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[pd.Series([name in common for name in stored.cell_names(rows)], rows.index, dtype=bool)]

    found = []
    for run in runs:
        tuned = of_common(run.tuned)
        untuned = run.untuned[~run.untuned["method"].isin(tuned["method"])]
        found.append(run._replace(tuned=tuned, untuned=of_common(untuned)))
    return found


def _lost(run: Rows, method: str) -> int:
    """In how many cells no trial of a method was eligible."""
    return run.tuned[(run.tuned["method"] == method) & run.tuned["fallback"]].groupby(CELL).ngroups


def _label(method: str, run: Rows) -> str:
    """A method's label; of one that nobody tuned also how far its L0 is off, if it is."""
    label, rows = run.names.method(method), run.untuned[run.untuned["method"] == method]
    if rows.empty or "l0" not in rows or not (rows["l0"] > MOST_L0 * rows["k"]).any():
        return label
    return f"{label} (L0 {rows['l0'].astype(float).mean():.0f})"


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
    """{method: its rank, and the interval of its rank} on the blocks that all methods have; 1 is the best.

    The bootstrap draws blocks, and inside each drawn block its seeds, the same ones for all methods.
    """
    table = pd.DataFrame({method: of.groupby([*BLOCK, "seed"]).mean() for method, of in values.items()})
    # A method that lacks blocks which others have has no rank.
    table = table.loc[:, table.notna().sum() == table.notna().sum().max()].dropna()
    if table.empty:
        return dict.fromkeys(values, NO_RANK)
    blocks = [-score.better * of.to_numpy() for _, of in table.groupby(BLOCK)]
    rng = np.random.default_rng(rule["bootstrap_seed"])
    drawn = rng.integers(len(blocks), size=(rule["resamples"], len(blocks)))
    means = np.zeros((len(drawn), table.shape[1]))
    for number, of in enumerate(blocks):
        # What the block gives wherever it is drawn: the mean over as many of its seeds as it has.
        seeds = rng.integers(len(of), size=(*drawn.shape, len(of)))
        means += (of[seeds].mean(axis=2) * (drawn == number)[:, :, None]).sum(axis=1)
    # Equal means share the better rank; those of equal rows may differ in their last bits.
    means, signed = means.round(12), np.mean([of.mean(axis=0) for of in blocks], axis=0).round(12)
    ranks = 1 + (means[:, None, :] < means[:, :, None]).sum(axis=2)
    own = 1 + (signed[None, :] < signed[:, None]).sum(axis=1)
    tail = (1 - rule["confidence"]) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0)
    ranked = {m: (float(own[i]), float(low[i]), float(high[i])) for i, m in enumerate(table.columns)}
    return dict.fromkeys(values, NO_RANK) | ranked


def write(
    own: Rows,
    stars: dict[str, float],
    settings: dict[str, Any],
    join: str | Path | None,
    out: Path,
    cells_of: Sequence[str | Path] = (),
) -> None:
    """Write leaderboard.csv, .md, and .json, which other runs can join.

    Args:
        stars: as in :class:`sae.report.stored.About`.
        settings: claims; protocol, definitions and tolerance as there; metrics, {name: {code, options}}; most_steps,
            {dataset: limit}; manifests, {dataset/backbone: manifest of its test embeddings}.
        join: such a .json of another run.
        cells_of: such files of runs of other cells, or of other methods, which count as this run's.
    """
    read = {name: files.read_json(file, "manifest of activations") for name, file in settings["manifests"].items()}
    blocks = {
        name: {
            "images": m["dataset"]["fingerprint"],
            "weights": m["backbone"]["fingerprint"],
            "image size": m["image_size"],
            "most steps": settings["most_steps"].get(name.partition("/")[0]),
        }
        for name, m in read.items()
    }
    about = _about(settings, stars, blocks)
    for file in cells_of:
        own, about = stored.add_cells(file, own, about)
    runs, said = [own], _counted(about.sources, own.names)
    if join:
        joined, near = stored.read(join, about)
        runs, said = [own, joined], f"{said} Joined: {join}. {near}".strip()
    columns = list(dict.fromkeys(c for score in SCORES.values() for c in (score.column, score.minus) if c))
    stored.write(own, about, ["l0", *columns], out / "leaderboard.json")
    board = table(runs, settings["claims"]).assign(joined=said)
    with files.atomic_file(out / "leaderboard.csv") as temporary:
        board.to_csv(temporary, index=False)
    shown = markdown(as_text(board)) if len(board) else NO_CELLS
    lines = ["# Leaderboard", shown, NOTES, *([said] if said else [])]
    files.write_text(out / "leaderboard.md", "\n\n".join(lines) + "\n")
    files.write_sums(out / "leaderboard.sums.json", [out / "leaderboard.csv", out / "leaderboard.md"])


def check(
    settings: dict[str, Any], stars: Iterable[str], join: str | Path | None, cells_of: Sequence[str | Path]
) -> None:
    """Look at the stored leaderboards before anything is trained; settings, join and cells_of as for :func:`write`.

    Args:
        stars: the names of R*.

    Raises:
        UserError: one cannot be joined or counted, whatever the data, the weights and R* will be.
    """
    about = _about(settings, dict.fromkeys(stars, float("nan")), {})
    for file in cells_of:
        stored.check(file, about)
    if join:
        stored.check(join, about, settings["manifests"])


def _about(settings: dict[str, Any], stars: dict[str, float], blocks: dict[str, Any]) -> stored.About:
    metrics = {score.metric: settings["metrics"].get(score.metric) for score in SCORES.values()}
    metrics = {name: of for name, of in metrics.items() if of}
    known = (settings["protocol"], settings["definitions"], metrics, blocks, stars, settings["tolerance"])
    return stored.About(*known, elsewhere=settings.get("elsewhere", {}))


def _counted(sources: Sequence[dict[str, Any]], names: Names) -> str:
    """Which cells come from which file, in words."""
    said = []
    for source in sources:
        without = [names.method(name) for name in names.order(source["without"])]
        said.append(f"{', '.join(source['cells'])} from {source['file']} (sha256 {source['sha256'][:12]})")
        said[-1] += f", without {', '.join(without)}" if without else ""
    if not said:
        return ""
    text = "Cells of other runs: " + "; ".join(said) + "."
    return f"{text} In each cell a method is compared with the baseline of the run that made it."


def as_text(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for reading: a row per method, by rank in the first score; a column per score."""
    scores = list(dict.fromkeys(board["score"]))
    # By the first score, those that lack it last; then what has no candidate of its own, then what is not tuned.
    first, most, shown = board.drop_duplicates("method"), board["cells"].max(), []
    without = without_candidate(board)
    none = first["method"].isin(without)
    first = pd.concat([first[first["tuned"] & ~none], first[none], first[~first["tuned"]]])
    for method, label, lost, cells, joined in first[["method", "label", "lost", "cells", "stored"]].itertuples(
        index=False
    ):
        line = {"method": label + (" *" if joined else "") + (f" (none in {lost})" if lost else "")}
        line["method"] += f" ({cells} of {most} cells)" if cells < most else ""
        for row in (
            board[board["method"] == method].to_dict("records") if method not in set(first[none]["method"]) else ()
        ):
            style = SCORES[row["score"]].style
            text = format(row["value"], style)
            if row["low"] != row["high"]:
                ends = "-, -" if np.isinf(row["low"]) else f"{row['low']:+{style}}, {row['high']:+{style}}"
                text += f" ({row['difference']:+{style}} [{ends}])" + (" =" if row["tie"] else "")
            if row["tuned"] and np.isfinite(row["rank"]):
                text += f"; {row['rank']:.0f} ({row['rank_low']:.0f} to {row['rank_high']:.0f})"
            line[row["score"]] = text
        shown.append(line)
    return pd.DataFrame(shown, columns=["method", *scores]).fillna("-")


def without_candidate(board: pd.DataFrame) -> set[str]:
    """The tuned methods of which no trial was eligible in any cell."""
    most = board[board["tuned"]].groupby("method")[["lost", "cells"]].max()
    return set(most.index[most["lost"] == most["cells"]])


def read(file: str | Path) -> pd.DataFrame:
    """The leaderboard as its csv holds it."""
    return pd.read_csv(
        file, dtype={"score": str, "method": str, "tie": bool, "tuned": bool}, keep_default_na=False, na_values=[""]
    )
