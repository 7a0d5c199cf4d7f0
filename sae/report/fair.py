"""Protocol `fair` for readers: what each method's candidates score on test, against the baseline's, and where.

Candidates were chosen on validation and trained with fresh seeds (`sae.scoring.fair`); a difference is paired by cell
and seed. A cell whose baseline would gain from more steps is *undertrained*: it is marked, has no part in the headline,
and its effects stand in rows of their own.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from math import isinf, isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from sae.core import files
from sae.report import leaderboard, measures, stored
from sae.report.bootstrap import half_width, wider_interval
from sae.report.names import Names
from sae.report.scores import RUN, across_groups, by_run, diverged
from sae.report.tables import markdown
from sae.scoring.rows import FAIR
from sae.scoring.selection import CELL, chosen, under

# {name: (column of metrics, what is subtracted or None)}; of all but dead, more is better.
SCORES: dict[str, tuple[str, str | None]] = {
    "R2": ("r2", None),
    "MS": ("ms_mean_alive", None),
    "MS_dead_as_0": ("ms_mean", None),
    "MS_best_n": ("ms_best_n", None),
    "MS_independent": ("ms_mean_alive_independent", None),
    "purity-null": ("purity_binary", "purity_binary_null"),
    "AUC": ("probe_auc", None),
    "dead": ("dead", None),
    "recovered": ("recovery_found", None),
}
EFFECTS = [
    "tolerance",
    "undertrained",
    "method",
    "data",
    "score",
    "difference",
    "low",
    "high",
    "cells_for",
    "cells_against",
    "ties",
]
NOTES = """\
Difference from the method compared with, on test, mean over cells and fresh seeds, with the wider of two intervals:
the bootstrap over (dataset, backbone) blocks, seeds inside them, and Student's t of the blocks' means. Candidates of
both are chosen by the same rule on validation: highest MS among the trials whose R2 is at most `tolerance` below R*,
the best that the tuned baseline reaches. A tie: no trial of the method is; the cell counts as 0. MS is over alive
latents, across groups where images have groups. MS_best_n: mean of the n highest, n the smallest number of alive
latents of the cell's candidates. recovered, of generated data: the share of the concepts that a latent has. `!`:
cells whose baseline would still gain from more steps, by themselves; no other row counts them."""
CELLS_NOTES = """\
What was chosen at the first tolerance; fair.csv has every one. `!`: the baseline would still gain from more steps.
Scores on test, means over fresh seeds; in brackets the difference from the method compared with, ± the half
width of Student's interval over these seeds."""
# What an experiment without this protocol says instead.
ELSEWHERE = (
    "Each method has one recipe here, the baseline too. After equal tuning little of a gain may be left: "
    "docs/fair/README.md in the project says what is left on two datasets, and `snakemake fair` runs them."
)


def picked(
    metrics: pd.DataFrame, selection: pd.DataFrame, against: dict[str, str | None], tolerance: float
) -> pd.DataFrame:
    """One row per cell, tuned method and fresh seed, on test: the candidate's, or on a tie that of another method.

    Args:
        metrics, selection: metrics.parquet and selection.parquet.
        against: {method: the method it is compared with, or None}.

    Returns:
        Rows of `metrics`, with `source` and `fallback` as :func:`sae.scoring.selection.chosen` gives them, and
        `undertrained`.
    """
    rows = metrics[metrics["split"] == "test"]
    choice = under(selection, FAIR)
    choice = choice[choice["tolerance"] == tolerance][[*RUN, "method", "trial", "undertrained"]]
    choice = choice.astype({"undertrained": bool})  # Rows of protocol `paper` have none.
    whole = choice[choice["trial"].notna()]
    found = rows.merge(whole, on=[*RUN, "method", "trial"])
    parts = [found.assign(source=found["method"], fallback=False)]
    for tie in choice[choice["trial"].isna()].to_dict("records"):
        source = against[tie["method"]]
        there = parts[0].iloc[:0]
        while source is not None and there.empty:
            same = (parts[0][RUN] == pd.Series({name: tie[name] for name in RUN})).all(axis=1)
            there = parts[0][same & (parts[0]["method"] == source)]
            source = against[source]
        parts.append(there.assign(method=tie["method"], fallback=True))
    return pd.concat(parts, ignore_index=True)


def best_n(picks: pd.DataFrame, latents: pd.DataFrame) -> pd.Series:
    """Mean MS of the n best latents of each row of `picks`, n the smallest number of alive ones in its cell.

    Args:
        picks: of :func:`picked`.
        latents: latents.parquet; MS across groups, where that is there.
    """
    key = [*RUN, "method", "trial"]
    ms = latents["ms"]
    if "ms_across_groups" in latents:
        ms = latents["ms_across_groups"].fillna(ms)
    alive = latents.assign(ms=ms).dropna(subset="ms").sort_values("ms", ascending=False)
    by_sae = {name: values.to_numpy() for name, values in alive.groupby(key)["ms"]}
    rows = picks.assign(method=picks["source"])[key].itertuples(index=False, name=None)
    found = [by_sae.get(row) for row in rows]
    counts = pd.Series([nan if values is None else len(values) for values in found], picks.index, dtype=float)
    least = counts.groupby([picks[name] for name in CELL]).transform("min")
    both = zip(found, least, strict=True)
    means = [nan if values is None else float(values[: int(n)].mean()) for values, n in both]
    return pd.Series(means, picks.index, dtype=float)


def differences(picks: pd.DataFrame, method: str, other: str, score: str) -> pd.Series:
    """A method's score minus another's, by (dataset, backbone, k, seed); what is not defined is left out."""
    ours, theirs = (by_run(picks[picks["method"] == name], *SCORES[score]) for name in (method, other))
    return (ours - theirs).dropna()


def effects(picks: dict[float, pd.DataFrame], names: Names, rule: dict[str, Any]) -> pd.DataFrame:
    """What each method differs by from the one it is compared with: columns `EFFECTS`, `data` 'all' or a dataset.

    Args:
        picks: {tolerance: what :func:`picked` returned, with ms_best_n}.
        rule: confidence, resamples, bootstrap_seed (`claims` in config.yaml).
    """
    found = []
    for tolerance, rows in picks.items():
        pairs = [(m, other) for m, other in names.compared.items() if other and m in set(rows["method"])]
        for (undertrained, of), (method, other) in itertools.product(rows.groupby("undertrained"), pairs):
            for data in ["all", *of["dataset"].unique()]:
                here = of if data == "all" else of[of["dataset"] == data]
                ties = here[(here["method"] == method) & here["fallback"]].groupby(CELL).ngroups
                for score in SCORES:
                    values = differences(here, method, other, score)
                    if values.empty:
                        continue
                    cells = values.groupby(CELL).mean()
                    sides = int((cells > 1e-12).sum()), int((cells < -1e-12).sum())
                    key = (tolerance, bool(undertrained), method, data, score)
                    found.append((*key, cells.mean(), *wider_interval(values, rule), *sides, ties))
    return pd.DataFrame(found, columns=EFFECTS)


def cells(
    picks: dict[float, pd.DataFrame], metrics: pd.DataFrame, selection: pd.DataFrame, names: Names, confidence: float
) -> pd.DataFrame:
    """A row per cell, tolerance and tuned method: what was chosen, on what grounds, and what it scores on test.

    `{score}_difference` is from the method compared with; `{score}_half_width` is how far Student's t interval of it,
    over the fresh seeds, reaches to either side (NaN with one seed, and on a tie). `diverged`: '1 of 6' SAEs.
    """
    tried = {cell: diverged(rows) for cell, rows in under(metrics, FAIR).groupby(CELL)}
    choice = under(selection, FAIR).drop_duplicates([*CELL, "method", "tolerance"])
    found = []
    for row in choice.to_dict("records"):
        tests = picks[row["tolerance"]]
        here = tests[(tests[CELL] == pd.Series({n: row[n] for n in CELL})).all(axis=1)]
        own = here[here["method"] == row["method"]]
        line = {name: row[name] for name in (*CELL, "tolerance", "method", "status", "trial", "steps", "undertrained")}
        line["diverged"] = tried[tuple(row[n] for n in CELL)].get(row["method"], "")
        line |= {f"val_{name}": row[name] for name in ("r2", "ms", "l0", "firing")} | {"val_bar": row["bar"]}
        line |= {score: by_run(own, *of).mean() for score, of in SCORES.items()}
        line["AUC_se"] = own["probe_auc_se"].mean() if "probe_auc_se" in own else nan
        other = names.against(row["method"])
        if other is not None:
            for score in SCORES:
                change = differences(here, row["method"], other, score)
                line[f"{score}_difference"] = change.mean()
                line[f"{score}_half_width"] = nan if pd.isna(row["trial"]) else half_width(change, confidence)
        found.append(line)
    return pd.DataFrame(found)


def edges(metrics: pd.DataFrame, selection: pd.DataFrame, tuned: Iterable[str] = ()) -> pd.DataFrame:
    """How often a choice lies at an edge of what was tried: method, tolerance, option, cells, lowest, highest.

    Args:
        tuned: the methods' own options that were tuned, beside learning rate, scale and lambda.
    """
    choice = under(selection, FAIR).drop_duplicates([*CELL, "method", "tolerance"])
    choice = choice[choice["trial"].notna()]
    tried = under(metrics, FAIR)
    options = [name for name in dict.fromkeys(("lr", "encoder_scale", "lambda", *tuned)) if name in tried]
    found = []
    for (method, tolerance), rows in choice.groupby(["method", "tolerance"], sort=False):
        trials = tried[tried["method"] == method]
        both = rows.merge(trials[[*CELL, "trial", *options]].drop_duplicates(), on=[*CELL, "trial"])
        ends = trials.groupby(CELL)[options].agg(["min", "max"])
        for option in options:
            values = both.set_index(CELL)[option].dropna()
            if len(values):
                low, high = (ends.loc[values.index, (option, end)] for end in ("min", "max"))
                at = int((values == low).sum()), int((values == high).sum())
                found.append((method, tolerance, option, len(values), *at))
    return pd.DataFrame(found, columns=["method", "tolerance", "option", "cells", "at_lowest", "at_highest"])


def evidence(
    metrics: pd.DataFrame, selection: pd.DataFrame, latents: pd.DataFrame, names: Names
) -> dict[float, pd.DataFrame]:
    """{tolerance: picks, with ms_best_n}, the headline first."""
    found = {}
    for tolerance in under(selection, FAIR)["tolerance"].unique():
        picks = picked(metrics, selection, names.compared, tolerance)
        found[float(tolerance)] = picks.assign(ms_best_n=best_n(picks, latents))
    return found


def write(
    results: str | Path,
    settings: dict[str, Any],
    out: str | Path,
    join: str | Path | None = None,
    cells_of: Sequence[str | Path] = (),
) -> None:
    """Write `out`/fair.csv (:func:`cells`), fair_effects.csv (:func:`effects`), measures.csv, fair.md; leaderboard.*.

    Args:
        results: folder of the experiment's tables.
        settings: of :class:`sae.report.names.Names`; `claims`, whose rule the intervals follow; protocol, metrics and
            manifests as for :func:`sae.report.leaderboard.write`.
        join: a stored leaderboard, whose rows stand beside this run's.
        cells_of: stored leaderboards of other cells, or of other methods, whose rows count as this run's, in the
            leaderboard alone.

    Raises:
        UserError: a file is damaged, or a stored leaderboard does not fit.
    """
    names, out = Names(settings), Path(out)
    read = {name: files.read_parquet(Path(results) / f"{name}.parquet") for name in ("metrics", "selection", "latents")}
    metrics = across_groups(read["metrics"])
    picks = evidence(metrics, read["selection"], read["latents"], names)
    points = files.read_parquet(Path(results) / "curves.parquet")
    untuned = leaderboard.with_rise(chosen(under(metrics, "paper"), "test", names.compared), points)
    headline = leaderboard.with_rise(next(iter(picks.values())), points)
    tables = {
        "fair": cells(picks, metrics, read["selection"], names, settings["claims"]["confidence"]),
        "fair_effects": effects(picks, names, settings["claims"]),
        "measures": measures.table(headline, untuned, names),
    }
    for name, table in tables.items():
        with files.atomic_file(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    tuned = sorted({name for of in settings["definitions"].values() for name in of["ranges"] or ()})
    lines = [*_page(tables["fair"], tables["fair_effects"], edges(metrics, read["selection"], tuned), metrics, names)]
    if len(tables["measures"]):
        lines += ["# Measures beside the paper's", markdown(tables["measures"]), measures.NOTES]
    files.write_text(out / "fair.md", "\n\n".join(lines) + "\n")
    files.write_sums(out / "fair.sums.json", [*(out / f"{name}.csv" for name in tables), out / "fair.md"])
    own = stored.Rows(headline, untuned[~untuned["method"].isin(headline["method"])], names)
    leaderboard.write(own, stars(read["selection"], names), settings, join, out, cells_of)


def stars(selection: pd.DataFrame, names: Names) -> dict[str, float]:
    """{cell and baseline: R*, the reconstruction that it sets}, as in :class:`sae.report.stored.About`."""
    choice = under(selection, FAIR)
    choice = choice[[names.against(method) is None for method in choice["method"]]].drop_duplicates([*CELL, "method"])
    keys = [f"{cell} {method}" for cell, method in zip(stored.cell_names(choice), choice["method"], strict=True)]
    return dict(zip(keys, choice["bar"] + choice["tolerance"], strict=True))


def _page(
    cells: pd.DataFrame, effects: pd.DataFrame, edges: pd.DataFrame, metrics: pd.DataFrame, names: Names
) -> Iterator[str]:
    yield "# The same reconstruction after the same tuning"
    tried = under(metrics, FAIR)
    tried = tried[[names.at(method) is None for method in tried["method"]]]
    trials = sorted(tried.groupby([*CELL, "method"])["trial"].nunique().unique())
    where = cells.drop_duplicates(CELL)
    yield (
        f"{', '.join(map(str, trials))} trials of each method in each cell; {int(where['undertrained'].sum())} of "
        f"{len(where)} cells undertrained."
    )
    yield markdown(effects_text(effects, names))
    yield NOTES
    yield "# What was chosen"
    yield markdown(cells_text(cells, names))
    yield CELLS_NOTES
    yield "# Choices at the edge of what was tried"
    shown = edges.assign(method=[names.method(name) for name in edges["method"]])
    yield markdown(shown.astype(str))


def effects_text(effects: pd.DataFrame, names: Names) -> pd.DataFrame:
    """:func:`effects` for reading: a row per method, tolerance and data, a column per score.

    The one dataset of an experiment is not shown twice.
    """
    shown = []
    if effects["data"].nunique() == 2:
        effects = effects[effects["data"] != "all"]
    by = ["tolerance", "undertrained", "method", "data"]
    for (tolerance, undertrained, method, data), rows in effects.groupby(by, sort=False):
        line = {"tolerance": f"{tolerance:g}", "method": names.method(str(method))}
        line["data"] = ("all" if data == "all" else names.dataset(str(data))) + (" !" if undertrained else "")
        line["ties"] = str(rows["ties"].iloc[0])
        for row in rows.to_dict("records"):
            style = "+.1f" if row["score"] == "dead" else "+.3f"
            value, low, high = (format(row[name], style) for name in ("difference", "low", "high"))
            ends = "" if isinf(row["low"]) else f" [{low}, {high}]"
            line[row["score"]] = f"{value}{ends}, {row['cells_for']}/{row['cells_against']}"
        shown.append(line)
    measured = [score for score in SCORES if score in set(effects["score"])]
    return pd.DataFrame(shown, columns=["tolerance", "method", "data", "ties", *measured]).fillna("-")


def cells_text(cells: pd.DataFrame, names: Names) -> pd.DataFrame:
    """:func:`cells` for reading, of the headline's tolerance."""
    shown = []
    for row in cells[cells["tolerance"] == cells["tolerance"].iloc[0]].to_dict("records") if len(cells) else []:
        line = {"data": names.dataset(row["dataset"]), "encoder": names.backbone(row["backbone"]), "k": str(row["k"])}
        line |= {
            # None where every method sets its own.
            "steps": ("-" if pd.isna(row["steps"]) else f"{row['steps']:.0f}") + (" !" if row["undertrained"] else ""),
            "method": names.method(row["method"]),
        }
        line["trial"] = "tie" if pd.isna(row["trial"]) else row["trial"]
        line["trial"] += (
            f" ({row['diverged']} diverged)" if isinstance(row["diverged"], str) and row["diverged"] else ""
        )
        for score in ("R2", "MS", "MS_independent", "dead"):
            style = ".0f" if score == "dead" else ".3f"
            text = "-" if isnan(row[score]) else format(row[score], style)
            change, half = (row.get(f"{score}_{name}", nan) for name in ("difference", "half_width"))
            spread = "" if isnan(half) else f" ± {half:{style}}"
            line[score] = text + ("" if isnan(change) else f" ({change:+{style}}{spread})")
        shown.append(line)
    columns = ["data", "encoder", "k", "steps", "method", "trial", "R2", "MS", "MS_independent", "dead"]
    return pd.DataFrame(shown, columns=columns)
