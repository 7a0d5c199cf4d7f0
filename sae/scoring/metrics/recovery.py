"""Say whether an SAE has found the concepts that generated its inputs.

There is nothing to say where these are not known.

Means over the concepts that the split shows (`sae.data.synthetic` knows them), each
matched with its most similar latent: `recovery_cosine`, of its direction and the
latent's decoder row; `recovery_found`, the share above 0.9; `recovery_precision`, the
share of the images on which the latent fires that show the concept, 0 if it never
fires; `recovery_recall`, the share of the images that show the concept on which the
latent fires.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, vstack

from sae.core.options import Options
from sae.data import synthetic
from sae.data.backbones import generated
from sae.data.entries import parse
from sae.models.codes import Codes
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the recovery of one SAE."""
    spec = subject.splits[split].manifest["backbone"].get("spec", {})
    if spec.get("loader") != "generated":
        return {}
    image_count = len(subject.embeddings(split))
    dictionary, strengths = subject.once_for_all(
        ("recovery", split), lambda: _read_truth(spec, split, image_count)
    )
    decoder = subject.coder.W_dec.detach().cpu().numpy()
    return of_codes(decoder, subject.codes(split), dictionary, strengths)


def _read_truth(
    spec: dict[str, Any], split: str, image_count: int
) -> tuple[Float[np.ndarray, "concepts dim"], Float[csr_matrix, "images concepts"]]:
    """Return the concepts' directions, and how strongly each image shows each."""
    world = generated.world(parse("backbone", spec).own_options)
    chunks = synthetic.chunks(world, split, image_count)
    strengths = vstack([of_chunk for _, of_chunk in chunks], format="csr")
    return world.dictionary, strengths


def of_codes(
    decoder: Float[np.ndarray, "latents dim"],
    codes: Codes,
    dictionary: Float[np.ndarray, "concepts dim"],
    truth: Float[csr_matrix, "images concepts"],
) -> dict[str, float]:
    """Score an SAE against the truth.

    Args:
        decoder: decoder rows.
        codes: of N images.
        dictionary: true directions.
        truth: > 0 where a concept is active.
    """
    cosine, latent_of_concept = match(decoder, dictionary)
    # Column c of both: does concept c's latent fire, does the image show c.
    all_fire = (codes.matrix() > 0).astype(np.float64)
    fires = all_fire.tocsc()[:, latent_of_concept]
    shows = (truth > 0).astype(np.float64)

    fire_and_show_counts = np.asarray(fires.multiply(shows).sum(axis=0)).ravel()
    fire_counts = np.asarray(fires.sum(axis=0)).ravel()
    show_counts = np.asarray(shows.sum(axis=0)).ravel()

    is_shown = show_counts > 0
    precision = fire_and_show_counts / np.maximum(fire_counts, 1)
    recall = fire_and_show_counts[is_shown] / show_counts[is_shown]
    return {
        "recovery_cosine": float(cosine[is_shown].mean()),
        "recovery_found": float((cosine[is_shown] > 0.9).mean()),
        "recovery_precision": float(precision[is_shown].mean()),
        "recovery_recall": float(recall.mean()),
    }


def match(
    decoder: Float[np.ndarray, "latents dim"],
    dictionary: Float[np.ndarray, "concepts dim"],
) -> tuple[Float[np.ndarray, " concepts"], Int[np.ndarray, " concepts"]]:
    """Match each concept with its most similar latent.

    Returns:
        The cosine of each match, signed; and the number of the latent.
    """
    rows = _unit(decoder)
    directions = _unit(dictionary)
    latent = np.empty(len(directions), dtype=np.int64)
    cosine = np.empty(len(directions))
    for start in range(0, len(directions), 1024):
        similarity = directions[start : start + 1024] @ rows.T
        latent[start : start + 1024] = similarity.argmax(axis=1)
        cosine[start : start + 1024] = similarity.max(axis=1)
    return cosine, latent


def _unit(rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # A row of zeros stays zero.
    return rows / np.maximum(norms, 1e-12)
