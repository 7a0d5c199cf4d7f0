"""Write `report/index.html`: claims first, then tables, figures and galleries, settings, times and provenance."""

import base64
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from sae.core import files, registry
from sae.report import claims, controls, published, tables
from sae.report.names import Names, printed
from sae.scoring.selection import under

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "numpy", "pandas", "snakemake")
_BADGES = {claims.HOLDS: "yes", claims.IN_PART: "part", claims.NOT: "no", claims.UNTESTED: "untested"}


def write(
    results: str | Path,
    activations: Sequence[str | Path],
    published_folder: str | Path,
    settings: dict[str, Any],
    out: str | Path,
    *,
    times: str | Path | None = None,
) -> None:
    """Write the page to `out`; everything it shows is inside it, it needs no network.

    Args:
        results: folder of the experiment's tables, figures and claims.
        activations: manifests of the train splits of its embeddings.
        published_folder: the paper's tables as CSV.
        settings: {experiment: name, figures: their names, config: what of the config the experiment uses}, and those of
            :class:`sae.report.names.Names`.
        out: the file to write.
        times: JSON of what the jobs took: `jobs`, rows of step, jobs, minutes, longest, memory.
    """
    results, names = Path(results), Names(settings)
    for sums in ("claims", "tables/tables", *(f"figures/{name}" for name in settings["figures"])):
        files.check_sums(results / f"{sums}.sums.json")
    theirs = published.read(published_folder)
    verdicts = pd.read_csv(results / "claims.csv")
    manifests = [files.read_json(file, "manifest of activations") for file in activations]
    figures = [_figure(name, results) for name in settings["figures"]]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.render(
        experiment=settings["experiment"],
        description=printed(settings["config"]["experiment"].get("description", "")),
        counts={
            whose: verdicts.loc[verdicts["ours"] == ours, "verdict"].value_counts().to_dict()
            for whose, ours in (("The paper's claims", False), ("Ours", True))
            if (verdicts["ours"] == ours).any()
        },
        claims=claims.as_text(verdicts).to_dict("records"),
        badges=_BADGES,
        training=tables.training(under(files.read_parquet(results / "metrics.parquet"), "paper"), names),
        controls=_controls(results, names),
        tables=[_table(number, results, theirs, names) for number in tables.TABLES],
        figures=[figure for figure in figures if not figure["images"]],
        galleries=[figure for figure in figures if figure["images"]],
        settings=yaml.safe_dump(settings["config"], sort_keys=False, allow_unicode=True, width=100),
        times=files.read_json(times, "times of jobs")["jobs"] if times else [],
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions=_versions(),
        embeddings=[_embeddings(manifest, names) for manifest in manifests],
        sources=_sources(manifests),
    )
    files.write_text(out, page)
    files.write_sums(Path(out).with_name("index.sums.json"), [Path(out)])


def _table(number: int, results: Path, theirs: pd.DataFrame, names: Names) -> dict[str, Any]:
    spec = tables.TABLES[number]
    table = tables.read(results / f"tables/table{number}.csv")
    effects = tables.effects(number, table, theirs, names)
    return {
        "title": f"Table {number}: {spec.title}",
        "notes": spec.notes,
        "effects_notes": tables.effects_notes(number, effects),
        "effects": effects.to_dict("split"),
        "rows": tables.as_text(number, table, names).to_dict("split"),
    }


def _controls(results: Path, names: Names) -> dict[str, Any] | None:
    text, empty = {"dataset": str, "control": str}, {"low": [""], "high": [""]}
    table = pd.read_csv(results / "tables/controls.csv", keep_default_na=False, na_values=empty, dtype=text)
    return {"rows": controls.as_text(table, names).to_dict("split"), "notes": controls.NOTES} if len(table) else None


def _figure(name: str, results: Path) -> dict[str, Any]:
    png = base64.b64encode((results / f"figures/{name}.png").read_bytes()).decode()
    about = registry.head("figure", name).constants
    images = any(table.startswith("gallery/") for table in about["READS"])
    return {"title": _title(name), "caption": about["CAPTION"], "png": png, "images": images}


def _title(name: str) -> str:
    words = re.sub(r"^fig(\d+)_?", r"fig. \1, ", name).replace("_", " ")
    return words.removesuffix(", ").capitalize()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # The library does without a workflow engine.
            continue
    return found


def _embeddings(manifest: dict[str, Any], names: Names) -> dict[str, str]:
    return {
        "dataset": names.dataset(manifest["dataset"]["name"]),
        "backbone": names.backbone(manifest["backbone"]["name"]),
        "shape": " x ".join(map(str, manifest["shape"])),
        "sha256": manifest["sha256"]["embeddings.npy"],
        "fingerprints": f"{manifest['dataset']['fingerprint']}, {manifest['backbone']['fingerprint']}",
    }


def _sources(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {source["name"]: source for manifest in manifests for source in manifest["artifacts"]}
    return sorted(found.values(), key=lambda source: source["name"])
