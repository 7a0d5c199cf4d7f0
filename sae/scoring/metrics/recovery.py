"""Whether an SAE has found the concepts that generated its inputs; nothing where these are not known.

Means over the concepts that the split shows (`sae.data.synthetic` knows them), each matched with its most similar
latent: `recovery_cosine`, of its direction and the latent's decoder row; `recovery_found`, the share above 0.9;
`recovery_precision`, the share of the images on which the latent fires that show the concept, 0 if it never fires;
`recovery_recall`, the share of the images that show the concept on which the latent fires.
"""

from typing import Any

import numpy as np
import scipy.sparse

from sae.core.options import Options
from sae.data import synthetic
from sae.data.backbones import generated
from sae.data.entries import entry
from sae.models.codes import Codes
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Recovery of one SAE."""
    spec = subject.splits[split].manifest["backbone"].get("spec", {})
    if spec.get("loader") != "generated":
        return {}
    images = len(subject.embeddings(split))
    dictionary, truth = subject.once_for_all(
        ("recovery", split), lambda: _truth(spec, split, images)
    )
    return of_codes(
        subject.coder.W_dec.detach().cpu().numpy(),
        subject.codes(split),
        dictionary,
        truth,
    )


def _truth(
    spec: dict[str, Any], split: str, count: int
) -> tuple[Any, scipy.sparse.csr_matrix]:
    """The directions of the concepts (concepts, d), and their strengths on the images of a split, csr (N, concepts)."""
    world = generated.world(entry("backbone", spec)[1])
    return world.dictionary, scipy.sparse.vstack(
        [s for _, s in synthetic.chunks(world, split, count)], format="csr"
    )


def of_codes(
    decoder: np.ndarray,
    codes: Codes,
    dictionary: np.ndarray,
    truth: scipy.sparse.csr_matrix,
) -> dict[str, float]:
    """Scores of an SAE against the truth.

    Args:
        decoder: (m, d) decoder rows.
        codes: of N images.
        dictionary: (concepts, d) true directions.
        truth: csr (N, concepts), > 0 where a concept is active.
    """
    cosine, latent = match(decoder, dictionary)
    fires = (codes.matrix() > 0).astype(np.float64)
    shows = (truth > 0).astype(np.float64)
    # Column c of both: does concept c's latent fire, does the image show c.
    fires = fires.tocsc()[:, latent]
    both = np.asarray(fires.multiply(shows).sum(axis=0)).ravel()
    fired, shown = (
        np.asarray(fires.sum(axis=0)).ravel(),
        np.asarray(shows.sum(axis=0)).ravel(),
    )
    seen = shown > 0
    precision = both / np.maximum(fired, 1)
    return {
        "recovery_cosine": float(cosine[seen].mean()),
        "recovery_found": float((cosine[seen] > 0.9).mean()),
        "recovery_precision": float(precision[seen].mean()),
        "recovery_recall": float((both[seen] / shown[seen]).mean()),
    }


def match(decoder: np.ndarray, dictionary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each concept's most similar latent: its cosine (concepts,), signed, and its number (concepts,)."""
    rows, truth = (
        w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-12)
        for w in (decoder, dictionary)
    )
    latent, cosine = np.empty(len(truth), dtype=np.int64), np.empty(len(truth))
    for start in range(0, len(truth), 1024):
        similarity = truth[start : start + 1024] @ rows.T
        latent[start : start + 1024] = similarity.argmax(axis=1)
        cosine[start : start + 1024] = similarity.max(axis=1)
    return cosine, latent
