"""Whether another model finds the images of a latent, shown some of them: an AUC, .5 by chance.

A judge, a backbone of another family, is shown training images on which the latent fires, and as many random ones on
which it does not. It ranks the images of a split along the difference of the two means of its embeddings: of unit norm,
centred, and whitened by the principal axes of train. The score is the AUC of firing against not firing, mean over draws
of the random images, over the judges of a family, and over families. Kin to the Machine Interpretability Score
(Zimmermann et al. 2024) and to detection scoring (Paulo et al. 2024, arXiv:2410.13928), whose judges are shown and
asked alike. docs/protocol.md says what is measured, and why. Of more than `MOST_TRAIN` training images a seeded sample
stands for all: whatever is read of training images, how often a latent fires on them included, is read of the sample.

`detection_alive`: mean over the latents that are measured; `detection_measured`: their share of the dictionary;
`detection`: mean of 2 AUC - 1 over all latents, what was not measured counting as 0; curve `detection_by_frequency`:
mean by the share of the images on which a latent fires, at the upper end of each of `BANDS`; per latent `detection`, on
test. Where `kinds` has `random`, the same with random firing images in place of the highest: `detection_random`, ...
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
import scipy.sparse
from pydantic import AfterValidator, Field

from sae.core.options import Count, Seed, Share, distinct
from sae.core.options import Options as Base
from sae.data.store import rows_of
from sae.models.inputs import unit_rows
from sae.scoring.subject import Curve, PerLatent, Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train", "others")
ALONE = True
SHOWN = ("detection",)
FILLED = {"families": "families"}
RANKINGS = ("draws", "kinds")
BANDS = (0.01, 0.03, 0.1, 1.0)
CHUNK, LATENTS = 16_384, 256  # rows and latents that are looked at at once
MOST_TRAIN = (
    100_000  # training images; of more a seeded sample stands for all, as with probes
)
RIDGE = 1e-3  # Of whitening, as a share of the largest variance.


# Of each draw, by latent: the training images that are shown, on which it fires and on which it does not.
Shown = list[tuple[list[np.ndarray], list[np.ndarray]]]


class Options(Base):
    """What a judge is shown, and which latents are measured."""

    shown: Count = 10
    """Images on which the latent fires, and as many on which it does not."""
    kinds: Annotated[
        list[Literal["highest", "random"]],
        Field(min_length=1),
        AfterValidator(distinct),
    ] = Field(["highest"])
    """Which firing images are shown: those of highest activation, or random ones; of each group one at most."""
    draws: Count = 5
    """Draws of the images on which it does not fire."""
    seed: Seed = 0
    """Of these."""
    least_train: Count = 20
    """Training images on which a latent has to fire to be measured."""
    least_test: Count = 5
    """Likewise of test images; on validation in proportion to its size, but 2 at least."""
    most: Share = 0.5
    """The share of the training images on which it may fire."""
    families: dict[str, str] | None = None
    """{backbone: family}; by default as the backbones' entries say"""


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Detection of one SAE; nothing where no backbone of another family sees its images."""
    families = options.families or {}
    own, judges = (
        families.get(subject.backbone, subject.backbone),
        dict[str, list[str]](),
    )
    for judge in subject.others:
        if (family := families.get(judge, judge)) != own:
            judges.setdefault(family, []).append(judge)
    if not judges:
        return {}
    train, here = (
        subject.codes("train", MOST_TRAIN).by_latent(),
        subject.codes(split).by_latent(),
    )
    rows, groups = subject.splits["train"].drawn(MOST_TRAIN), subject.groups("train")
    measured = _measured(train, here, split, options)
    here = here[:, measured]
    share = np.diff(here.indptr) / here.shape[0]
    bands, found = np.searchsorted(BANDS, share), dict[str, Any]()
    for kind in options.kinds:
        shown = _shown(
            train, measured, kind, None if groups is None else groups[rows], options
        )
        of_judges = [
            [_of_judge(subject, split, judge, rows, shown, here) for judge in of]
            for of in judges.values()
        ]
        by_family = [np.mean(of, axis=0) for of in of_judges]
        auc = np.mean(by_family, axis=0)
        name, m = (
            "detection" if kind == "highest" else "detection_random",
            subject.coder.m,
        )
        means = [
            auc[bands == band].mean() if (bands == band).any() else np.nan
            for band in range(len(BANDS))
        ]
        found |= {
            f"{name}_alive": auc.mean() if len(auc) else np.nan,
            f"{name}_measured": len(auc) / m,
            name: (2 * auc - 1).sum() / m,
            f"{name}_by_frequency": Curve(BANDS, means),
        }
        if split == "test":
            found[f"{name}_of_latent"] = PerLatent(
                values := np.full(m, np.nan), name, of_judged=True
            )
            values[measured] = auc
    return found


def _measured(
    train: scipy.sparse.csc_matrix,
    here: scipy.sparse.csc_matrix,
    split: str,
    options: Options,
) -> np.ndarray:
    """The latents that fire often enough to be judged, and not on nearly everything."""
    fires, fires_here, count = (
        np.diff(train.indptr),
        np.diff(here.indptr),
        here.shape[0],
    )
    in_proportion = max(2, round(options.least_train * count / train.shape[0]))
    least = (
        options.least_test
        if split == "test"
        else min(in_proportion, options.least_test)
    )
    enough = (fires >= options.least_train) & (fires <= options.most * train.shape[0])
    return np.flatnonzero(enough & (fires_here >= least) & (fires_here < count))


def _shown(
    train: scipy.sparse.csc_matrix,
    latents: np.ndarray,
    kind: str,
    groups: np.ndarray | None,
    options: Options,
) -> Shown:
    found, count = Shown(), train.shape[0]
    for draw in range(options.draws):
        rank = np.random.default_rng([options.seed, draw]).permutation(
            count
        )  # The same for every SAE.
        order = np.argsort(rank)
        if not found or kind == "random":
            by = (
                (rows, -values if kind == "highest" else rank[rows])
                for rows, values in _columns(train, latents)
            )
            yes = [
                _first(rows, order_by, groups, options.shown) for rows, order_by in by
            ]
        found.append(
            (
                yes,
                [
                    _silent(order, rows, options.shown)
                    for rows, _ in _columns(train, latents)
                ],
            )
        )
    return found


def _of_judge(
    subject: Subject,
    split: str,
    judge: str,
    rows: np.ndarray,
    shown: Shown,
    firing: scipy.sparse.csc_matrix,
) -> np.ndarray:
    """(measured,) AUC by one judge, mean over draws."""
    of = subject.others[judge]
    train = subject.once_for_all(
        ("detection", judge, "train"), lambda: rows_of(of["train"], rows)
    )
    axes = subject.once_for_all(("detection", judge), lambda: whitening(train))
    here = subject.once_for_all(
        ("detection", judge, split), lambda: whitened(of[split], axes)
    )
    found = np.zeros(firing.shape[1])
    for yes, no in shown:
        for start in range(0, len(found), LATENTS):
            part = slice(start, start + LATENTS)
            pairs = zip(yes[part], no[part], strict=True)
            apart = np.array(
                [mean(train, fires) - mean(train, silent) for fires, silent in pairs]
            )
            found[part] += aucs(
                here @ (apart @ axes).astype(np.float32).T, firing[:, part]
            ) / len(shown)
    return found


def mean(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(d') the mean of some rows (N, d') at unit norm."""
    return unit_rows(embeddings[np.sort(rows)]).mean(axis=0)


def whitening(embeddings: np.ndarray) -> np.ndarray:
    """(d', d') that whitens embeddings (N, d') of unit norm by their principal axes."""
    count, mean, square = len(embeddings), 0.0, 0.0
    for start in range(0, count, CHUNK):
        rows = unit_rows(embeddings[start : start + CHUNK])
        mean, square = mean + rows.sum(axis=0) / count, square + rows.T @ rows / count
    variances, axes = np.linalg.eigh(square - np.outer(mean, mean))
    return axes / np.sqrt(np.maximum(variances, 0) + RIDGE * variances[-1])


def whitened(embeddings: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(N, d') float32 of embeddings (N, d') of unit norm."""
    parts = range(0, len(embeddings), CHUNK)
    return np.concatenate(
        [
            (unit_rows(embeddings[i : i + CHUNK]) @ axes).astype(np.float32)
            for i in parts
        ]
    )


def aucs(scores: np.ndarray, firing: scipy.sparse.csc_matrix) -> np.ndarray:
    """(m,) AUC of each latent's scores (N, m) for the images on which it fires; equal ones count half."""
    count, found = scores.shape[0], []
    for column, (rows, _) in zip(
        np.ascontiguousarray(scores.T),
        _columns(firing, range(firing.shape[1])),
        strict=True,
    ):
        every, own = np.sort(column), column[rows]
        below = np.searchsorted(every, own, "left") + np.searchsorted(
            every, own, "right"
        )
        found.append(
            (below.sum() - len(own) ** 2) / 2 / (len(own) * (count - len(own)))
        )
    return np.array(found)


def _columns(
    codes: scipy.sparse.csc_matrix, latents: Iterable[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for latent in latents:
        part = slice(codes.indptr[latent], codes.indptr[latent + 1])
        yield codes.indices[part], codes.data[part]


def _first(
    rows: np.ndarray, by: np.ndarray, groups: np.ndarray | None, count: int
) -> np.ndarray:
    """The `count` rows that come first, of each group one at most."""
    rows = rows[np.argsort(by, kind="stable")]
    if groups is None:
        return rows[:count]
    _, first = np.unique(groups[rows], return_index=True)
    return rows[np.sort(first)[:count]]


def _silent(order: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of an order that are none of `rows`, which are ascending."""
    reach = 4 * count
    while True:
        some = order[:reach]
        at = np.minimum(np.searchsorted(rows, some), len(rows) - 1)
        silent = some[rows[at] != some]
        if len(silent) >= count or reach >= len(order):
            return silent[:count]
        reach *= 4
