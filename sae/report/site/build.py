"""What every site has: the folder, the shell, the files of a cell's SAEs, and what it was made with."""

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
from sae.report.site import images, latents, pack
from sae.report.site.concepts import ShownConcepts, is_scored, stands_for_payload
from sae.report.site.start import Found

HERE = Path(__file__).parent
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
class Shown:
    """An SAE that gets a file.

    Attributes:
        table: m rows by latent (`sae.report.site.latents.payload`).
        siblings: SAEs that differ from it in their seed alone.
    """

    number: int
    method: str
    coder: Coder
    table: pd.DataFrame
    siblings: list[Coder] = field(default_factory=list)


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Yield a new folder, which becomes `out` as a whole, with the hashes of its files; what was there goes."""
    with files.atomic_directory(out, replace=True) as temporary:
        (temporary / "data/images").mkdir(parents=True)
        yield temporary
        made = sorted(path for path in temporary.rglob("*") if path.is_file())
        files.write_sums(temporary / "index.sums.json", made)


def shell(site: Path, about: dict[str, Any]) -> None:
    """Write `index.html`, the assets that it loads, and `data/overview.js`."""
    shutil.copytree(
        HERE / "assets",
        site / "assets",
        ignore=shutil.ignore_patterns("__pycache__", ".*"),
    )
    names = {
        suffix: sorted(p.name for p in (site / "assets").glob(f"*.{suffix}"))
        for suffix in ("css", "js")
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(
        (HERE / "index.html").read_text(encoding="utf-8")
    )
    shown = {name: about[name] for name in ("experiment", "description", "answer")}
    page = template.render(
        **shown,
        styles=names["css"],
        scripts=names["js"],
        files=(site / "files").exists(),
    )
    (site / "index.html").write_text(page, encoding="utf-8")
    pack.put(site, "overview", about)


def add_cell(
    site: Path,
    place: tuple[Any, ...],
    saes: Sequence[Shown],
    test: Activations,
    baselines: Sequence[str],
    own: Sequence[str] = (),
    number: int = 0,
    concepts: ShownConcepts | None = None,
) -> tuple[list[np.ndarray], list[Found]]:
    """Write the files of a cell's SAEs.

    Args:
        site: The folder of the site.
        place: The cell: dataset, backbone, k.
        saes: Those that get a file.
        test: The test images' embeddings.
        baselines: The methods that others are compared with.
        own: Columns of latents that metrics of one's own gave.
        number: The place of the cell in the site's list.
        concepts: Those of the test images, where the dataset has any.

    Returns:
        The highest images of each SAE, and what `start` reads of them.
    """
    classes, labels = images.classes(test.index)
    groups = test.index["group"].to_numpy() if test.grouped else None
    tops, found, base = list[np.ndarray](), list[Found](), None
    concepts_by_sae: list[dict[str, Any]] = []
    for sae in saes:
        others = {other.number: other.coder for other in saes if other is not sae}
        codes = latents.encode(sae.coder, test.embeddings)
        made, top = latents.payload(
            sae.coder,
            codes,
            sae.table,
            classes,
            labels,
            groups,
            others,
            sae.siblings,
            own,
            concepts,
        )
        pack.put(site, f"saes/{sae.number}", made)
        if concepts is not None and is_scored(sae.table):
            of_sae = stands_for_payload(sae.table, codes, concepts)
            concepts_by_sae.append({"sae": sae.number, **of_sae})
        pair = None
        if base:
            latent, cosine = latents.nearest(sae.coder, base[1].coder, 1)
            pair = base[0], latent[:, 0], cosine[:, 0]
        found.append(Found(place, sae.method, sae.table.reset_index(drop=True), pair))
        base = base or ((found[-1], sae) if sae.method in baselines[:1] else None)
        tops.append(top)
    if concepts is not None:
        pack.put(site, f"concepts/{number}", {"saes": concepts_by_sae})
    return tops, found


def machine() -> str:
    """What this runs on, in words."""
    return (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def versions() -> dict[str, str]:
    """{package: version} of those that matter and are there."""
    found = {}
    for package in PACKAGES:
        with suppress(
            PackageNotFoundError
        ):  # The library does without a workflow engine.
            found[package] = version(package)
    return found
