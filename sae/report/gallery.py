"""What Figs. 1 to 3 of arXiv:2606.27321 show.

These are the activations of one image, and the images that activate a latent. Nothing
is picked by hand: latents stand at fixed ranks of MS, and the image of Fig. 1 is the
one with the median error.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float
from PIL import Image

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.bank.sae import Sae
from sae.comparison.published import REG1
from sae.comparison.scores import across_groups
from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import pictures, store
from sae.models.coder import Coder
from sae.report.names import Names

# Ranks shown, as shares of the latents ordered by MS from the highest.
RANKS = (0.0, 0.1, 0.25, 0.5)
# A latent must fire on so many images, so that its top, middle and bottom ones differ.
ENOUGH = 30
IMAGES = 10
SIDE = 64  # pixels of a thumbnail
BATCH = 4096  # images that are reconstructed at once
_LATENT_COLUMNS = ["ms", "n_active", "top_class"]
COLUMNS = [
    "dataset",
    "backbone",
    "k",
    "seed",
    "figure",
    "rank",
    "method",
    "latent",
    *_LATENT_COLUMNS,
    "part",
    "place",
    "image_id",
    "activation",
    "png",
    "left_out",
    "credit",
]


def build(
    bank_file: Path,
    latents_file: Path,
    activations_dir: Path,
    dataset_dir: Path,
    artifacts_root: Path,
    settings: Names,
    out: Path,
    *,
    device: str = "cpu",
) -> None:
    """Write what Figs. 1 to 3 show of one cell, for its bank's first seed.

    images.parquet has the columns `COLUMNS`; `figure` is fig2 (latents at the same rank
    of MS) or fig3 (the same latent index, ranked by the baseline's MS), `part` is top,
    middle or bottom. Its methods are the first baseline, and Reg. 1, or else the first
    other method with a choice.

    sample.parquet has the activations of one test image, of every method with a choice:
    method, rank, activation, kept, image_id, png, and the cell.

    Both have `left_out`, the methods without a choice, with spaces between them; and
    `credit`, whose pictures these are and their licences, which many ask to be said
    wherever they are shown.

    Args:
        bank_file: bank.json of the cell.
        latents_file: The latents of the SAEs that were chosen.
        activations_dir: Folder of the splits of its dataset and backbone.
        dataset_dir: Folder of the dataset's index.
        artifacts_root: Folder of the images themselves.
        settings: Which methods are baselines and controls.
        out: The folder to write into.
        device: Of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: an image cannot be read.
    """
    bank = read_bank(bank_file)
    test = store.read(activations_dir / "test")
    manifest = files.read_json(dataset_dir / "manifest.json", "manifest of dataset")
    pictured = _PicturedImages(
        test.index, datasets.reader(manifest["spec"], artifacts_root)
    )

    entries = _chosen(bank, settings)
    seed = next(iter(entries.values())).seed
    coders = {method: bank.open(entry).to(device) for method, entry in entries.items()}
    cell = {
        "dataset": bank.dataset,
        "backbone": bank.backbone,
        "k": bank.k,
        "seed": seed,
        "left_out": _left_out(bank, entries, settings),
        "credit": credit(manifest["artifacts"]),
    }

    compared = {method: entries[method] for method in _compared_methods(list(coders))}
    tables = _latent_tables(files.read_parquet(latents_file), compared)
    codes = {
        method: coders[method].encode(coders[method].open_inputs(test.embeddings))
        for method in compared
    }
    codes_by_latent = {method: code.matrix().tocsc() for method, code in codes.items()}
    image_rows = list(_image_rows(tables, codes_by_latent, pictured))
    columns = [column for column in COLUMNS if column not in cell]
    images = pd.DataFrame(image_rows, columns=columns).assign(**cell)[COLUMNS]

    first_coder = next(iter(coders.values()))
    row = _median_image(first_coder, test.embeddings)
    samples = [
        _sample(method, coder, test.embeddings[row : row + 1])
        for method, coder in coders.items()
    ]
    sample = pd.concat(samples).assign(
        image_id=pictured.image_id(row), png=pictured.png(row), **cell
    )
    files.write_parquet(out / "images.parquet", images)
    files.write_parquet(out / "sample.parquet", sample)


@dataclass(frozen=True)
class _PicturedImages:
    """The images of a split, by `index`: image_id and path of each."""

    index: pd.DataFrame
    open_image: Callable[[str], Image.Image]

    def image_id(self, row: int) -> Any:
        """Return the name of an image."""
        return self.index["image_id"].iloc[row]

    def png(self, row: int) -> bytes:
        """Return the thumbnail of an image.

        Raises:
            UserError: the image cannot be read.
        """
        path = self.index["path"].iloc[row]
        try:
            image = self.open_image(path)
        except pictures.UNREADABLE as error:
            raise UserError(f"image {path} cannot be read: {error}") from None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()


def credit(sources: list[dict[str, Any]]) -> str:
    """Say whom a dataset's pictures are from, and their licences.

    The text is empty where a dataset has no artifacts.
    """
    return " ".join(
        f"{source['citation']}. Licence: {source['licence']}." for source in sources
    )


# -- which SAEs are shown


def _chosen(bank: Bank, names: Names) -> dict[str, Sae]:
    """Return {method: what protocol `paper` chose}, baselines first, no controls."""
    entries = [
        entry
        for entry in bank.saes
        if entry.chosen
        and entry.protocol == "paper"
        and entry.method not in names.controls
    ]
    by_method = {
        entry.method: entry for entry in entries if entry.seed == entries[0].seed
    }
    in_order = names.order(by_method)
    baselines_first = sorted(in_order, key=lambda name: name not in names.baselines)
    return {method: by_method[method] for method in baselines_first}


def _left_out(bank: Bank, chosen: Iterable[str], names: Names) -> str:
    """Return the methods with trials of which none was chosen."""
    with_trials = {
        entry.method
        for entry in bank.saes
        if entry.protocol == "paper" and names.of(entry.method).at is None
    }
    return " ".join(names.order(with_trials - set(chosen) - set(names.controls)))


def _compared_methods(methods: list[str]) -> list[str]:
    baseline, *regularized = methods
    if REG1 in regularized:
        return [baseline, REG1]
    return [baseline, *regularized[:1]]


# -- Figs. 2 and 3


def _latent_tables(
    latents: pd.DataFrame, entries: Mapping[str, Sae]
) -> dict[str, pd.DataFrame]:
    """Return {method: a row for each latent of its SAE on test}."""
    # Else several drawings of one thing would make a latent look monosemantic.
    key = ["method", "trial", "seed", "split"]
    latents = across_groups(latents).reindex(columns=[*key, "latent", *_LATENT_COLUMNS])
    tables = {}
    for method, entry in entries.items():
        of_sae = latents[key] == [method, entry.name, entry.seed, "test"]
        tables[method] = latents[of_sae.all(axis=1)].set_index("latent")
    return tables


def _image_rows(
    tables: Mapping[str, pd.DataFrame],
    codes: Mapping[str, scipy.sparse.csc_matrix],
    pictured: _PicturedImages,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of images.parquet, without the cell."""
    for figure, rank, latents in _matched_latents(tables):
        for method, latent in latents.items():
            about_latent = {
                "figure": figure,
                "rank": rank,
                "method": method,
                "latent": latent,
                **tables[method].loc[latent, _LATENT_COLUMNS].to_dict(),
            }
            images = _activating_images(codes[method], latent)
            for part, place, row, activation in images:
                yield {
                    **about_latent,
                    "part": part,
                    "place": place,
                    "image_id": pictured.image_id(row),
                    "activation": activation,
                    "png": pictured.png(row),
                }


def _matched_latents(
    tables: Mapping[str, pd.DataFrame],
) -> Iterator[tuple[str, float, dict[str, int]]]:
    """Yield figure, rank by MS as a share, and {method: latent} at that rank."""
    tenth = min(table["n_active"].nlargest(10).min() for table in tables.values())
    enough = max(3, min(ENOUGH, tenth))  # Three: a top, a middle and a bottom one.
    order_by_method = {}
    for method, table in tables.items():
        fires_enough = table[(table["n_active"] >= enough) & table["ms"].notna()]
        by_ms = fires_enough.sort_values("ms", ascending=False)
        order_by_method[method] = list(by_ms.index)

    # The same latents of all methods, in the order of the first.
    first_order, *further_orders = order_by_method.values()
    common_order = [
        latent
        for latent in first_order
        if all(latent in order for order in further_orders)
    ]
    common_orders = dict.fromkeys(order_by_method, common_order)
    for figure, orders in (("fig2", order_by_method), ("fig3", common_orders)):
        if not all(orders.values()):
            continue
        for rank in RANKS:
            latents = {
                method: int(order[int(rank * (len(order) - 1))])
                for method, order in orders.items()
            }
            yield figure, rank, latents


def _activating_images(
    codes: scipy.sparse.csc_matrix, latent: int
) -> Iterator[tuple[str, int, int, float]]:
    """Yield part (top, middle, bottom), place in it, image and activation."""
    column = codes[:, [latent]].tocsc()
    order = np.argsort(-column.data, kind="stable")
    rows = column.indices[order]
    activations = column.data[order]
    count = min(IMAGES, len(rows) // 3)
    starts = {
        "top": 0,
        "middle": (len(rows) - count) // 2,
        "bottom": len(rows) - count,
    }
    for part, start in starts.items():
        for place in range(count):
            row = int(rows[start + place])
            activation = float(activations[start + place])
            yield part, place, row, activation


# -- Fig. 1


@torch.no_grad()
def _median_image(coder: Coder, embeddings: Float[np.ndarray, "images dim"]) -> int:
    """Return the row of the embedding whose reconstruction has the median error."""
    errors = []
    for batch in coder.open_inputs(embeddings).split(BATCH):
        residual = batch - coder.reconstruct(batch, coder.encode(batch))
        errors.append(residual.square().sum(dim=1).cpu())
    order = torch.cat(errors).argsort(stable=True)
    return int(order[len(embeddings) // 2])


def _sample(
    method: str, coder: Coder, embedding: Float[np.ndarray, "one dim"]
) -> pd.DataFrame:
    """Return the activations above 0 of one embedding, largest first."""
    inputs = coder.open_inputs(embedding)
    activations, latents = coder.largest(inputs, coder.m)
    ranks = np.arange(1, coder.m + 1)
    is_kept = np.isin(latents[0].cpu().numpy(), coder.encode(inputs).indices)
    table = pd.DataFrame(
        {
            "method": method,
            "rank": ranks,
            "activation": activations[0].cpu().numpy(),
            "kept": is_kept,
        }
    )
    return table[table["activation"] > 0]
