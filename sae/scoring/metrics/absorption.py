"""Score the absorption of coarse classes (Chanin et al. 2024, arXiv:2409.14507).

It is scored on held-out images.

A coarse class has a direction, that of a logistic regression on training inputs, and a
main latent, the one that fires most specifically on its training images
(`sparse_probe`'s ranking). On an image of the split that the regression recognises, the
class is *absorbed* where the main latent is silent and another latent carries `share`
or more of the reconstruction's projection on the direction: as if a latent of a finer
class had taken over. Fine labels are not read.

`absorption_rate`: absorbed images of those recognised, mean over coarse classes;
`absorption_silent`: those on which the main latent is silent. `absorption_null`: the
rate with main latents that have nothing to do with their classes, the first of the
ranking on permuted training labels. It differs from SAE to SAE: compare rates beside
their own nulls. Nothing without coarse labels.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from sae.core.options import Count, Positive, Share
from sae.core.options import Options as Base
from sae.scoring.metrics.preserved import inputs_of
from sae.scoring.metrics.sparse_probe import difference
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("train",)


class Options(Base):
    """Options say how classes are found, and when one is absorbed."""

    share: Share = Field(
        0.4,
        description="share of the projection that another latent carries, from which "
        "on the class is absorbed",
    )
    C: Positive = Field(
        1.0, description="inverse strength of the regressions' l2 penalty"
    )
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )


class _ClassDirection(NamedTuple):
    """The direction of a coarse class, and where its regression recognises the class.

    Attributes:
        direction: the weights of the regression.
        recognised: which images of the split are recognised as of the class.
    """

    direction: Float[np.ndarray, " dim"]
    recognised: Bool[np.ndarray, " images"]


class _Absorption(NamedTuple):
    """Shares of the images on which the regression of a coarse class recognises it.

    Attributes:
        rate: those on which the class is absorbed.
        silent: those on which its main latent is silent.
        null: the rate with a latent that has nothing to do with the class.
    """

    rate: float
    silent: float
    null: float


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the absorption in one SAE."""
    coarse = subject.labels(split, coarse=True)
    coarse_train = subject.labels("train", coarse=True, at_most=options.max_train)
    if coarse is None or coarse_train is None:
        return {}

    # All SAEs of a bank see the same inputs, but for controls of another norm: hence
    # the space in the key.
    coder = subject.coder
    key = (
        "absorption",
        split,
        options.model_dump_json(),
        coder.input_norm,
        coder.input_scale,
    )
    class_directions = subject.once_for_all(
        key, lambda: _fit_directions(subject, split, coarse_train, options)
    )

    codes_train = subject.codes("train", options.max_train).matrix()
    codes = subject.codes(split).matrix()
    decoder = coder.W_dec.detach().cpu().numpy()
    permuted_train = np.random.default_rng(0).permutation(coarse_train)
    absorption_by_class = []
    for label, of_class in class_directions.items():
        images = np.flatnonzero((coarse == label) & of_class.recognised)
        if not len(images):
            continue
        is_carried = _is_carried_by_one(
            codes[images], decoder @ of_class.direction, options.share
        )
        main_latent = int(np.argmax(difference(codes_train, coarse_train == label)))
        null_latent = int(np.argmax(difference(codes_train, permuted_train == label)))
        is_silent = codes[images][:, main_latent].toarray().ravel() == 0
        null_is_silent = codes[images][:, null_latent].toarray().ravel() == 0
        absorption = _Absorption(
            rate=(is_silent & is_carried).mean(),
            silent=is_silent.mean(),
            null=(null_is_silent & is_carried).mean(),
        )
        absorption_by_class.append(absorption)

    if not absorption_by_class:
        return {}
    mean = _Absorption(*np.mean(absorption_by_class, axis=0).tolist())
    return {
        "absorption_rate": mean.rate,
        "absorption_silent": mean.silent,
        "absorption_null": mean.null,
    }


def _is_carried_by_one(
    codes: Float[csr_matrix, "images latents"],
    projection_of_row: Float[np.ndarray, " latents"],
    share: float,
) -> Bool[np.ndarray, " images"]:
    """Say where one latent carries much of a reconstruction's projection.

    Args:
        codes: activations.
        projection_of_row: of each decoder row, on the direction of a class.
        share: how much of the projection is much.
    """
    # What each active latent adds along the direction.
    projection_of_latent = codes.multiply(projection_of_row).tocsr()
    projection = np.asarray(projection_of_latent.sum(axis=1)).ravel()
    largest = projection_of_latent.max(axis=1).toarray().ravel()
    return (projection > 0) & (largest >= share * projection)


def _fit_directions(
    subject: Subject,
    split: str,
    coarse_train: Int[np.ndarray, " train_images"],
    options: Options,
) -> dict[int, _ClassDirection]:
    """Fit a regression for each coarse class against the others.

    Returns:
        {coarse class: its direction, and the images of the split where it is
        recognised}.
    """
    x_train = inputs_of(subject.inputs("train", options.max_train))
    x = inputs_of(subject.inputs(split))
    mean = x_train.mean(axis=0)
    scale = x_train.std()

    directions = {}
    for label in np.unique(coarse_train):
        is_class = coarse_train == label
        if is_class.all():
            continue
        probe = LogisticRegression(C=options.C, max_iter=300)
        probe.fit((x_train - mean) / scale, is_class)
        recognised = probe.predict((x - mean) / scale)
        directions[int(label)] = _ClassDirection(probe.coef_[0], recognised)
    return directions
