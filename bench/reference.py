"""Committed results of an experiment, and every table and figure of them from their rows.

    python bench/reference.py keep results/study docs/results/study     # `make reference EXPERIMENT=study`
    python bench/reference.py rebuild docs/results/study                # some seconds; trains nothing

Kept are the rows: metrics.parquet, curves.parquet, made_by.json, and of latents.parquet what the table of detection by
frequency reads. Rows of other cells that lie there stay: an experiment may be run a few cells at a time, on several
machines. Tables and claims are written anew from these, and the figures that the folder's README.md shows. Left out are
fronts.csv, which is long, and the leaderboard, here a copy of fronts.md.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from sae_workflow import settings

from sae.core import files
from sae.report import claims, plot, tables
from sae.report.names import Names
from sae.scoring.rows import CELL, KEY

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "workflow/resources/paper"
ROWS = ("metrics.parquet", "curves.parquet", "latents.parquet")
MADE_BY = "made_by.json"
LEFT_OUT = ("fronts.csv", "leaderboard.csv", "leaderboard.md")


def main() -> None:
    """Keep, or rebuild."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("keep", "rebuild"))
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        help="of results where they are to be kept; of what is kept",
    )
    parser.add_argument(
        "--config", nargs="*", default=[], help="files laid over config.yaml"
    )
    a = parser.parse_args()
    if a.what == "keep":
        results, into = a.folders
        keep(results, into, a.config)
    rebuild(a.folders[-1], a.config)


def keep(results: Path, into: Path, overlays: list[str]) -> None:
    """Copy the rows of an experiment; those of cells that are not among the results stay, if made in the same way."""
    made_by, slim = files.read_json(results / MADE_BY), ["detection", "n_active"]
    found = {name: files.read_parquet(results / name) for name in ROWS}
    # Where there are no judges there is no detection.
    latents = found["latents.parquet"].reindex(columns=[*KEY, *slim, "selected"])
    read = (
        latents["selected"]
        & (latents["split"] == "test")
        & latents["detection"].notna()
    )
    # Four decimals are a third of the bytes, and beyond what an AUC of some images tells.
    found["latents.parquet"] = (
        latents.loc[read, [*KEY, *slim]]
        .astype({"detection": "float32"})
        .round({"detection": 4})
    )
    found["curves.parquet"] = found["curves.parquet"].astype(
        {"y": "float32"}
    )  # Three digits are ever read.
    cells = pd.MultiIndex.from_frame(found["metrics.parquet"][CELL])
    kept = {
        name: files.read_parquet(into / name) for name in ROWS if (into / name).exists()
    }
    others = {
        name: table[~pd.MultiIndex.from_frame(table[CELL]).isin(cells)]
        for name, table in kept.items()
    }
    if any(map(len, others.values())):
        made_by = _as_one(
            files.read_json(into / MADE_BY, "record of what made the rows there"),
            made_by,
            into,
        )
        found = {
            name: pd.concat([table, others[name]], ignore_index=True)
            for name, table in found.items()
        }
    config = settings.read_config(str(ROOT / "config.yaml"), *overlays)
    experiment = made_by["experiment"]
    if experiment not in config.experiments:
        raise SystemExit(f"the config has no experiment {experiment}: see --config")
    order = pd.MultiIndex.from_tuples(
        [
            tuple(cell.wildcards[part] for part in CELL)
            for cell in settings.cells(config, experiment)
        ],
        names=CELL,
    )
    if unknown := sorted({*cells} - {*order}):
        raise SystemExit(
            f"{results} has cells that the config's experiment lacks, such as {unknown[0]}: see --config"
        )
    into.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        place = order.get_indexer(pd.MultiIndex.from_frame(table[CELL]))
        rows = table.iloc[place.argsort(kind="stable")].reset_index(drop=True)
        write(into / name, rows)
    files.write_json(into / MADE_BY, made_by)


def write(path: Path, rows: pd.DataFrame) -> None:
    """Write a table in few bytes: of numbers, most of which occur once, the first bytes together, then the second."""
    rounded = (
        path.name == "latents.parquet"
    )  # Its numbers are few, so a dictionary holds them.
    split = [name for name in rows if rows[name].dtype.kind == "f" and not rounded]
    how = {
        "use_byte_stream_split": split,
        "use_dictionary": [name for name in rows if name not in split],
    }
    files.write_parquet(path, rows, compression="zstd", compression_level=19, **how)


def _as_one(kept: dict[str, Any], new: dict[str, Any], into: Path) -> dict[str, Any]:
    """What made both; the program ends if they were made in different ways."""
    parts = ("cells", "columns", "families")  # Each run has those of its own datasets.
    differ = [
        name
        for name in new
        if name not in parts and new[name] != kept.get(name, new[name])
    ]
    for part in parts:
        given, there = new.get(part, {}), kept.get(part, {})
        differ += [
            name for name in given.keys() & there.keys() if given[name] != there[name]
        ]
    if differ:
        raise SystemExit(
            f"{into} has rows of other {', '.join(differ)}: delete it to keep the new ones alone"
        )
    return new | {
        part: dict(sorted((kept.get(part, {}) | new.get(part, {})).items()))
        for part in parts
    }


def rebuild(folder: Path, overlays: list[str]) -> None:
    """Write the tables, the claims and the figures of a folder from its rows."""
    config = settings.read_config(str(ROOT / "config.yaml"), *overlays)
    experiment = files.read_json(folder / MADE_BY)["experiment"]
    plan = tables.ComparisonSettings.model_validate(
        settings.claims_settings(config, experiment)
    )
    names = Names.model_validate(settings.printed_names(config, experiment))
    page = folder / "README.md"
    shown = (
        re.findall(r"\(figures/(\w+)\.png\)", page.read_text(encoding="utf-8"))
        if page.exists()
        else []
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        tables.write(
            folder / "metrics.parquet",
            folder / "latents.parquet",
            PUBLISHED,
            plan,
            made / "tables",
        )
        claims.write(
            folder / "metrics.parquet", folder / "curves.parquet", PUBLISHED, plan, made
        )
        for name in shown:
            plot.plot(name, folder, names, made / "figures")
        kept = [
            f
            for f in made.rglob("*")
            if f.suffix in (".csv", ".md", ".png") and f.name not in LEFT_OUT
        ]
        for kind in ("tables", "figures"):
            shutil.rmtree(folder / kind, ignore_errors=True)
        for file in kept:
            (folder / file.relative_to(made)).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(made))


if __name__ == "__main__":
    main()
