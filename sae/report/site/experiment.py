"""The site of an experiment, from its scores, tables, figures, claims and SAEs."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sae.bank.read import read as read_bank
from sae.comparison import board as boards
from sae.comparison import claims as verdicts_of
from sae.comparison import fronts
from sae.comparison.scores import across_groups
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import concepts as annotations
from sae.data import dataset as datasets
from sae.data import store
from sae.data.concepts import MANIFEST
from sae.data.store import Activations
from sae.report import gallery
from sae.report.names import Names, printed
from sae.report.site import build, cells, downloads, images, overview, pack, start
from sae.report.site import latents as latents_of
from sae.report.site.build import Shown
from sae.report.site.concepts import ShownConcepts, choose_shown, read_index
from sae.scoring.metrics import concepts as concepts_metric
from sae.scoring.rows import CELL


class SiteSettings(Names):
    """How things are printed, and what the site says of the experiment itself.

    Attributes:
        experiment: Its name.
        figures: Its figures, by name.
        config: What it uses of the config.
    """

    experiment: str
    figures: list[str]
    config: dict[str, Any]


def write(
    results: Path,
    activations_root: Path,
    datasets_root: Path,
    artifacts_root: Path,
    settings: SiteSettings,
    out: Path,
    *,
    times: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write the site of an experiment into the folder `out`, which is replaced as a whole.

    Args:
        results: folder of the experiment's scores, tables, figures, claims and SAEs.
        activations_root: folder with a folder for each dataset, and in it for each backbone, of embeddings.
        datasets_root, artifacts_root: folders of the datasets' indices, and of fetched artifacts.
        settings: :class:`SiteSettings`.
        out: the folder to write.
        times: JSON of what the jobs took: `jobs`, rows of step, jobs, minutes, longest, memory.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or was altered, or backbones saw other test images.
    """
    downloads.check(results, settings.figures)
    made = _Experiment(results, activations_root, datasets_root, settings, device)
    with build.folder(out) as site:
        for number, place in enumerate(made.places):
            made.add(site, number, place)
        for number, dataset in enumerate(made.tests):
            made.add_images(site, number, dataset, datasets_root, artifacts_root)
        rows = files.read_json(times, "times of jobs")["jobs"] if times else []
        about = made.about(rows) | {
            "downloads": downloads.write(site, results, settings.figures)
        }
        build.shell(site, about)


class _Experiment:
    """What an experiment's site says, gathered cell by cell.

    Attributes:
        places: its cells, (dataset, backbone, k) each.
        tests: {dataset: the index of its test images}.
    """

    def __init__(
        self,
        results: Path,
        activations: Path,
        datasets_root: Path,
        names: SiteSettings,
        device: str,
    ) -> None:
        self.results, self.activations, self.names, self.device = (
            results,
            activations,
            names,
            device,
        )
        self.datasets_root = datasets_root
        self.metrics = across_groups(files.read_parquet(results / "metrics.parquet"))
        self.selection = files.read_parquet(results / "selection.parquet")
        curves, latents = (
            files.read_parquet(results / f"{name}.parquet")
            for name in ("curves", "latents")
        )
        self.curves = curves[curves["split"] == "test"]
        self.latents = across_groups(latents[latents["split"] == "test"])
        columns = boards.read(results).made_by.columns
        numeric = set(self.metrics.select_dtypes("number"))
        of_own = overview.own_metrics(columns).items()
        self.own = {name: what for name, what in of_own if name in numeric}
        self.own_latents = overview.own_latent_scores(self.latents, self.own)
        self.places = list(
            self.metrics[CELL].drop_duplicates().itertuples(index=False, name=None)
        )
        self.numbers = overview.Numbers(self.places, names.order(names.methods))
        self.tests: dict[str, pd.DataFrame] = {}
        self.concepts: dict[str, ShownConcepts | None] = {}
        self._annotation_sources: list[dict[str, Any]] = []
        self._tops: dict[str, list[np.ndarray]] = {}
        self._cells, self._saes = list[dict[str, Any]](), list[dict[str, Any]]()
        self._found, self._left_out, self._judged = (
            list[start.Found](),
            list[str](),
            set[tuple[Any, ...]](),
        )

    def add(self, site: Path, number: int, place: tuple[Any, ...]) -> None:
        """Write the files of a cell."""
        dataset, backbone, k = place
        names, bank = (
            self.names,
            read_bank(self.results / f"saes/{dataset}/{backbone}/k{k}/bank.json"),
        )
        tables = (self.selection, self.curves, self.latents, self.metrics)
        selection, curves, latents, metrics = (
            rows[(rows[CELL] == list(place)).all(axis=1)] for rows in tables
        )
        chosen = cells.shown(bank, names, selection)
        unchosen = cells.best_reconstructing(bank, names, metrics, chosen)
        of_methods = {m: (chosen | unchosen)[m] for m in names.order(chosen | unchosen)}
        self._judged |= {
            (*place, entry.method, entry.name, entry.seed)
            for entry in bank.saes
            if entry.judged
        }
        pack.put(
            site,
            f"cells/{number}",
            cells.payload(bank, of_methods, names, curves, latents),
        )
        test = store.read(self.activations / dataset / backbone / "test")
        if not self.tests.setdefault(dataset, test.index)["image_id"].equals(
            test.index["image_id"]
        ):
            raise UserError(
                f"{self.activations / dataset}: backbones saw other test images; embed them again"
            )
        if dataset not in self.concepts:
            self.concepts[dataset] = self._read_concepts(dataset, backbone, test)
        concepts = self.concepts[dataset]
        shown = []
        for method, entry in of_methods.items():
            sae = self.numbers.saes[(*place, method, entry.name, entry.seed)] = len(
                self._saes
            )
            if method not in names.controls:  # These have no file.
                table = (
                    cells.of(latents, entry)
                    .sort_values("latent")
                    .reset_index(drop=True)
                )
                coder = bank.open(entry).to(self.device)
                if table.empty and method in unchosen:
                    table = latents_of.without_scores(
                        latents_of.encode(coder, test.embeddings)
                    )
                siblings = [
                    bank.open(other).to(self.device)
                    for other in bank.siblings(entry)
                    if other.judged
                ]
                shown.append(Shown(sae, method, coder, table, siblings))
            row = cells.of(metrics[metrics["split"] == "test"], entry)
            scores = {
                name: values.iloc[0]
                for name, values in overview.scores_of(row, self.own).items()
            }
            about = {
                "cell": number,
                "method": self.numbers.methods[method],
                "trial": entry.name,
                "seed": entry.seed,
                "chosen": method not in unchosen,
            }
            self._saes.append(
                about | {"alive": (row["m"] - row["dead"]).iloc[0], "scores": scores}
            )
        own = [score["id"] for score in self.own_latents]
        tops, found = build.add_cell(
            site, place, shown, test, names.baselines, own, number, concepts
        )
        self._tops[dataset] = self._tops.get(dataset, []) + tops
        self._found += [sae for sae in found if sae.method not in unchosen]
        lost = [
            method
            for method in names.tuned
            if method not in chosen and (metrics["method"] == method).any()
        ]
        if lost:
            where = f"{names.dataset(dataset)}, {names.backbone(backbone)}, k = {k}"
            self._left_out.append(
                f"{where}: no trial was acceptable of {', '.join(map(names.method, lost))}."
            )
        of_baseline = metrics[
            metrics["method"].isin(names.baselines[:1] or [*metrics["method"]])
        ]
        floor = metrics["ms_floor"].dropna().tolist() if "ms_floor" in metrics else []
        cell = dict(zip(CELL, place, strict=True)) | {
            "m": of_baseline["m"].iloc[0],
            "d": test.embeddings.shape[1],
        }
        cell |= {
            "images": list(self.tests).index(dataset),
            "saes": [one.number for one in shown],
            "concepts": concepts is not None,
        }
        self._cells.append(cell | {"chance": {"ms": floor[0] if floor else None}})

    def _read_concepts(
        self, dataset: str, backbone: str, test: Activations
    ) -> ShownConcepts | None:
        """Read the concepts of a dataset; None where the metric counted none there."""
        metrics = self.metrics
        if "concepts_count" not in metrics:
            return None
        is_here = (metrics["dataset"] == dataset) & (metrics["split"] == "test")
        if not (metrics.loc[is_here, "concepts_count"] > 0).any():
            return None
        folder = self.datasets_root / dataset
        manifest = files.read_json(folder / MANIFEST, "manifest of concepts")
        self._annotation_sources += manifest["artifacts"]
        return choose_shown(
            annotations.load_annotations(folder),
            read_index(self.activations / dataset / backbone / "train"),
            test,
            concepts_metric.Options(**self.names.config["metrics"]["concepts"]),
            gallery.credit(manifest["artifacts"]),
        )

    def add_images(
        self, site: Path, number: int, dataset: str, root: Path, artifacts: Path
    ) -> None:
        """Write the test images of a dataset; what is left out of them is noted."""
        manifest = files.read_json(
            root / dataset / "manifest.json", "manifest of dataset"
        )
        pictured = registry.head("dataset", manifest["spec"]["type"]).constants.get(
            "HAS_IMAGES", True
        )
        open_image = datasets.reader(manifest["spec"], artifacts) if pictured else None
        given = (
            self.tests[dataset],
            gallery.credit(manifest["artifacts"]),
            open_image,
            self._tops[dataset],
        )
        concepts = self.concepts[dataset]
        lost = images.write(site, number, dataset, *given, concepts)
        label = self.names.dataset(dataset)
        broken = "are broken and not in the dataset"
        self._left_out += images_left_out(label, broken, manifest["broken"])
        self._left_out += images_left_out(label, "have no thumbnail", lost)

    def about(self, times: list[dict[str, Any]]) -> dict[str, Any]:
        """The overview, but for `downloads`."""
        names, numbers, rule = (
            self.names,
            self.numbers,
            boards.read(self.results).made_by.fronts,
        )
        tables = self.results / "tables"
        means = pd.read_csv(tables / "front_means.csv")
        of_cells = pd.read_csv(tables / "fronts.csv")
        controls = pd.read_csv(tables / "front_controls.csv")
        imported = pd.read_csv(tables / "front_imported.csv")
        verdicts = verdicts_of.read(self.results / "claims.csv")
        points = fronts.validation_trials(fronts.of_protocol(self.metrics, rule), rule)
        found = overview.empty() | overview.board(means, of_cells, controls, numbers)
        found |= overview.of_fronts(points, names, rule, numbers)
        found |= {
            "experiment": names.experiment,
            "answer": overview.answer(means, controls, imported, verdicts, names),
        }
        found |= {
            "description": printed(names.config["experiment"].get("description", ""))
        }
        found |= {
            "datasets": [
                {"id": name, "label": names.dataset(name)} for name in self.tests
            ]
        }
        backbones = dict.fromkeys(backbone for _, backbone, _ in self.places)
        found |= {
            "backbones": [
                {"id": name, "label": names.backbone(name)} for name in backbones
            ]
        }
        found |= {
            "methods": overview.methods(names),
            "cells": self._cells,
            "saes": self._saes,
        }
        found |= {
            "trials": overview.trials(
                self.metrics, points, self._judged, numbers, self.own
            ),
            "scores": overview.scores(self.own),
            "latent_scores": self.own_latents,
        }
        found |= {
            "claims": overview.claims(verdicts),
            "glossary": overview.of_paper(names) | found["glossary"],
        }
        found |= {
            "start": start.views(self._found, names, found["effects"], self.places)
        }
        return found | {"provenance": self._provenance(times)}

    def _provenance(self, times: list[dict[str, Any]]) -> dict[str, Any]:
        folders = [
            self.activations / dataset / backbone
            for dataset in self.tests
            for backbone in self.names.backbones
        ]
        manifests = [
            files.read_json(place / "train/manifest.json", "manifest of activations")
            for place in folders
        ]
        sources = {
            source["name"]: source
            for manifest in manifests
            for source in manifest["artifacts"]
        }
        sources.update((source["name"], source) for source in self._annotation_sources)
        fields = ("name", "version", "citation", "licence", "homepage")
        return {
            "config": yaml.safe_dump(
                self.names.config, sort_keys=False, allow_unicode=True, width=100
            ),
            "versions": build.versions(),
            "embeddings": [_embeddings(manifest, self.names) for manifest in manifests],
            "sources": [
                {name: sources[of][name] for name in fields} for of in sorted(sources)
            ],
            "times": times,
            "machine": build.machine(),
            "rebuild": f"make run EXPERIMENT={self.names.experiment}",
            "left_out": self._left_out,
        }


def images_left_out(label: str, why: str, image_ids: Collection[str]) -> list[str]:
    """Return a sentence about images that are left out, with the first ten; or none.

    Args:
        label: Of the dataset.
        why: What is the matter with them, such as "have no thumbnail".
        image_ids: Which; of a mapping its keys.
    """
    if not image_ids:
        return []
    first = ", ".join(printed(image_id) for image_id in list(image_ids)[:10])
    more = ", ..." if len(image_ids) > 10 else ""
    return [f"{label}: {len(image_ids)} images {why}: {first}{more}."]


def _embeddings(manifest: dict[str, Any], names: Names) -> dict[str, str]:
    return {
        "dataset": names.dataset(manifest["dataset"]["name"]),
        "backbone": names.backbone(manifest["backbone"]["name"]),
        "shape": " x ".join(map(str, manifest["shape"])),
        "sha256": manifest["sha256"]["embeddings.npy"],
        "fingerprints": f"{manifest['dataset']['fingerprint']}, {manifest['backbone']['fingerprint']}",
        "precision": manifest.get("precision", "float32"),
    }
