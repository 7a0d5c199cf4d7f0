"""Ask whether latents have top images of their own (Pach et al., arXiv:2504.02821).

The top images of a latent are the 16 that activate it most; latents that fire on fewer
are left out. `uniqueness`: 1 - the mean over latents of the highest Jaccard index of
its top images and another latent's. `uniqueness_shared`: the share of latents that
share more than half of their top images with another (Jaccard index above 1/3).
`uniqueness_null`, `uniqueness_shared_null`: what these are for as many sets of 16
random images. NaN for less than two latents.
"""

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.sparse import csc_matrix, csr_matrix

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ()
ALONE = True
TOP = 16
# Sets that are compared with all others at once.
_PART = 512


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the uniqueness of one SAE's top images."""
    image_count = len(subject.embeddings(split))
    sets = top_images(subject.codes(split).by_latent())
    if len(sets) < 2:
        nan = float("nan")
        return {
            "uniqueness": nan,
            "uniqueness_shared": nan,
            "uniqueness_null": nan,
            "uniqueness_shared_null": nan,
        }
    rng = np.random.default_rng(0)
    random_sets = np.stack([rng.choice(image_count, TOP, replace=False) for _ in sets])
    overlap = highest_jaccard(sets, image_count)
    null_overlap = highest_jaccard(random_sets, image_count)
    return {
        "uniqueness": 1 - overlap.mean(),
        "uniqueness_shared": (overlap > 1 / 3).mean(),
        "uniqueness_null": 1 - null_overlap.mean(),
        "uniqueness_shared_null": (null_overlap > 1 / 3).mean(),
    }


def top_images(
    codes: Float[csc_matrix, "images latents"],
) -> Int[np.ndarray, "sets top"]:
    """Return the images that activate each latent most; of equal ones the first.

    Args:
        codes: latent by latent; one that fires on fewer than TOP images is left out.
    """
    sets = []
    for start, end in zip(codes.indptr[:-1], codes.indptr[1:], strict=True):
        if end - start >= TOP:
            order = np.argsort(-codes.data[start:end], kind="stable")[:TOP]
            sets.append(codes.indices[start:end][order])
    return np.stack(sets) if sets else np.empty((0, TOP), dtype=np.int64)


def highest_jaccard(
    sets: Int[np.ndarray, "sets top"], image_count: int
) -> Float64[np.ndarray, " sets"]:
    """Return the highest Jaccard index of each set with another one.

    Args:
        sets: TOP images each.
        image_count: all images.
    """
    set_count = len(sets)
    set_of_member = np.repeat(np.arange(set_count), TOP)
    is_member = csr_matrix(
        (np.ones(set_count * TOP), (set_of_member, sets.ravel())),
        shape=(set_count, image_count),
    )
    most_common = np.empty(set_count)
    for start in range(0, set_count, _PART):
        common = is_member[start : start + _PART] @ is_member.T
        # Not with the set itself.
        common.setdiag(0, start)
        most_common[start : start + _PART] = common.max(axis=1).toarray().ravel()
    return most_common / (2 * TOP - most_common)
