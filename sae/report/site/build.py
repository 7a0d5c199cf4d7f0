"""What every site has: the folder, the shell, and the files of a cell's SAEs."""

import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from sae.core import files
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.report.site import heatmaps, images, latents, pack, start, trials
from sae.report.site.concepts import ShownConcepts, is_matched, stands_for_payload
from sae.report.site.overview import Overview
from sae.scoring.heatmaps import kind_of

HERE = Path(__file__).parent
PAGE = "index.html"
# What every site has, and folders of which each has some files.
NAMES = (PAGE, "data/overview.js", "data/cells/0.js", "assets/style.css")
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "scikit-learn",
    "numpy",
    "pandas",
    "snakemake",
)


@dataclass
class ShownSae:
    """An SAE that gets a file.

    Attributes:
        number: Its place in the site's list of SAEs.
        method: Its method.
        coder: The SAE.
        table: m rows by latent (`sae.report.site.latents.payload`).
        siblings: SAEs that differ from it in their seed alone.
        is_chosen: Whether a protocol chose it; else it is shown, and not judged.
        maps: Its heatmaps (`sae.scoring.heatmaps.Maps`), where there are any.
    """

    number: int
    method: str
    coder: Coder
    table: pd.DataFrame
    siblings: list[Coder] = field(default_factory=list)
    is_chosen: bool = True
    maps: pd.DataFrame | None = None

    def kind_of_maps(self, facts: dict[str, Any] | None) -> str | None:
        """Return whether its heatmaps are exact or approximate; None without any.

        Args:
            facts: Those of the cell's grid (`sae.scoring.heatmaps.Grid`).
        """
        if facts is None or self.maps is None or self.maps.empty:
            return None
        return kind_of(self.coder, facts["exact"])


@dataclass
class AddedCell:
    """The images and SAEs of a cell, as later files of the site need them.

    Attributes:
        latents: The latents of each SAE that a protocol chose, as the rules of `start`
            read them.
        highest_images: (m, 10) of each SAE, the images on which each latent fires most.
        judge: The hash of the cell's blind trials; None where there are none.
        judged_methods: Ids of the methods whose latents they ask about.
        trial_images: Rows of images that these trials show.
    """

    latents: list[pd.DataFrame] = field(default_factory=list)
    highest_images: list[np.ndarray] = field(default_factory=list)
    judge: str | None = None
    judged_methods: list[str] = field(default_factory=list)
    trial_images: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Yield a new folder, which becomes `out` as a whole, with the hashes of its files.

    What was at `out` goes: it is the workflow's own.
    """
    with files.atomic_directory(out, replace=True) as temporary:
        yield temporary
        site_files = sorted(path for path in temporary.rglob("*") if path.is_file())
        files.write_sums(temporary / "index.sums.json", site_files)


def shell(site: Path, overview: Overview) -> None:
    """Write `index.html`, the assets that it loads, and `data/overview.js`."""
    assets = site / "assets"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.md")
    shutil.copytree(HERE / "assets", assets, ignore=ignored)

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    source = (HERE / "index.html").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        experiment=overview.experiment,
        description=overview.description,
        answer=overview.answer,
        styles=sorted(path.name for path in assets.glob("*.css")),
        scripts=sorted(path.name for path in assets.glob("*.js")),
        files=sorted(path.name for path in (site / "files").glob("*")),
    )
    (site / PAGE).write_text(page, encoding="utf-8")
    pack.put(site, "overview", vars(overview))


def add_cell(
    site: Path,
    cell: tuple[Any, ...],
    saes: Sequence[ShownSae],
    test: Activations,
    baselines: Sequence[str],
    extension_columns: Sequence[str] = (),
    number: int = 0,
    concepts: ShownConcepts | None = None,
    controls: Sequence[ShownSae] = (),
) -> AddedCell:
    """Write the files of a cell's SAEs.

    Args:
        site: The folder of the site.
        cell: (dataset, backbone, k).
        saes: Those that get a file.
        test: The test images' embeddings.
        baselines: The methods that others are compared with; the first one counts.
        extension_columns: Columns of latents that metrics in a user's folder gave.
        number: The place of the cell in the site's list.
        concepts: Those of the test images, where the dataset has any.
        controls: SAEs without a file, whose latents are judged beside the others'.
    """
    classes, labels = images.classes(test.index)
    groups = test.index["group"].to_numpy() if test.grouped else None
    added = AddedCell()
    baseline: ShownSae | None = None
    baseline_rows = pd.DataFrame()
    concepts_by_sae: list[dict[str, Any]] = []
    ranked_codes: dict[str, latents.RankedCodes] = {}
    for sae in saes:
        cell_coders = {shown.number: shown.coder for shown in saes if shown is not sae}
        codes = latents.encode(sae.coder, test.embeddings)
        payload, ranked_codes[sae.method] = latents.payload(
            sae.coder,
            codes,
            sae.table,
            classes,
            labels,
            groups,
            cell_coders,
            sae.siblings,
            extension_columns,
        )
        pack.put(site, f"saes/{sae.number}", payload)
        heatmaps.put(site, sae.number, sae.maps, sae.coder.m, len(test.index))
        if concepts is not None and is_matched(sae.table):
            stands_for = stands_for_payload(sae.table, codes, concepts)
            concepts_by_sae.append({"sae": sae.number, **stands_for})

        highest_images = ranked_codes[sae.method].highest_images()
        added.highest_images.append(highest_images)
        table = sae.table.reset_index(drop=True)
        if "name_threshold" in table:
            thresholds = table["name_threshold"].to_numpy(float)
            named_images = ranked_codes[sae.method].count_reaching(thresholds)
            table = table.assign(named_images=named_images)
        rows = start.latent_rows(number, sae.method, table, highest_images)
        if baseline is not None:
            matches, cosines = latents.nearest(sae.coder, baseline.coder, 1)
            rows = start.beside_baseline(
                rows, baseline_rows, matches[:, 0], cosines[:, 0]
            )
        elif sae.method in baselines[:1]:
            baseline = sae
            baseline_rows = rows
        if sae.is_chosen:
            added.latents.append(rows)
    if concepts is not None:
        pack.put(site, f"concepts/{number}", {"saes": concepts_by_sae})
    for control in controls:
        codes = latents.encode(control.coder, test.embeddings)
        ranked_codes[control.method] = latents.rank_codes(codes)
    control_methods = [control.method for control in controls]
    tables = {sae.method: sae.table for sae in [*saes, *controls] if sae.is_chosen}
    if tables:
        methods = trials.choose_methods(list(tables), baselines, control_methods)
        codes_by_method = {method: ranked_codes[method] for method in methods}
        image_groups = np.arange(len(test.index))
        if test.grouped:
            image_groups = pd.factorize(test.index["group"])[0]
        trial_payload, trial_images = trials.draw_trials(
            cell, codes_by_method, tables, control_methods, image_groups
        )
        # Their latents may fire too seldom.
        if trial_payload is not None:
            pack.put(site, f"judge/{number}", trial_payload)
            added.judge = trial_payload["hash"]
            added.judged_methods = methods
            added.trial_images = trial_images
    return added


def machine() -> str:
    """Return what this runs on, in words."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Return {package: version} of those that matter and are there."""
    version_by_package = {}
    for package in PACKAGES:
        # The library does without a workflow engine.
        with suppress(PackageNotFoundError):
            version_by_package[package] = version(package)
    return version_by_package
