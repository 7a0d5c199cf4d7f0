"""What Figs. 1 to 3 of arXiv:2606.27321 show: the activations of one image, and the images that activate a latent.

No picking by hand: latents stand at fixed ranks of MS, and the image of Fig. 1 is the one with the median error.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from sae.bank.read import Bank, BankedSae
from sae.bank.read import read as read_bank
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
# A latent must fire on this many images, so that its top, middle and bottom ones differ.
ENOUGH = 30
IMAGES = 10
SIDE = 64  # pixels of a thumbnail
_SAE, _ABOUT = ["method", "trial", "seed"], ["ms", "n_active", "top_class"]
COLUMNS = [
    "dataset",
    "backbone",
    "k",
    "seed",
    "figure",
    "rank",
    "method",
    "latent",
    *_ABOUT,
]
COLUMNS += ["part", "place", "image_id", "activation", "png", "left_out", "credit"]


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
    """Write two parquet files into the folder `out`, for the bank's first seed.

    Both name their dataset, backbone, k and seed. `images`: figure ('fig2': latents at the same rank of MS, 'fig3': the
    same latent index, ranked by the baseline's MS), rank, method, latent, ms, n_active, top_class, part (top, middle,
    bottom), place, image_id, activation, png. Methods: the first baseline, and Reg. 1, or else the first other method
    with a choice. `sample`: method, rank, activation, kept; and image_id, png of one test image, of every method with a
    choice. Both have `left_out`: the methods without one, with spaces between them; and `credit`: whose pictures these
    are and their licences, which many ask to be said wherever they are shown.

    Args:
        bank_file: bank.json.
        activations_dir: folder of the splits of its dataset and backbone.
        out: the folder to write into.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
        settings: :class:`sae.report.names.Names`.
        latents_file: the latents of the SAEs that were chosen.
        dataset_dir, artifacts_root: the dataset's index, and the images themselves.

    Raises:
        UserError: an image cannot be read.
    """
    bank = read_bank(bank_file)
    test = store.read(activations_dir / "test")
    manifest = files.read_json(dataset_dir / "manifest.json", "manifest of dataset")
    open_image = datasets.reader(manifest["spec"], artifacts_root)

    def png(row: int) -> bytes:
        path = test.index["path"].iloc[row]
        try:
            image = open_image(path)
        except pictures.UNREADABLE as error:
            raise UserError(f"image {path} cannot be read: {error}") from None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()

    entries = _chosen(bank, settings)
    seed = next(iter(entries.values())).seed
    coders = {method: bank.open(entry).to(device) for method, entry in entries.items()}
    # Across groups: else several drawings of one thing would make a latent look monosemantic.
    latents = across_groups(files.read_parquet(latents_file)).reindex(
        columns=[*_SAE, "split", "latent", *_ABOUT]
    )
    tables = {}
    for m in _two(list(coders)):
        own = (latents[[*_SAE, "split"]] == [m, entries[m].name, seed, "test"]).all(
            axis=1
        )
        tables[m] = latents[own].set_index("latent")
    codes = {
        m: coders[m].encode(coders[m].open_inputs(test.embeddings)).matrix().tocsc()
        for m in tables
    }
    rows = []
    for figure, rank, pairs in _matched(tables):
        for method, latent in pairs.items():
            about = tables[method].loc[latent, _ABOUT].to_dict()
            for part, place, row, activation in _activating(codes[method], latent):
                shown = {
                    "figure": figure,
                    "rank": rank,
                    "method": method,
                    "latent": latent,
                } | about
                shown |= {
                    "part": part,
                    "place": place,
                    "image_id": test.index["image_id"].iloc[row],
                }
                rows.append(shown | {"activation": activation, "png": png(row)})
    cell = {
        "dataset": bank.dataset,
        "backbone": bank.backbone,
        "k": bank.k,
        "seed": seed,
    }
    cell["left_out"], cell["credit"] = (
        _left_out(bank, entries, settings),
        credit(manifest["artifacts"]),
    )
    images = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in cell]).assign(
        **cell
    )[COLUMNS]
    row = _median_image(next(iter(coders.values())), test.embeddings)
    sample = pd.concat(
        [
            _sample(m, coder, test.embeddings[row : row + 1])
            for m, coder in coders.items()
        ]
    )
    sample = sample.assign(
        image_id=test.index["image_id"].iloc[row], png=png(row), **cell
    )
    for name, table in (("images", images), ("sample", sample)):
        files.write_parquet(out / f"{name}.parquet", table)


def _chosen(bank: Bank, names: Names) -> dict[str, BankedSae]:
    """{method: SAE} of what protocol `paper` chose with the first seed: baselines, then others, but no controls."""
    entries = [
        e
        for e in bank.saes
        if e.judged and e.protocol == "paper" and e.method not in names.controls
    ]
    first = {entry.method: entry for entry in entries if entry.seed == entries[0].seed}
    order = names.order(first)
    return {
        method: first[method]
        for method in sorted(order, key=lambda method: method not in names.baselines)
    }


def _left_out(bank: Bank, chosen: Iterable[str], names: Names) -> str:
    """The methods with trials of their own of which none was chosen, with spaces between them."""
    own = {
        e.method
        for e in bank.saes
        if e.protocol == "paper" and names.of(e.method).at is None
    }
    return " ".join(names.order(own - set(chosen) - set(names.controls)))


def credit(sources: list[dict[str, Any]]) -> str:
    """Whom a dataset's pictures are from, and their licences; empty where it has no artifacts."""
    return " ".join(
        f"{source['citation']}. Licence: {source['licence']}." for source in sources
    )


def _two(methods: list[str]) -> list[str]:
    """The methods that Figs. 2 and 3 compare."""
    first, *others = methods
    return [first, *([REG1] if REG1 in others else others[:1])]


def _matched(
    tables: dict[str, pd.DataFrame],
) -> Iterator[tuple[str, float, dict[str, int]]]:
    """(figure, rank, {method: latent}): latents at one rank of each method's own order; and the same latent of all.

    The order is by MS, highest first, of latents that fire on enough images (or as often as the tenth).
    """
    tenth = min(table["n_active"].nlargest(10).min() for table in tables.values())
    enough = max(3, min(ENOUGH, tenth))  # Three: a top, a middle and a bottom one.
    shown = {
        m: t[(t["n_active"] >= enough) & t["ms"].notna()] for m, t in tables.items()
    }
    own = {
        m: list(table.sort_values("ms", ascending=False).index)
        for m, table in shown.items()
    }
    first, *others = own.values()
    shared = [latent for latent in first if all(latent in order for order in others)]
    for figure, orders in (("fig2", own), ("fig3", dict.fromkeys(own, shared))):
        for rank in RANKS if all(orders.values()) else ():
            yield (
                figure,
                rank,
                {
                    m: int(order[int(rank * (len(order) - 1))])
                    for m, order in orders.items()
                },
            )


def _activating(
    codes: scipy.sparse.csc_matrix, latent: int
) -> Iterator[tuple[str, int, int, float]]:
    """(part, place, row, activation) of the images with the highest, the middle and the lowest activations > 0."""
    column = codes[:, [latent]].tocsc()
    order = np.argsort(-column.data, kind="stable")
    rows, values = column.indices[order], column.data[order]
    count = min(IMAGES, len(rows) // 3)
    for part, start in (
        ("top", 0),
        ("middle", (len(rows) - count) // 2),
        ("bottom", len(rows) - count),
    ):
        for place in range(count):
            yield part, place, int(rows[start + place]), float(values[start + place])


@torch.no_grad()
def _median_image(coder: Coder, embeddings: np.ndarray) -> int:
    """The row of (N, d) embeddings whose reconstruction has the median error."""
    error = []
    for part in coder.open_inputs(embeddings).split(4096):
        error.append(
            (part - coder.reconstruct(part, coder.encode(part)))
            .square()
            .sum(dim=1)
            .cpu()
        )
    return int(torch.cat(error).argsort(stable=True)[len(embeddings) // 2])


def _sample(method: str, coder: Coder, embedding: np.ndarray) -> pd.DataFrame:
    """The activations > 0 of one embedding (1, d), largest first, and whether the coder keeps them."""
    x = coder.open_inputs(embedding)
    values, latents = (found[0].cpu().numpy() for found in coder.largest(x, coder.m))
    ranks, kept = (
        np.arange(1, len(values) + 1),
        np.isin(latents, coder.encode(x).indices),
    )
    table = pd.DataFrame(
        {"method": method, "rank": ranks, "activation": values, "kept": kept}
    )
    return table[table["activation"] > 0]
