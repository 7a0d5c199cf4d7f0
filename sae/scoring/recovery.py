"""How well an SAE finds the concepts that generated its inputs (`sae.data.synthetic` knows them)."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sae.models.codes import Codes


@dataclass(frozen=True)
class Recovery:
    """Means over the concepts that are active on at least one image; each is matched with its most similar latent.

    Attributes:
        max_cosine: cosine of a concept's direction and its latent's decoder row.
        found: share of the concepts whose cosine is above 0.9.
        precision: share of the images on which the latent fires that show the concept; 0 if it never fires.
        recall: share of the images that show the concept on which the latent fires.
    """

    max_cosine: float
    found: float
    precision: float
    recall: float


def score(decoder: np.ndarray, codes: Codes, dictionary: np.ndarray, truth: scipy.sparse.csr_matrix) -> Recovery:
    """Score an SAE against the truth.

    Args:
        decoder: (m, d) decoder rows.
        codes: `sae.models.codes.Codes` of N images.
        dictionary: (concepts, d) true directions.
        truth: csr (N, concepts), > 0 where a concept is active.
    """
    cosine, latent = match(decoder, dictionary)
    fires = (codes.matrix() > 0).astype(np.float64)
    shows = (truth > 0).astype(np.float64)
    # Column c of both: does concept c's latent fire, does the image show c.
    fires = fires.tocsc()[:, latent]
    both = np.asarray(fires.multiply(shows).sum(axis=0)).ravel()
    fired, shown = np.asarray(fires.sum(axis=0)).ravel(), np.asarray(shows.sum(axis=0)).ravel()
    seen = shown > 0
    precision = both / np.maximum(fired, 1)
    recall = both[seen] / shown[seen]
    return Recovery(
        float(cosine[seen].mean()),
        float((cosine[seen] > 0.9).mean()),
        float(precision[seen].mean()),
        float(recall.mean()),
    )


def match(decoder: np.ndarray, dictionary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each concept's most similar latent: its cosine (concepts,), signed, and its number (concepts,)."""
    rows, truth = (w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-12) for w in (decoder, dictionary))
    latent, cosine = np.empty(len(truth), dtype=np.int64), np.empty(len(truth))
    for start in range(0, len(truth), 1024):
        similarity = truth[start : start + 1024] @ rows.T
        latent[start : start + 1024] = similarity.argmax(axis=1)
        cosine[start : start + 1024] = similarity.max(axis=1)
    return cosine, latent
