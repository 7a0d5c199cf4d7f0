"""The file of one SAE: its latents' scores, its codes of the test images, and matches.

Matches are latents of other SAEs, or of the SAE itself, whose decoder rows are alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch.nn import functional

from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.report.site import pack
from sae.report.site.concepts import is_named, names_payload
from sae.scoring.metrics import _purity
from sae.scoring.metrics.purity import labellings

# The columns of latents.parquet that are shown as scores, beside those of extensions.
SCORES = ("detection", "ms", "purity", "spread")
NEAREST = 10
CHUNK = 1024  # latents whose cosines with all others are held at once


@dataclass(frozen=True)
class RankedCodes:
    """The codes of images, latent by latent, the highest activation first.

    Attributes:
        offsets: (m + 1,) where each latent begins in the other two.
        images: (activations,) rows of images. Of equal activations the first image
            comes first.
        activations: (activations,) all above 0.
    """

    offsets: Int[np.ndarray, " latents_and_end"]
    images: Int[np.ndarray, " activations"]
    activations: Float[np.ndarray, " activations"]

    @property
    def firing_counts(self) -> np.ndarray:
        """On how many images each latent fires, (m,)."""
        return np.diff(self.offsets)

    def count_reaching(
        self, thresholds: Float[np.ndarray, " latents"]
    ) -> Int[np.ndarray, " latents"]:
        """On how many images each latent reaches its threshold; NaN is never reached."""
        latents = np.repeat(np.arange(len(thresholds)), self.firing_counts)
        reaches = self.activations >= thresholds[latents]
        return np.bincount(latents[reaches], minlength=len(thresholds))

    def images_of(self, latent: int) -> np.ndarray:
        """Return the rows of images on which a latent fires, the highest first."""
        return self.images[self.offsets[latent] : self.offsets[latent + 1]]

    def highest_images(self) -> np.ndarray:
        """Return (m, 10) the rows of each latent's highest images, -1 past the last."""
        ranks = np.arange(NEAREST)
        padded = np.append(self.images, np.full(NEAREST, -1))
        places = self.offsets[:-1, None] + ranks
        rows = padded[np.minimum(places, len(self.images))]
        return np.where(ranks < self.firing_counts[:, None], rows, -1)


def rank_codes(codes: scipy.sparse.csc_matrix) -> RankedCodes:
    """Rank the images of each latent by their exact activations.

    Args:
        codes: (images, m).
    """
    latents = np.repeat(np.arange(codes.shape[1]), np.diff(codes.indptr))
    order = np.lexsort((codes.indices, -codes.data, latents))
    return RankedCodes(
        codes.indptr.astype(np.int64), codes.indices[order], codes.data[order]
    )


def payload(
    coder: Coder,
    codes: scipy.sparse.csc_matrix,
    table: pd.DataFrame,
    classes: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray | None,
    cell_coders: Mapping[int, Coder],
    siblings: Sequence[Coder] = (),
    extension_columns: Sequence[str] = (),
) -> tuple[dict[str, Any], RankedCodes]:
    """Return what `saes/{n}` holds, and the codes, latent by latent.

    Args:
        coder: The SAE.
        codes: (images, m) of the test images.
        table: m rows by latent: n_active, and what was measured of
            `SCORES`, of words and top_class.
        classes: The names of classes.
        labels: (images,) places in `classes`, -1 of an image without one.
        groups: (images,) numbers of near-duplicates, if the dataset knows them.
        cell_coders: {number: SAE}, the other SAEs of the cell.
        siblings: SAEs that differ from this one in their seed alone.
        extension_columns: Columns of the table that metrics in a user's folder gave.

    Returns:
        The payload, and the ranked codes.

    Raises:
        UserError: the table is not of this SAE.
    """
    if len(table) != coder.m:
        raise UserError(
            f"latents.parquet has {len(table)} rows of an SAE of {coder.m} latents; "
            "run the scores again"
        )
    ranked_codes = rank_codes(codes)
    scores = _scores(table, extension_columns)
    if "purity" in scores and (labels >= 0).all():
        scores["purity_null"] = _purity_by_chance(codes, labels, groups)
    if siblings:
        cosines = [nearest(coder, sibling, 1)[1][:, 0] for sibling in siblings]
        scores["stability"] = np.mean(cosines, axis=0)

    columns = {"n_active": pack.packed(table["n_active"], "u32")}
    for name, score in scores.items():
        columns[name] = pack.packed(score, "f32")
    if "top_class" in table:
        class_places = {name: place for place, name in enumerate(classes)}
        top_class = table["top_class"].map(class_places).fillna(-1).astype(int)
        columns["top_class"] = pack.index(top_class, len(classes))

    matches = []
    for number, cell_coder in cell_coders.items():
        match_latents, match_cosines = nearest(coder, cell_coder, 1)
        match = {
            "sae": number,
            "latent": pack.index(match_latents, cell_coder.m),
            "cosine": pack.packed(match_cosines, "f16"),
        }
        matches.append(match)
    nearest_latents, nearest_cosines = nearest(coder, coder, NEAREST)
    sae_payload = {
        "m": coder.m,
        "images": codes.shape[0],
        "latents": columns,
        "codes": {
            "offsets": pack.packed(ranked_codes.offsets, "u32"),
            "image": pack.index(ranked_codes.images, codes.shape[0]),
            "value": pack.packed(ranked_codes.activations, "f16"),
        },
        "nearest": {
            "latent": pack.index(nearest_latents, coder.m),
            "cosine": pack.packed(nearest_cosines, "f16"),
        },
        "matches": matches,
    }
    if is_named(table):
        sae_payload["names"] = names_payload(table)
    return sae_payload, ranked_codes


def _scores(
    table: pd.DataFrame, extension_columns: Sequence[str]
) -> dict[str, np.ndarray]:
    names = [
        name
        for name in (*SCORES, *extension_columns)
        if name in table and table[name].notna().any()
    ]
    return {name: table[name].to_numpy(float) for name in names}


def _purity_by_chance(
    codes: scipy.sparse.csc_matrix, labels: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """Return (m,) the mean purity under permuted labels, NaN where a latent is dead."""
    permuted_labels = labellings(labels, groups)[1:]
    purity = _purity.per_latent(codes, permuted_labels)
    fires = np.diff(codes.indptr) > 0
    return np.where(fires, purity.binary.mean(axis=0), np.nan)


def encode(
    coder: Coder, embeddings: Float[np.ndarray, "images dim"]
) -> scipy.sparse.csc_matrix:
    """Return an SAE's codes (images, m) of the test images."""
    return coder.encode(coder.open_inputs(embeddings)).by_latent()


@torch.no_grad()
def nearest(coder: Coder, target: Coder, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the latents of an SAE that are most like each latent of another one.

    Args:
        coder: The SAE whose latents are looked at.
        target: The SAE in which the like ones are sought; it may be the same one. Then a
            latent is not among its own.
        count: How many are sought for each latent.

    Returns:
        (m, count) latents of `target`, those whose decoder rows have the highest cosine,
        highest first, -1 where there are fewer; and the cosines, NaN there.
    """
    directions = functional.normalize(coder.W_dec, dim=1)
    target_directions = functional.normalize(target.W_dec, dim=1)
    most = min(count, target.m)
    if target is coder:
        most = min(count, target.m - 1)
    latents = np.full((coder.m, count), -1)
    cosines = np.full((coder.m, count), np.nan, np.float32)
    for start in range(0, coder.m, CHUNK):
        rows = slice(start, start + CHUNK)
        chunk_cosines = directions[rows] @ target_directions.T
        if target is coder:
            places = torch.arange(len(chunk_cosines), device=chunk_cosines.device)
            chunk_cosines[places, start + places] = -torch.inf
        highest_cosines, highest_latents = chunk_cosines.topk(most, dim=1)
        latents[rows, :most] = highest_latents.cpu()
        cosines[rows, :most] = highest_cosines.cpu()
    return latents, cosines
