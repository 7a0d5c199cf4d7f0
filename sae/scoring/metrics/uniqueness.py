"""Whether latents have top images of their own (Pach et al. 2025, arXiv:2504.02821).

The top images of a latent are the 16 that activate it most; latents that fire on fewer are left out.
`uniqueness`: 1 - the mean over latents of the highest Jaccard index of its top images and another latent's.
`uniqueness_shared`: the share of latents that share more than half of their top images with another (Jaccard index
above 1/3). `uniqueness_null`, `uniqueness_shared_null`: what these are for as many sets of 16 random images. NaN for
less than two latents.
"""

import numpy as np
import scipy.sparse

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ()
ALONE = True
TOP = 16
_PART = 512  # sets compared at once


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Uniqueness of one SAE's top images."""
    names = (
        "uniqueness",
        "uniqueness_shared",
        "uniqueness_null",
        "uniqueness_shared_null",
    )
    images, sets = (
        len(subject.embeddings(split)),
        top_images(subject.codes(split).by_latent()),
    )
    if len(sets) < 2:
        return dict.fromkeys(names, float("nan"))
    rng = np.random.default_rng(0)
    random = np.stack([rng.choice(images, TOP, replace=False) for _ in sets])
    own, null = (highest_jaccard(of, images) for of in (sets, random))
    values = (
        1 - own.mean(),
        (own > 1 / 3).mean(),
        1 - null.mean(),
        (null > 1 / 3).mean(),
    )
    return dict(zip(names, values, strict=True))


def top_images(by_latent: scipy.sparse.csc_matrix) -> np.ndarray:
    """(latents, TOP) the images of the highest activations of each latent that has as many; of equal ones the first."""
    found = []
    for start, end in zip(by_latent.indptr[:-1], by_latent.indptr[1:], strict=True):
        if end - start >= TOP:
            order = np.argsort(-by_latent.data[start:end], kind="stable")[:TOP]
            found.append(by_latent.indices[start:end][order])
    return np.stack(found) if found else np.empty((0, TOP), dtype=np.int64)


def highest_jaccard(sets: np.ndarray, images: int) -> np.ndarray:
    """(L,) of each set of TOP images, (L, TOP), the highest Jaccard index with another set."""
    count = len(sets)
    rows = np.repeat(np.arange(count), TOP)
    member = scipy.sparse.csr_matrix(
        (np.ones(count * TOP), (rows, sets.ravel())), shape=(count, images)
    )
    most = np.empty(count)
    for start in range(0, count, _PART):
        common = member[start : start + _PART] @ member.T
        common.setdiag(0, start)
        most[start : start + _PART] = common.max(axis=1).toarray().ravel()
    return most / (2 * TOP - most)
