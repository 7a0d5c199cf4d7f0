"""Committed results of an experiment, and every table and figure of them from their rows.

    python bench/reference.py keep results/study docs/results/study     # `make reference EXPERIMENT=study`
    python bench/reference.py rebuild docs/results/study                # some seconds; trains nothing

Kept are the rows: metrics.parquet, curves.parquet, made_by.json, and of latents.parquet what the table of detection by
frequency reads. Tables and claims are written anew from these, and the figures that the folder's README.md shows.
"""

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from sae_workflow import settings

from sae.core import files
from sae.report import claims, plot, tables
from sae.report.names import Names
from sae.scoring.rows import KEY

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "workflow/resources/paper"
ROWS = ("metrics.parquet", "curves.parquet", "made_by.json")


def main() -> None:
    """Keep, or rebuild."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keep", "rebuild"))
    parser.add_argument("folders", nargs="+", type=Path, help="of results where they are to be kept; of what is kept")
    parser.add_argument("--config", nargs="*", default=[], help="files laid over config.yaml")
    a = parser.parse_args()
    if a.what == "keep":
        keep(*a.folders)
    rebuild(a.folders[-1], a.config)


def keep(results: Path, into: Path) -> None:
    """Copy the rows of an experiment."""
    into.mkdir(parents=True, exist_ok=True)
    for name in ROWS:
        shutil.copyfile(results / name, into / name)
    latents = files.read_parquet(results / "latents.parquet")
    # Where there are no judges there is no detection.
    latents = latents.reindex(columns=[*KEY, "detection", "n_active", "selected"])
    read = latents["selected"] & (latents["split"] == "test") & latents["detection"].notna()
    slim = latents.loc[read, [*KEY, "detection", "n_active"]].astype({"detection": "float32"})
    files.write_parquet(into / "latents.parquet", slim.reset_index(drop=True))


def rebuild(folder: Path, overlays: list[str]) -> None:
    """Write the tables, the claims and the figures of a folder from its rows."""
    config = settings.read(str(ROOT / "config.yaml"), *overlays)
    experiment = files.read_json(folder / "made_by.json")["experiment"]
    plan = tables.Settings.model_validate(settings.claims_plan(config, experiment))
    names = Names.model_validate(settings.names(config, experiment))
    page = folder / "README.md"
    shown = re.findall(r"\(figures/(\w+)\.png\)", page.read_text(encoding="utf-8")) if page.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        tables.write(folder / "metrics.parquet", folder / "latents.parquet", PUBLISHED, plan, made / "tables")
        claims.write(folder / "metrics.parquet", folder / "curves.parquet", PUBLISHED, plan, made)
        for name in shown:
            plot.plot(name, folder, names, made / "figures")
        kept = [f for f in made.rglob("*") if f.suffix in (".csv", ".md", ".png")]
        for kind in ("tables", "figures"):
            shutil.rmtree(folder / kind, ignore_errors=True)
        for file in kept:
            (folder / file.relative_to(made)).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(made))


if __name__ == "__main__":
    main()
