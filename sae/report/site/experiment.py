"""The site of an experiment, from its scores, tables, figures, claims and SAEs."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.bank.sae import Sae
from sae.comparison import leaderboard as leaderboards
from sae.comparison.scores import across_groups
from sae.comparison.verdicts import read_table
from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import concepts as annotations
from sae.data import dataset as datasets
from sae.data import store
from sae.data.concepts import MANIFEST
from sae.data.store import Activations
from sae.report import comparison, gallery
from sae.report.names import Names, printed
from sae.report.site import build, cells, downloads, images, overview, pack, start
from sae.report.site import latents as site_latents
from sae.report.site.answer import answer
from sae.report.site.build import ShownSae
from sae.report.site.concepts import ShownConcepts, choose_shown, read_index
from sae.report.site.glossary import GLOSSARY, paper_methods
from sae.report.site.overview import Overview
from sae.scoring.choice import DETECTION
from sae.scoring.metrics import concepts as concepts_metric
from sae.scoring.rows import CELL, KEY, read_metrics

Cell = tuple[Any, ...]  # dataset, backbone, k


class SiteSettings(Names):
    """The labels of things, and what the site says of the experiment itself.

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
    """Write the site of an experiment into a folder, which is replaced as a whole.

    Args:
        results: Folder of the experiment's scores, tables, figures, claims and SAEs.
        activations_root: Folder with a folder for each dataset, and in it for each
            backbone, of embeddings.
        datasets_root: Folder of the datasets' indices.
        artifacts_root: Folder of fetched artifacts.
        settings: How things are printed, and what the site says of the experiment.
        out: The folder to write.
        times: JSON of the jobs: what they took, `jobs`, rows of step, jobs, minutes,
            longest, memory; and what they warned of, `warnings`, sentences.
        device: Of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or was altered, or backbones saw other test images.
    """
    downloads.check(results, settings.figures)
    jobs = {}
    if times is not None:
        jobs = files.read_json(times, "times of jobs")
    experiment = _Experiment(results, activations_root, datasets_root, settings, device)
    with build.folder(out) as site:
        for number, cell in enumerate(experiment.cells):
            experiment.add_cell(site, number, cell)
        for number, dataset in enumerate(experiment.tests):
            experiment.add_images(site, number, dataset, artifacts_root)
        contents = experiment.overview(jobs)
        contents.downloads = downloads.write(site, results, settings.figures)
        build.shell(site, contents)


@dataclass(frozen=True)
class _CellTables:
    """The rows of the parquet files of these names; MS is across groups."""

    selection: pd.DataFrame
    curves: pd.DataFrame
    latents: pd.DataFrame
    metrics: pd.DataFrame


class _Experiment:
    """The contents of an experiment's site, gathered cell by cell."""

    def __init__(
        self,
        results: Path,
        activations: Path,
        datasets_root: Path,
        names: SiteSettings,
        device: str,
    ) -> None:
        self.results = results
        self.activations = activations
        self.datasets_root = datasets_root
        self.names = names
        self.device = device

        metrics = across_groups(read_metrics(results / "metrics.parquet"))
        curves = files.read_parquet(results / "curves.parquet")
        latents = files.read_parquet(results / "latents.parquet")
        self.tables = _CellTables(
            selection=files.read_parquet(results / "selection.parquet"),
            curves=curves[curves["split"] == "test"],
            latents=across_groups(latents[latents["split"] == "test"]),
            metrics=metrics,
        )

        self.made_by = leaderboards.read(results).made_by
        metric_by_column = self.made_by.columns
        numeric_columns = set(metrics.select_dtypes("number"))
        sentences = overview.extension_metrics(metric_by_column)
        self.extension_metrics = {
            column: sentence
            for column, sentence in sentences.items()
            if column in numeric_columns
        }
        self.extension_latent_scores = overview.extension_latent_scores(
            self.tables.latents, self.extension_metrics
        )

        cells_of_rows = metrics[CELL].drop_duplicates()
        self.cells: list[Cell] = list(cells_of_rows.itertuples(index=False, name=None))
        self.places = overview.Places(self.cells, names.order(names.methods))
        # {dataset: the index of its test images}
        self.tests: dict[str, pd.DataFrame] = {}
        # None where the metric counted none.
        self.concepts: dict[str, ShownConcepts | None] = {}

        # What each cell adds.
        self._annotation_sources: list[dict[str, Any]] = []
        self._highest_images: dict[str, list[np.ndarray]] = {}
        self._trial_images: dict[str, list[np.ndarray]] = {}
        self._cell_rows: list[dict[str, Any]] = []
        self._sae_rows: list[dict[str, Any]] = []
        self._latents: list[pd.DataFrame] = []
        self._sentences_left_out: list[str] = []
        self._chosen_counts: list[int] = []

    # -- a cell

    def add_cell(self, site: Path, number: int, cell: Cell) -> None:
        """Write the files of a cell.

        Args:
            site: The folder of the site.
            number: The place of the cell in the site's list.
            cell: (dataset, backbone, k).
        """
        dataset, backbone, k = cell
        names = self.names
        bank = read_bank(self.results / f"saes/{dataset}/{backbone}/k{k}/bank.json")
        tables = self._tables_of(cell)
        chosen = cells.chosen_saes(bank, names, tables.selection)
        unchosen = cells.best_reconstructing(bank, names, tables.metrics, chosen)
        saes = {**chosen, **unchosen}
        saes = {method: saes[method] for method in names.order(saes)}
        self._chosen_counts.append(len(set(chosen) & set(names.tuned)))
        cell_payload = cells.cell_payload(
            bank, saes, names, tables.curves, tables.latents
        )
        pack.put(site, f"cells/{number}", cell_payload)

        test = self._read_test(dataset, backbone)
        if dataset not in self.concepts:
            self.concepts[dataset] = self._read_concepts(dataset, backbone, test)
        concepts = self.concepts[dataset]
        shown: list[ShownSae] = []
        controls: list[ShownSae] = []
        for method, entry in saes.items():
            is_chosen = method not in unchosen
            sae_number = self._add_sae_row(number, entry, tables, is_chosen)
            table = cells.rows_of_sae(tables.latents, entry)
            is_control = method in names.controls
            # Controls have no file, but the latents of the first one are judged.
            if is_control and (controls or table.empty):
                continue
            sae = self._shown_sae(sae_number, bank, entry, table, test, is_chosen)
            if is_control:
                controls.append(sae)
            else:
                shown.append(sae)
        heatmaps, facts = self._read_heatmaps(cell)
        for sae in shown:
            sae.maps = cells.rows_of_sae(heatmaps, saes[sae.method])
            self._sae_rows[sae.number]["where"] = sae.kind_of_maps(facts)
        added = build.add_cell(
            site,
            cell,
            shown,
            test,
            names.baselines,
            [score["id"] for score in self.extension_latent_scores],
            number,
            concepts,
            controls,
        )
        self._trial_images.setdefault(dataset, []).append(added.trial_images)
        self._highest_images.setdefault(dataset, []).extend(added.highest_images)
        self._latents += added.latents

        # Of any method where there is no baseline.
        baseline_rows = tables.metrics
        as_well = None
        if names.baselines:
            is_baseline = baseline_rows["method"] == names.baselines[0]
            baseline_rows = baseline_rows[is_baseline]
            as_well = overview.reconstructs_as_well(
                tables.selection, names.baselines[0]
            )
        self._cell_rows.append(
            {
                **dict(zip(CELL, cell, strict=True)),
                "m": baseline_rows["m"].iloc[0],
                "d": test.embeddings.shape[1],
                "images": list(self.tests).index(dataset),
                "saes": [sae.number for sae in shown],
                "as_well": as_well,
                "concepts": concepts is not None,
                "where": facts,
                "judge": added.judge,
                "judged_methods": added.judged_methods,
                "chance": {"ms": _ms_by_chance(tables.metrics)},
            }
        )

    def _tables_of(self, cell: Cell) -> _CellTables:
        def rows_of_cell(rows: pd.DataFrame) -> pd.DataFrame:
            return rows[(rows[CELL] == list(cell)).all(axis=1)]

        return _CellTables(
            selection=rows_of_cell(self.tables.selection),
            curves=rows_of_cell(self.tables.curves),
            latents=rows_of_cell(self.tables.latents),
            metrics=rows_of_cell(self.tables.metrics),
        )

    def _read_test(self, dataset: str, backbone: str) -> Activations:
        test = store.read(self.activations / dataset / backbone / "test")
        first_index = self.tests.setdefault(dataset, test.index)
        if not first_index["image_id"].equals(test.index["image_id"]):
            raise UserError(
                f"{self.activations / dataset}: backbones saw other test images; embed "
                "them again"
            )
        return test

    def _read_heatmaps(self, cell: Cell) -> tuple[pd.DataFrame, dict[str, Any] | None]:
        """Read the heatmaps of a cell, and what they are; without rows if none are."""
        if not self.names.config["experiment"].get("heatmaps"):
            return pd.DataFrame(columns=[*KEY, "latent", "image", "map"]), None
        dataset, backbone, k = cell
        folder = self.results / f"scores/{dataset}/{backbone}/k{k}/heatmaps"
        table = files.read_table(folder / "maps.parquet")
        return table.to_pandas(), json.loads(table.schema.metadata[b"facts"])

    def _add_sae_row(
        self,
        cell_number: int,
        entry: Sae,
        tables: _CellTables,
        is_chosen: bool,
    ) -> int:
        """Add an SAE to the site's list, and return its place there."""
        number = len(self._sae_rows)
        test_metrics = tables.metrics[tables.metrics["split"] == "test"]
        sae_metrics = cells.rows_of_sae(test_metrics, entry)
        alive = sae_metrics["m"] - sae_metrics["dead"]
        scores = overview.score_columns(sae_metrics, self.extension_metrics)
        row = {
            "cell": cell_number,
            "method": self.places.methods[entry.method],
            "trial": entry.name,
            "seed": entry.seed,
            "chosen": is_chosen,
            "alive": alive.iloc[0],
            "m": sae_metrics["m"].iloc[0],
            "scores": {name: column.iloc[0] for name, column in scores.items()},
        }
        self._sae_rows.append(row)
        return number

    def _shown_sae(
        self,
        number: int,
        bank: Bank,
        entry: Sae,
        table: pd.DataFrame,
        test: Activations,
        is_chosen: bool,
    ) -> ShownSae:
        table = table.sort_values("latent").reset_index(drop=True)
        coder = bank.open(entry).to(self.device)
        # What no protocol chose may not be scored latent by latent.
        if table.empty and not is_chosen:
            codes = site_latents.encode(coder, test.embeddings)
            table = pd.DataFrame({"n_active": np.diff(codes.indptr)})
        siblings = [
            bank.open(sibling).to(self.device)
            for sibling in bank.siblings(entry)
            if sibling.chosen
        ]
        return ShownSae(
            number, entry.method, coder, table, siblings, is_chosen=is_chosen
        )

    def _read_concepts(
        self, dataset: str, backbone: str, test: Activations
    ) -> ShownConcepts | None:
        """Read the concepts of a dataset; None where the metric counted none there."""
        metrics = self.tables.metrics
        if "concepts_count" not in metrics:
            return None
        on_test = (metrics["dataset"] == dataset) & (metrics["split"] == "test")
        if not (metrics.loc[on_test, "concepts_count"] > 0).any():
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

    # -- the images of a dataset

    def add_images(
        self, site: Path, number: int, dataset: str, artifacts: Path
    ) -> None:
        """Write the test images of a dataset; what is left out of them is noted.

        Args:
            site: The folder of the site.
            number: The place of the dataset in the site's list.
            dataset: Its name.
            artifacts: The folder of fetched artifacts.
        """
        manifest_file = self.datasets_root / dataset / "manifest.json"
        manifest = files.read_json(manifest_file, "manifest of dataset")
        head = registry.head("dataset", manifest["spec"]["type"])
        open_image = None
        if head.constants.get("HAS_IMAGES", True):
            open_image = datasets.reader(manifest["spec"], artifacts)
        else:
            # Without pictures nobody can judge.
            for row in self._cell_rows:
                if row["images"] == number:
                    row["judge"] = None
        unreadable = images.write(
            site,
            number,
            dataset,
            self.tests[dataset],
            gallery.credit(manifest["artifacts"]),
            open_image,
            self._highest_images[dataset],
            np.concatenate(self._trial_images[dataset]),
            self.concepts[dataset],
        )
        label = self.names.dataset(dataset)
        self._sentences_left_out += images_left_out(
            label, "are broken and not in the dataset", manifest["broken"]
        )
        self._sentences_left_out += images_left_out(
            label, "have no thumbnail", unreadable
        )

    # -- the first view

    def overview(self, jobs: Mapping[str, Any]) -> Overview:
        """Return the overview, but for `downloads`.

        Args:
            jobs: What the jobs took, and what they warned of.
        """
        names = self.names
        metrics = self.tables.metrics
        tables = self.results / "tables"
        means = read_table(tables / "comparison.parquet")
        by_cell = read_table(tables / "comparison_cells.parquet")
        imported = read_table(tables / "comparison_imported.parquet")
        claims = files.read_parquet(self.results / "claims.parquet")

        which = []
        measured = comparison.measured(means)
        if measured:
            which.append(comparison.which_saes(means))
        if measured and DETECTION not in measured:
            which.append(comparison.NO_DETECTION)
        tuned = self.made_by.protocols.get("tuned")
        start_views = start.views(self._latents, names, by_cell, self.cells)
        description = names.config["experiment"].get("description", "")
        backbones = dict.fromkeys(backbone for _, backbone, _ in self.cells)
        return Overview(
            experiment=names.experiment,
            description=printed(description),
            answer=answer(
                means, by_cell, imported, claims, names, self.made_by.intervals
            ),
            datasets=[
                {"id": name, "label": names.dataset(name)} for name in self.tests
            ],
            backbones=[
                {"id": name, "label": names.backbone(name)} for name in backbones
            ],
            methods=overview.methods(names),
            cells=self._cell_rows,
            saes=self._sae_rows,
            first_cell=start.first_cell(
                self._chosen_counts, by_cell, names, self.cells
            ),
            which=[sentence.replace("R2", "R²") for sentence in which],
            comparison=overview.comparison_rows(means, self.places),
            by_cell=overview.rows_by_cell(by_cell, self.places),
            claims=overview.claim_rows(claims),
            start=[dataclasses.asdict(view) for view in start_views],
            latent_scores=self.extension_latent_scores,
            scores=overview.scores(self.extension_metrics),
            trials=overview.trials(
                metrics,
                self.tables.selection,
                None if tuned is None else tuned["tuning"],
                self.places,
                self.extension_metrics,
            ),
            glossary={**paper_methods(names), **GLOSSARY},
            provenance=self._provenance(jobs),
        )

    def _provenance(self, jobs: Mapping[str, Any]) -> dict[str, Any]:
        manifests = [
            files.read_json(
                self.activations / dataset / backbone / "train/manifest.json",
                "manifest of activations",
            )
            for dataset in self.tests
            for backbone in self.names.backbones
        ]
        embedding_sources = [
            source for manifest in manifests for source in manifest["artifacts"]
        ]
        sources = [*embedding_sources, *self._annotation_sources]
        # Of one name the last one counts.
        source_by_name = {source["name"]: source for source in sources}
        fields = ("name", "version", "citation", "licence", "homepage")
        config = yaml.safe_dump(
            self.names.config, sort_keys=False, allow_unicode=True, width=100
        )
        return {
            "config": config,
            "versions": build.versions(),
            "embeddings": [_embeddings(manifest, self.names) for manifest in manifests],
            "sources": [
                {field: source_by_name[name][field] for field in fields}
                for name in sorted(source_by_name)
            ],
            "times": jobs.get("jobs", []),
            "machine": build.machine(),
            "rebuild": f"make run EXPERIMENT={self.names.experiment}",
            "left_out": self._sentences_left_out,
            "warnings": jobs.get("warnings", []),
        }


def _ms_by_chance(metrics: pd.DataFrame) -> float | None:
    """Return the mean cosine of two test images, where it was measured."""
    if "ms_floor" not in metrics:
        return None
    measured = metrics["ms_floor"].dropna().tolist()
    return measured[0] if measured else None


def images_left_out(label: str, problem: str, image_ids: Collection[str]) -> list[str]:
    """Return a sentence about images that are left out, with the first ten; or none.

    Args:
        label: Of the dataset.
        problem: What is the matter with them, such as "have no thumbnail".
        image_ids: Which; of a mapping its keys.
    """
    if not image_ids:
        return []
    first = ", ".join(printed(image_id) for image_id in list(image_ids)[:10])
    more = ", ..." if len(image_ids) > 10 else ""
    return [f"{label}: {len(image_ids)} images {problem}: {first}{more}."]


def _embeddings(manifest: dict[str, Any], names: Names) -> dict[str, str]:
    dataset = manifest["dataset"]
    backbone = manifest["backbone"]
    return {
        "dataset": names.dataset(dataset["name"]),
        "backbone": names.backbone(backbone["name"]),
        "shape": " x ".join(map(str, manifest["shape"])),
        "sha256": manifest["sha256"]["embeddings.npy"],
        "fingerprints": f"{dataset['fingerprint']}, {backbone['fingerprint']}",
        "precision": manifest.get("precision", "float32"),
    }
