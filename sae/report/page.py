"""Write `report/index.html`: claims first, then tables, figures and galleries, settings, times and provenance."""

import base64
import platform
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from sae.comparison import paper_tables, published
from sae.comparison.claims import VERDICTS
from sae.core import files, registry
from sae.report import claims, controls, fronts, tables
from sae.report.names import Names, printed
from sae.scoring.selection import under

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "numpy", "pandas", "snakemake")


class Settings(Names):
    """How things are printed, and of the experiment its name, its figures, and what of the config it uses."""

    experiment: str
    figures: list[str]
    config: dict[str, Any]


def write(
    results: str | Path,
    activations: Sequence[str | Path],
    published_folder: str | Path,
    settings: Settings,
    out: str | Path,
    *,
    times: str | Path | None = None,
) -> None:
    """Write the page to `out`; everything it shows is inside it, it needs no network.

    Args:
        results: folder of the experiment's tables, figures and claims.
        activations: manifests of the train splits of its embeddings.
        published_folder: the paper's tables as CSV.
        settings: :class:`Settings`.
        out: the file to write.
        times: JSON of what the jobs took: `jobs`, rows of step, jobs, minutes, longest, memory.
    """
    results, names = Path(results), Settings.model_validate(settings)
    for sums in ("claims", "tables/tables", *(f"figures/{name}" for name in names.figures)):
        files.check_sums(results / f"{sums}.sums.json")
    theirs = published.read(published_folder)
    verdicts = pd.read_csv(results / "claims.csv")
    by = {"The paper's claims": verdicts[~verdicts["ours"]], "Ours": verdicts[verdicts["ours"]]}
    manifests = [files.read_json(file, "manifest of activations") for file in activations]
    sources = {source["name"]: source for manifest in manifests for source in manifest["artifacts"]}
    figures = [_figure(name, results) for name in names.figures]
    worth = tables.read(results / "tables/controls.csv")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.render(
        experiment=names.experiment,
        description=printed(names.config["experiment"].get("description", "")),
        counts={whose: rows["verdict"].value_counts().to_dict() for whose, rows in by.items() if len(rows)},
        claims=claims.as_text(verdicts).to_dict("records"),
        badges=dict(zip(VERDICTS, ("yes", "part", "no", "untested"), strict=True)),
        training=tables.training(under(files.read_parquet(results / "metrics.parquet"), "paper"), names),
        controls=len(worth) and {"rows": controls.as_text(worth, names).to_dict("split"), "notes": controls.NOTES},
        tables=[_table(number, results, theirs, names) for number in paper_tables.TABLES],
        fronts=_fronts(results, names),
        figures=[figure for figure in figures if not figure["images"]],
        galleries=[figure for figure in figures if figure["images"]],
        settings=yaml.safe_dump(names.config, sort_keys=False, allow_unicode=True, width=100),
        times=files.read_json(times, "times of jobs")["jobs"] if times else [],
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions=dict(_versions()),
        embeddings=[_embeddings(manifest, names) for manifest in manifests],
        sources=sorted(sources.values(), key=lambda source: source["name"]),
    )
    files.write_text(out, page)
    files.write_sums(Path(out).with_name("index.sums.json"), [Path(out)])


def _fronts(results: Path, names: Names) -> dict[str, Any] | None:
    """The fronts at the headline's width; None where no method has any."""
    means = pd.read_csv(results / "tables/front_means.csv")
    shown = fronts.as_text(means[means["width"] == means["width"].iloc[0]], names) if len(means) else means
    return {"rows": shown.to_dict("split"), "notes": fronts.NOTES} if len(shown) else None


def _table(number: int, results: Path, theirs: pd.DataFrame, names: Names) -> dict[str, Any]:
    table = tables.read(results / f"tables/table{number}.csv")
    effects = paper_tables.effects(number, table, theirs, names)
    return {
        "title": f"Table {number}: {tables.TITLES[number]}",
        "notes": tables.NOTES[number],
        "effects_notes": tables.effects_notes(number, effects),
        "effects": tables.effects_as_text(number, effects, names).to_dict("split"),
        "rows": tables.as_text(number, table, names).to_dict("split"),
    }


def _figure(name: str, results: Path) -> dict[str, Any]:
    png = base64.b64encode((results / f"figures/{name}.png").read_bytes()).decode()
    about = registry.head("figure", name).constants
    images = any(table.startswith("gallery/") for table in about["READS"])
    return {"title": _title(name), "caption": about["CAPTION"], "png": png, "images": images}


def _title(name: str) -> str:
    words = re.sub(r"^fig(\d+)_?", r"fig. \1, ", name).replace("_", " ")
    return words.removesuffix(", ").capitalize()


def _versions() -> Iterable[tuple[str, str]]:
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # The library does without a workflow engine.
            yield package, version(package)


def _embeddings(manifest: dict[str, Any], names: Names) -> dict[str, str]:
    return {
        "dataset": names.dataset(manifest["dataset"]["name"]),
        "backbone": names.backbone(manifest["backbone"]["name"]),
        "shape": " x ".join(map(str, manifest["shape"])),
        "sha256": manifest["sha256"]["embeddings.npy"],
        "fingerprints": f"{manifest['dataset']['fingerprint']}, {manifest['backbone']['fingerprint']}",
        "precision": manifest.get("precision", "float32"),
    }
