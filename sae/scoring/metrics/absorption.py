"""Feature absorption (Chanin et al. 2024, arXiv:2409.14507) of coarse classes, scored on held-out images.

A coarse class has a direction, that of a logistic regression on training inputs, and a main latent, the one that fires
most specifically on its training images (`sparse_probe`'s ranking). On an image of the split that the regression
recognises, the class is *absorbed* where the main latent is silent and another latent carries `share` or more of the
reconstruction's projection on the direction: as if a latent of a finer class had taken over. Fine labels are not read.

`absorption_rate`: absorbed images of those recognised, mean over coarse classes; `absorption_silent`: those on which
the main latent is silent. `absorption_null`: the rate with main latents that have nothing to do with their classes, the
first of the ranking on permuted training labels. It differs from SAE to SAE: compare rates beside their own nulls.
Nothing without coarse labels.
"""

import numpy as np
from pydantic import Field
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
    """How classes are found, and when one is absorbed."""

    share: Share = Field(
        0.4, description="of the projection, that another latent carries"
    )
    C: Positive = Field(
        1.0, description="inverse strength of the regressions' l2 penalty"
    )
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Absorption in one SAE."""
    coarse = subject.labels(split, coarse=True)
    coarse_train = subject.labels("train", coarse=True, at_most=options.max_train)
    if coarse is None or coarse_train is None:
        return {}
    coder = subject.coder
    key = (
        "absorption",
        split,
        options.model_dump_json(),
        coder.input_norm,
        coder.input_scale,
    )
    directions = subject.once_for_all(
        key, lambda: _directions(subject, split, coarse_train, options)
    )
    train, codes = (
        subject.codes("train", options.max_train).matrix(),
        subject.codes(split).matrix(),
    )
    decoder = coder.W_dec.detach().cpu().numpy()
    permuted = np.random.default_rng(0).permutation(coarse_train)
    found = []
    for label, (direction, recognised) in directions.items():
        images = np.flatnonzero((coarse == label) & recognised)
        if not len(images):
            continue
        # What each active latent adds along the direction of the class: (images, m), sparse.
        shares = codes[images].multiply(decoder @ direction).tocsr()
        total = np.asarray(shares.sum(axis=1)).ravel()
        carried = (total > 0) & (
            shares.max(axis=1).toarray().ravel() >= options.share * total
        )
        main, other = (
            int(np.argmax(difference(train, classes == label)))
            for classes in (coarse_train, permuted)
        )
        silent, null = (
            codes[images][:, latent].toarray().ravel() == 0 for latent in (main, other)
        )
        found.append(
            ((silent & carried).mean(), silent.mean(), (null & carried).mean())
        )
    names = ("absorption_rate", "absorption_silent", "absorption_null")
    return (
        dict(zip(names, np.mean(found, axis=0).tolist(), strict=True)) if found else {}
    )


def _directions(
    subject: Subject, split: str, coarse_train: np.ndarray, options: Options
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{coarse class: its direction (d,), and which images of the split (N,) are recognised as of it}."""
    x, held_out = (
        inputs_of(subject.inputs("train", options.max_train)),
        inputs_of(subject.inputs(split)),
    )
    mean, scale, found = x.mean(axis=0), x.std(), {}
    for label in np.unique(coarse_train):
        positive = coarse_train == label
        if positive.all():
            continue
        probe = LogisticRegression(C=options.C, max_iter=300).fit(
            (x - mean) / scale, positive
        )
        found[int(label)] = probe.coef_[0], probe.predict((held_out - mean) / scale)
    return found
