"""The latents of one SAE: their scores, the SAE's whole sparse code of the test images, and which latents are alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float
from torch.nn import functional

from sae.core import registry
from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.report.site import pack
from sae.report.site.concepts import ShownConcepts, is_scored, latent_columns
from sae.scoring.metrics import _purity
from sae.scoring.metrics import concepts as names_of_latents
from sae.scoring.metrics.purity import labellings

NEAREST = 10
CHUNK = 1024  # latents whose cosines with all others are held at once


def shown_columns() -> list[str]:
    """Return the columns of latents.parquet that the site shows: `SHOWN` of the metrics."""
    metrics = [registry.head("metric", name) for name in registry.names("metric")]
    return [column for head in metrics for column in head.constants.get("SHOWN", ())]


def payload(
    coder: Coder,
    codes: scipy.sparse.csc_matrix,
    table: pd.DataFrame,
    classes: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray | None,
    others: Mapping[int, Coder],
    siblings: Sequence[Coder] = (),
    own: Sequence[str] = (),
    concepts: ShownConcepts | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """What `saes/{n}` holds, and (m, 10) the rows of each latent's highest images, -1 where it has fewer.

    Args:
        codes: (N, m) of the test images.
        table: m rows by latent: n_active, and of :func:`shown_columns` and top_class what was
            measured.
        labels: (N,) places in `classes`, -1 of an image without one.
        groups: (N,) numbers of near-duplicates, if the dataset knows them.
        others: by number, the other SAEs of the cell.
        siblings: SAEs that differ from this one in their seed alone.
        own: columns of the table that metrics of one's own gave.
        concepts: those of the test images, where the dataset has any.

    Raises:
        UserError: the table is not of this SAE.
    """
    if len(table) != coder.m:
        raise UserError(
            f"latents.parquet has {len(table)} rows of an SAE of {coder.m} latents; run the scores again"
        )
    offsets, fires = codes.indptr.astype(np.int64), np.diff(codes.indptr)
    # Within a latent by the exact activations; of equal ones the first image comes first.
    order = np.lexsort(
        (codes.indices, -codes.data, np.repeat(np.arange(coder.m), fires))
    )
    images, values = codes.indices[order], codes.data[order]
    columns = {"n_active": pack.packed(table["n_active"], "u32")}
    scores = {
        name: table[name].to_numpy(float)
        for name in (*shown_columns(), *own)
        if name not in names_of_latents.SHOWN
        and name in table
        and table[name].notna().any()
    }
    if "purity" in scores and (labels >= 0).all():
        found, _, _ = _purity.per_latent(codes, labellings(labels, groups)[1:])
        scores["purity_null"] = np.where(fires > 0, found.mean(axis=0), np.nan)
    if siblings:
        scores["stability"] = np.mean(
            [nearest(coder, sibling, 1)[1][:, 0] for sibling in siblings], axis=0
        )
    columns |= {name: pack.packed(of, "f32") for name, of in scores.items()}
    if "top_class" in table:
        places = {name: place for place, name in enumerate(classes)}
        columns["top_class"] = pack.index(
            table["top_class"].map(places).fillna(-1).astype(int), len(classes)
        )
    if concepts is not None and is_scored(table):
        columns.update(latent_columns(table, concepts))
    alike, cosine = nearest(coder, coder, NEAREST)
    made: dict[str, Any] = {"m": coder.m, "images": codes.shape[0], "latents": columns}
    made["codes"] = {
        "offsets": pack.packed(offsets, "u32"),
        "image": pack.index(images, codes.shape[0]),
    }
    made["codes"]["value"] = pack.packed(values, "f16")
    made["nearest"] = {
        "latent": pack.index(alike, coder.m),
        "cosine": pack.packed(cosine, "f16"),
    }
    made["matches"] = [
        _match(number, *nearest(coder, other, 1), other.m)
        for number, other in others.items()
    ]
    places_of = offsets[:-1, None] + np.arange(NEAREST)
    padded = np.append(images, np.full(NEAREST, -1))
    return made, np.where(
        np.arange(NEAREST) < fires[:, None],
        padded[np.minimum(places_of, len(images))],
        -1,
    )


def encode(
    coder: Coder, embeddings: Float[np.ndarray, "images dim"]
) -> scipy.sparse.csc_matrix:
    """Return an SAE's codes (images, m) of the test images."""
    return coder.encode(coder.open_inputs(embeddings)).by_latent()


def without_scores(codes: scipy.sparse.csc_matrix) -> pd.DataFrame:
    """Return the table of latents of an SAE that was not scored latent by latent.

    Args:
        codes: (images, m) of the test images.

    Returns:
        (m rows) `n_active`: on how many images each latent fires.
    """
    return pd.DataFrame({"n_active": np.diff(codes.indptr)})


def _match(
    number: int, latent: np.ndarray, cosine: np.ndarray, m: int
) -> dict[str, Any]:
    return {
        "sae": number,
        "latent": pack.index(latent, m),
        "cosine": pack.packed(cosine, "f16"),
    }


@torch.no_grad()
def nearest(coder: Coder, other: Coder, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The latents of `other` whose decoder rows have the highest cosine with those of each latent, highest first.

    Returns:
        (m, count) places, -1 where there are fewer, and cosines, NaN there. A latent is not among its own.
    """
    rows, theirs = (functional.normalize(of.W_dec, dim=1) for of in (coder, other))
    most = min(count, other.m - (other is coder))
    places, cosines = (
        np.full((coder.m, count), -1),
        np.full((coder.m, count), np.nan, np.float32),
    )
    for start in range(0, coder.m, CHUNK):
        cosine = rows[start : start + CHUNK] @ theirs.T
        if other is coder:
            numbers = torch.arange(len(cosine), device=cosine.device)
            cosine[numbers, start + numbers] = -torch.inf
        values, found = cosine.topk(most, dim=1)
        places[start : start + CHUNK, :most], cosines[start : start + CHUNK, :most] = (
            found.cpu(),
            values.cpu(),
        )
    return places, cosines
