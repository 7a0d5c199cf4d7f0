"""Write `report/index.html`: claims first, then tables, figures and galleries, settings, times and provenance."""

import base64
import platform
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd
import yaml

from sae.core import files
from sae.report import claims, labels, published, tables
from sae.report.figures import FIGURES

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "numpy", "pandas", "snakemake")
_BADGES = {claims.HOLDS: "yes", claims.IN_PART: "part", claims.NOT: "no", claims.UNTESTED: "untested"}


def write(results, activations, published_folder, settings, out):
    """Write the page to `out`; everything it shows is inside it, it needs no network.

    Args:
        results: folder of the experiment's tables, figures and claims.
        activations: manifests of the train splits of its embeddings.
        published_folder: the paper's tables as CSV.
        settings: {experiment: name, figures: their names, config: what of the config the experiment uses}.
    """
    results = Path(results)
    theirs = published.read(published_folder)
    verdicts = pd.read_csv(results / "claims.csv")
    theirs_alone = verdicts[~verdicts["note"].fillna("").str.startswith("ours")]
    manifests = [files.read_json(file, "manifest of activations") for file in activations]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.render(
        experiment=settings["experiment"],
        description=settings["config"]["experiment"].get("description", ""),
        counts=theirs_alone["verdict"].value_counts().to_dict(),
        claims=claims.as_text(verdicts).to_dict("records"),
        badges=_BADGES,
        tables=[_table(number, results, theirs) for number in tables.TABLES],
        figures=[_figure(name, results) for name in settings["figures"] if not FIGURES[name].needs_images],
        galleries=[_figure(name, results) for name in settings["figures"] if FIGURES[name].needs_images],
        settings=yaml.safe_dump(settings["config"], sort_keys=False, width=100),
        times=_times(results, manifests),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions={package: version(package) for package in PACKAGES},
        embeddings=[_embeddings(manifest) for manifest in manifests],
        sources=_sources(manifests),
    )
    files.write_text(out, page)


def _table(number, results, theirs):
    spec = tables.TABLES[number]
    table = pd.read_csv(results / f"tables/table{number}.csv", dtype={"lambda": str})
    table["mark"] = table["mark"].fillna("")
    return {
        "title": f"Table {number}: {spec.title}",
        "notes": spec.notes,
        "effects_notes": tables.NOTES_EFFECTS[spec.against_baseline],
        "effects": tables.effects(number, table, theirs).to_dict("split"),
        "rows": tables.as_text(number, table).to_dict("split"),
    }


def _figure(name, results):
    png = base64.b64encode((results / f"figures/{name}.png").read_bytes()).decode()
    title = name.replace("fig", "Fig. ").replace("_", ", ").capitalize()
    return {"title": title, "caption": FIGURES[name].caption, "png": png}


def _times(results, manifests):
    """Per kind of job, from Snakemake's benchmark files: jobs, their total time, the most memory of one."""
    cells = [(manifest["dataset"]["name"], manifest["backbone"]["name"]) for manifest in manifests]
    found = {"embed": [results.parent / f"benchmarks/embed/{dataset}/{backbone}.tsv" for dataset, backbone in cells]}
    for folder in sorted((results / "benchmarks").glob("*")):
        found[folder.name] = [f for d, b in cells for f in (*folder.glob(f"{d}/{b}/*.tsv"), folder / f"{d}/{b}.tsv")]
    rows = []
    for step, paths in found.items():
        runs = [pd.read_csv(path, sep="\t", na_values="-") for path in paths if path.is_file()]
        if runs:
            runs = pd.concat(runs)
            times = {"jobs": len(runs), "minutes": f"{runs['s'].sum() / 60:.1f}", "longest": f"{runs['s'].max():.0f} s"}
            rows.append({"step": step} | times | {"memory": f"{runs['max_rss'].max():.0f} MiB"})
    return rows


def _embeddings(manifest):
    return {
        "dataset": labels.name(manifest["dataset"]["name"]),
        "backbone": labels.name(manifest["backbone"]["name"]),
        "shape": " x ".join(map(str, manifest["shape"])),
        "sha256": manifest["sha256"]["embeddings.npy"],
        "fingerprints": f"{manifest['dataset']['fingerprint']}, {manifest['backbone']['fingerprint']}",
    }


def _sources(manifests):
    found = {source["name"]: source for manifest in manifests for source in manifest["artifacts"]}
    return sorted(found.values(), key=lambda source: source["name"])
