"""Kept rows of before, read again by the choice that replaced fronts: post hoc.

    python bench/reread.py docs/results/photographs

The rows were scored before detection had two views, so the trials are chosen by
detection per latent, there without clusters of copies (`sae.scoring.choice`). Of a
chosen trial the fresh seeds are read where they were kept, else the seed of the tuning.
Detection per activation is known of the SAEs alone whose latents were kept, which
protocol `paper` chose. Writes selection.parquet and, in tables/, comparison.md,
comparison.csv, comparison_cells.csv and per_activation.csv.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from sae_workflow import settings

from sae.comparison import effects, leaderboard, verdicts
from sae.comparison.scores import SCORES, across_groups
from sae.core import files
from sae.core.options import from_record
from sae.report import comparison
from sae.report.markup import markdown, wrapped
from sae.report.names import Names
from sae.scoring import choice
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
CHOSEN_BY = "detection_per_latent"
PROTOCOL = "fair"  # That of before, which tuned methods.
SHOWN = ("detection_measured_auc", "coverage", "detection_per_latent", "ms", "r2")
ENDPOINTS = (CHOSEN_BY, "ms")
HEAD = (
    "Kept rows, read again post hoc: the rows are of 1.0.0, which scored detection of "
    "measured latents, and counted others as .5 (per latent here, without clusters of "
    "copies). In each cell the trial of highest detection per latent whose R2 is within "
    f"{choice.MARGIN:g} of Top-k's best was chosen, on validation."
)


def main() -> None:
    """Read the rows of a folder again, and write what they say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write(folder, folder / "tables")
    print((folder / "tables/comparison.md").read_text(encoding="utf-8"))


def write(folder: Path, tables: Path) -> None:
    """Write selection.parquet into a folder of kept rows, and its tables elsewhere.

    Args:
        folder: The kept rows.
        tables: The folder of tables.
    """
    record = files.read_json(folder / leaderboard.MADE_BY)
    made_by = from_record(leaderboard.MadeBy, record)
    metrics = across_groups(files.read_parquet(folder / "metrics.parquet"))
    config = settings.read_config(str(ROOT / "config.yaml"))
    names = Names.model_validate(settings.printed_names(config, made_by.experiment))

    selection = select(metrics, made_by)
    cells = effects.effects(metrics, selection, made_by.methods)
    measured = effects_in(metrics, selection, made_by, "detection_measured_auc")
    cells = pd.concat([cells, measured], ignore_index=True)
    means = verdicts.means(
        cells, made_by.families, made_by.intervals, made_by.pictures, ENDPOINTS
    )
    by_activation = per_activation(folder, metrics, made_by)

    files.write_parquet(folder / "selection.parquet", selection)
    tables.mkdir(parents=True, exist_ok=True)
    for name, table in {
        "comparison": means,
        "comparison_cells": cells,
        "per_activation": by_activation,
    }.items():
        table.round(6).to_csv(tables / f"{name}.csv", index=False, lineterminator="\n")
    files.write_text(tables / "comparison.md", page(means, cells, by_activation, names))


def select(metrics: pd.DataFrame, made_by: leaderboard.MadeBy) -> pd.DataFrame:
    """Choose of each method in each cell, as selection.parquet has it."""
    fair = made_by.protocols[PROTOCOL]
    validation = metrics[
        (metrics["split"] == "val")
        & (metrics["seed"] == fair["tuning"])
        & (metrics["protocol"] == PROTOCOL)
    ]
    trials = validation[[*CELL, "method", "trial", "status", "r2", "l0", CHOSEN_BY]]
    trials = trials.assign(feasible=choice.feasible(trials))
    rows: list[dict[str, Any]] = []
    for cell, in_cell in trials.groupby(CELL, sort=False):
        baseline = made_by.methods.baselines[0]
        best_r2 = choice.best_r2(in_cell[in_cell["method"] == baseline])
        for method, of_method in in_cell.groupby("method", sort=False):
            chosen = choice.choose(of_method, best_r2, CHOSEN_BY)
            for trial in of_method.to_dict("records"):
                row = {
                    **dict(zip(CELL, cell, strict=True)),
                    "method": method,
                    "protocol": "tuned",
                    "trial": trial["trial"],
                    "role": "candidate",
                    "status": "not chosen" if trial["feasible"] else "not feasible",
                    "r2": trial["r2"],
                    "bar": best_r2,
                    CHOSEN_BY: trial[CHOSEN_BY],
                }
                if chosen is not None and trial["trial"] == chosen["trial"]:
                    row |= {"role": "chosen", "status": "chosen"}
                    row |= kept_seeds(metrics, row, fair)
                rows.append(row)
    return pd.DataFrame(rows)


def kept_seeds(
    metrics: pd.DataFrame, row: dict[str, Any], fair: dict[str, Any]
) -> dict[str, Any]:
    """Return the seeds of a trial that are read: the fresh ones, if there are any."""
    is_trial = metrics["protocol"] == PROTOCOL
    for name in (*CELL, "method", "trial"):
        is_trial &= metrics[name] == row[name]
    seeds = sorted(metrics.loc[is_trial & (metrics["status"] == "ok"), "seed"].unique())
    fresh = [seed for seed in seeds if seed in fair["fresh"]]
    read = fresh or [fair["tuning"]]
    return {"seeds": " ".join(map(str, read)), "fresh": bool(fresh)}


def effects_in(
    metrics: pd.DataFrame,
    selection: pd.DataFrame,
    made_by: leaderboard.MadeBy,
    score: str,
) -> pd.DataFrame:
    """Return the effects in a score in which methods are not compared otherwise."""
    stand_in = metrics.assign(ms_mean_alive=SCORES[score].of(metrics))
    of_score = effects.effects(stand_in, selection, made_by.methods)
    return of_score[of_score["score"] == "ms"].assign(score=score)


def per_activation(
    folder: Path, metrics: pd.DataFrame, made_by: leaderboard.MadeBy
) -> pd.DataFrame:
    """Return detection per activation of the SAEs whose latents were kept."""
    latents = files.read_parquet(folder / "latents.parquet")
    sae = [*CELL, "method", "trial", "seed"]
    gain = (latents["detection"] - 0.5) * latents["n_active"]
    gained = latents.assign(gain=gain).groupby(sae)["gain"].sum().reset_index()
    on_test = metrics[(metrics["split"] == "test") & (metrics["protocol"] == "paper")]
    columns = [*sae, "l0", "n_images", "lambda", CHOSEN_BY]
    saes = gained.merge(on_test[columns].drop_duplicates(sae), on=sae)
    saes["detection_per_activation"] = 0.5 + saes["gain"] / (
        saes["l0"] * saes["n_images"]
    )
    scores = [CHOSEN_BY, "detection_per_activation"]
    baseline = made_by.methods.baselines[0]
    of_baseline = saes.loc[saes["method"] == baseline, [*CELL, *scores]]
    beside = saes.merge(of_baseline, on=CELL, suffixes=("", "_baseline"))
    for score in scores:
        beside[f"{score}_effect"] = beside[score] - beside[f"{score}_baseline"]
    beside["family"] = beside["backbone"].map(made_by.families)
    return beside[[*sae, "family", *scores, *(f"{score}_effect" for score in scores)]]


def page(
    means: pd.DataFrame, cells: pd.DataFrame, by_activation: pd.DataFrame, names: Names
) -> str:
    """Return the page of a folder's rows, read again."""
    by_cell = cells.drop_duplicates([*CELL, "method"])
    tuned = by_cell[(~by_cell["control"].astype(bool)) & (by_cell["status"] == "ok")]
    fresh = int(tuned["fresh"].astype(bool).sum())
    seeds = (
        f"Of {len(tuned)} chosen trials {fresh} are read with fresh seeds, the others "
        "with that of the tuning."
    )
    beside = by_activation[by_activation["method"] != "topk"]
    beside = beside[beside["method"].isin(list(names.tuned))]
    groups = beside.groupby(["method", "family"], sort=False)
    effects_kept = groups[[name for name in beside if name.endswith("_effect")]].mean()
    effects_kept = effects_kept.assign(saes=groups.size()).reset_index().round(3)
    shown = means[means["score"].isin(list(SHOWN))]
    return (
        "\n\n".join(
            [
                "# The best that reconstructs as well, read post hoc",
                wrapped(f"{HEAD} {seeds}"),
                markdown(comparison.verdict_table(means, names, ENDPOINTS)),
                "## All scores of the same SAEs",
                markdown(comparison.score_table(shown, names, SHOWN)),
                *comparison.why_out_of_reach(cells, names),
                "## Per latent and per activation, of the SAEs whose latents were kept",
                wrapped(
                    "Protocol `paper` chose these: one lambda, .001, and no tuning. Means "
                    "over cells of a method minus Top-k."
                ),
                markdown(effects_kept.astype(str)),
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
