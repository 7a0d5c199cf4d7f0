"""Whether an SAE has found the concepts that generated its inputs; nothing where these are not known.

Means over the concepts that the split shows, each matched with its most similar latent (`sae.scoring.recovery`):
`recovery_cosine`, of its direction and the latent's decoder row; `recovery_found`, the share above 0.9;
`recovery_precision` and `recovery_recall`, of the latent's firing as a detector of the concept.
"""

from typing import Any

import scipy.sparse

from sae.core.options import Options
from sae.data import synthetic
from sae.data.backbones import generated
from sae.data.entries import entry
from sae.scoring import recovery
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
    dictionary, truth = subject.once_for_all(
        ("recovery", split), lambda: _truth(spec, split, len(subject.embeddings(split)))
    )
    found = recovery.score(subject.coder.W_dec.detach().cpu().numpy(), subject.codes(split), dictionary, truth)
    return {
        "recovery_cosine": found.max_cosine,
        "recovery_found": found.found,
        "recovery_precision": found.precision,
        "recovery_recall": found.recall,
    }


def _truth(spec: dict[str, Any], split: str, count: int) -> tuple[Any, scipy.sparse.csr_matrix]:
    """The directions of the concepts (concepts, d), and their strengths on the images of a split, csr (N, concepts)."""
    world = generated.world(entry("backbone", spec)[1])
    return world.dictionary, scipy.sparse.vstack([s for _, s in synthetic.chunks(world, split, count)], format="csr")
