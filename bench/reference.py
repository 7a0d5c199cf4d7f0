"""Committed results of an experiment, and their tables and figures from their rows.

    python bench/reference.py keep results/study docs/results/study
    python bench/reference.py rebuild docs/results/study

`make reference EXPERIMENT=study` does the first, which does the second too. The second
takes some seconds, and trains nothing.

Kept are the rows: metrics.parquet with seven digits, selection.parquet, curves.parquet,
made_by.json, and of latents.parquet the latents of SAEs that were judged. Rows of other
cells that lie there stay: an experiment may be run a few cells at a time, on several
machines. Tables and claims are written anew from these, and the figures that the
folder's README.md shows. Left out is the leaderboard, here a copy of comparison.md.
Rows that were scored before detection had two views have the paper's tables, and what
bench/reread.py reads of them.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import reread
from sae_workflow import settings

from sae.core import files
from sae.report import claims, plot, tables
from sae.report.names import Names
from sae.scoring.choice import DETECTION
from sae.scoring.rows import CELL, KEY, read_metrics, swept_options

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "workflow/resources/paper"
ROWS = (
    *("metrics.parquet", "selection.parquet"),
    *("curves.parquet", "latents.parquet"),
)
MADE_BY = "made_by.json"
# Each run has those of its own datasets.
PARTS_OF_DATASETS = ("by_dataset", "cells", "columns", "families", "pictures")
# Folders that are written anew. Other files in them stay.
REBUILT = ("tables", "figures")
LEFT_OUT = ("leaderboard.csv", "leaderboard.md")


def main() -> None:
    """Keep or rebuild."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("keep", "rebuild"))
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        help="of results and where they are to be kept; or of what is kept",
    )
    parser.add_argument(
        "--config", nargs="*", default=[], help="files laid over config.yaml"
    )
    arguments = parser.parse_args()
    if arguments.action == "keep":
        results, into = arguments.folders
        keep(results, into, arguments.config)
    rebuild(arguments.folders[-1], arguments.config)


def keep(results: Path, into: Path, overlays: list[str]) -> None:
    """Copy the rows of an experiment.

    Rows of cells that are not among the results stay, if they were made in the same
    way; else the program ends. So it does where tables or figures lie there that are
    none of results that are kept.

    Args:
        results: The folder of the experiment.
        into: The folder to keep them in.
        overlays: Files laid over config.yaml.
    """
    for kind in REBUILT:
        if (into / kind).exists() and not (into / MADE_BY).exists():
            raise SystemExit(
                f"files in {into / kind} would be replaced, and {into} keeps no "
                "results: name another folder"
            )
    made_by = files.read_json(results / MADE_BY)
    rows = {name: read_rows(results / name) for name in ROWS}
    rows["metrics.parquet"] = shorten_scores(rows["metrics.parquet"])
    rows["latents.parquet"] = judged_latents(rows["latents.parquet"])
    # Three digits are ever read.
    curves = rows["curves.parquet"]
    rows["curves.parquet"] = curves.astype({"y": "float32"})
    cells = cells_of(rows["metrics.parquet"])

    rows_that_stay = {}
    for name in ROWS:
        if (into / name).exists():
            kept_rows = read_rows(into / name)
            is_made_anew = cells_of(kept_rows).isin(cells)
            rows_that_stay[name] = kept_rows[~is_made_anew]
    if any(map(len, rows_that_stay.values())):
        record_name = "record of what made the rows there"
        kept_made_by = files.read_json(into / MADE_BY, record_name)
        made_by = join_records(kept_made_by, made_by, into)
        for name in ROWS:
            parts = [rows[name], rows_that_stay[name]]
            rows[name] = pd.concat(parts, ignore_index=True)

    order = cells_in_order(made_by["experiment"], overlays)
    unknown = sorted({*cells} - {*order})
    if unknown:
        raise SystemExit(
            f"{results} has cells that the config's experiment lacks, such as "
            f"{unknown[0]}: see --config"
        )
    into.mkdir(parents=True, exist_ok=True)
    for name, table in rows.items():
        place = order.get_indexer(cells_of(table))
        in_order = table.iloc[place.argsort(kind="stable")].reset_index(drop=True)
        write(into / name, in_order)
    files.write_json(into / MADE_BY, made_by)


def read_rows(file: Path) -> pd.DataFrame:
    """Read one of `ROWS`."""
    if file.name == "metrics.parquet":
        return read_metrics(file)
    return files.read_parquet(file)


def cells_of(table: pd.DataFrame) -> pd.MultiIndex:
    """Return the cell of each row."""
    return pd.MultiIndex.from_frame(table[CELL])


def cells_in_order(experiment: str, overlays: list[str]) -> pd.MultiIndex:
    """Return the cells of an experiment in the order of the config.

    The program ends if the config has no such experiment.
    """
    config = settings.read_config(str(ROOT / "config.yaml"), *overlays)
    if experiment not in config.experiments:
        raise SystemExit(f"the config has no experiment {experiment}: see --config")
    cells = [
        tuple(cell.wildcards[part] for part in CELL)
        for cell in settings.cells(config, experiment)
    ]
    return pd.MultiIndex.from_tuples(cells, names=CELL)


def shorten_scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with scores of seven digits: the others are half of the bytes.

    Swept options stay as they are.
    """
    scores = metrics.select_dtypes("float64").columns.difference(swept_options(metrics))
    # The last bytes of such a number are 0, which takes no room.
    shortened = metrics[scores].astype("float32").astype("float64")
    return metrics.assign(**shortened)


def judged_latents(latents: pd.DataFrame) -> pd.DataFrame:
    """Return all latents of SAEs that have detection on test: the chosen, and controls.

    With how often each fires, whoever likes weighs them otherwise. Four decimals are a
    third of the bytes, and beyond what an AUC of some images tells.
    """
    scores = ["detection", "copy_of", "n_active"]
    others = [name for name in ("ms", "name", "name_precision") if name in latents]
    # Where there are no judges there is no detection.
    latents = latents.reindex(columns=[*KEY, *scores, *others])
    on_test = latents[latents["split"] == "test"]
    is_judged = on_test["detection"].notna().groupby([on_test[part] for part in KEY])
    slim = on_test[is_judged.transform("any")]
    decimals = {
        name: 4 for name in ("detection", "ms", "name_precision") if name in slim
    }
    return slim.astype(dict.fromkeys(decimals, "float32")).round(decimals)


def write(path: Path, rows: pd.DataFrame) -> None:
    """Write a table in few bytes.

    Of numbers, most of which occur once, the first bytes stand together, then the
    second; those of latents are rounded and few, so a dictionary holds them.
    """
    split = []
    if path.name != "latents.parquet":
        split = [name for name in rows if rows[name].dtype.kind == "f"]
    in_dictionary = [name for name in rows if name not in split]
    files.write_parquet(
        path,
        rows,
        compression="zstd",
        compression_level=19,
        use_byte_stream_split=split,
        use_dictionary=in_dictionary,
    )


def join_records(
    kept_record: dict[str, Any], new_record: dict[str, Any], into: Path
) -> dict[str, Any]:
    """Return the record of what made both rows.

    The program ends if they were made in different ways.

    Args:
        kept_record: Of the rows that are kept.
        new_record: Of the new rows.
        into: The folder, for the message.
    """
    differing = [
        name
        for name in new_record
        if name not in PARTS_OF_DATASETS
        and new_record[name] != kept_record.get(name, new_record[name])
    ]
    joined = dict(new_record)
    for part in PARTS_OF_DATASETS:
        new_part = new_record.get(part, {})
        kept_part = kept_record.get(part, {})
        for name in new_part.keys() & kept_part.keys():
            if new_part[name] != kept_part[name]:
                differing.append(name)
        joined[part] = dict(sorted({**kept_part, **new_part}.items()))
    if differing:
        raise SystemExit(
            f"{into} has rows of other {', '.join(differing)}: delete it to keep the "
            "new ones alone"
        )
    return joined


def rebuild(folder: Path, overlays: list[str]) -> None:
    """Write the tables, the claims and the figures of a folder from its rows.

    Args:
        folder: With the rows that are kept, and perhaps a page that shows figures.
        overlays: Files laid over config.yaml.
    """
    config = settings.read_config(str(ROOT / "config.yaml"), *overlays)
    experiment = files.read_json(folder / MADE_BY)["experiment"]
    plan = tables.ComparisonSettings.model_validate(
        settings.claims_settings(config, experiment)
    )
    names = Names.model_validate(settings.printed_names(config, experiment))
    page = folder / "README.md"
    figures = []
    if page.exists():
        text = page.read_text(encoding="utf-8")
        figures = re.findall(r"\(figures/(\w+)\.png\)", text)

    metrics = folder / "metrics.parquet"
    curves = folder / "curves.parquet"
    with tempfile.TemporaryDirectory() as scratch:
        scratch_folder = Path(scratch)
        write_tables(metrics, plan, scratch_folder / "tables")
        claims.write(metrics, curves, PUBLISHED, plan, scratch_folder)
        for name in figures:
            plot.plot(name, folder, names, scratch_folder / "figures")

        for path in scratch_folder.rglob("*"):
            if path.suffix in (".csv", ".md", ".png") and path.name not in LEFT_OUT:
                place = folder / path.relative_to(scratch_folder)
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, place)


def write_tables(
    metrics_file: Path, plan: tables.ComparisonSettings, into: Path
) -> None:
    """Write the tables of kept rows, which may be of before detection had two views.

    Args:
        metrics_file: metrics.parquet, with what else is kept beside it.
        plan: How things are printed, and the rules of comparison.
        into: The folder to write to.
    """
    metrics = read_rows(metrics_file)
    if DETECTION in metrics or "detection_measured_auc" not in metrics:
        tables.write(metrics_file, PUBLISHED, plan, into)
        return
    for name, text in tables.paper_texts(metrics, PUBLISHED, plan).items():
        files.write_text(into / name, text)
    if (metrics["protocol"] == reread.PROTOCOL).any():
        reread.write(metrics_file.parent, into)


if __name__ == "__main__":
    main()
