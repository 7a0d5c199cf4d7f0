"""Probes on few latents (Gurnee et al. 2023, arXiv:2305.01610): does a class have a latent, or a handful, of its own?

For each class against the rest, latents are ranked by the difference of their mean activation on training images of the
class and of the others, in units of their standard deviation, and a logistic regression is fitted on the `k` first, on
training images as well. `sparse_probe_auc_{k}`: the area under the ROC curve on the split, mean over its classes.
`sparse_probe_auc_null`: at the first k, ranked and fitted on permuted training labels; at any k it is about a half.
"""

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix as Csr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae.core.options import Count
from sae.core.options import Options as Base
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("train",)


class Options(Base):
    """How the probes are fitted."""

    ks: list[Count] = Field(
        [1, 5], min_length=1, description="how many latents a probe reads"
    )
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )
    classes: Count = Field(
        30, description="of more classes, this many are drawn, seeded"
    )


def score(subject: Subject, split: str, options: Options) -> Scores:
    """AUC of one SAE's probes; nothing where the dataset has no labels."""
    y_train, y = (
        subject.labels("train", at_most=options.max_train),
        subject.labels(split),
    )
    if y_train is None or y is None:
        return {}
    train, test = (
        subject.codes("train", options.max_train).matrix(),
        subject.codes(split).matrix(),
    )
    found = {
        f"sparse_probe_auc_{k}": auc(train, y_train, test, y, k, options)
        for k in options.ks
    }
    permuted = np.random.default_rng(0).permutation(y_train)
    return found | {
        "sparse_probe_auc_null": auc(train, permuted, test, y, options.ks[0], options)
    }


def auc(
    train: Csr,
    y_train: np.ndarray,
    test: Csr,
    y_test: np.ndarray,
    k: int,
    options: Options,
) -> float:
    """Mean AUC over classes of probes on k latents; codes (N, m), classes (N,)."""
    there = np.intersect1d(y_train, y_test)
    if len(there) > options.classes:
        there = np.sort(
            np.random.default_rng(0).choice(there, options.classes, replace=False)
        )
    areas = []
    for label in there:
        positive, held_out = y_train == label, y_test == label
        if positive.all() or held_out.all():
            continue
        first = np.argsort(-difference(train, positive), kind="stable")[:k]
        x, x_test = train[:, first].toarray(), test[:, first].toarray()
        scale = x.std(axis=0)
        scale[scale == 0] = 1
        probe = LogisticRegression(max_iter=200).fit(x / scale, positive)
        areas.append(roc_auc_score(held_out, probe.decision_function(x_test / scale)))
    return float(np.mean(areas)) if areas else float("nan")


def difference(codes: Csr, positive: np.ndarray) -> np.ndarray:
    """(m,) how much more active latents are on some images than on others, in standard deviations; 0 if constant."""
    count = codes.shape[0]
    mean, square = (
        np.asarray(part.mean(axis=0)).ravel() for part in (codes, codes.multiply(codes))
    )
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    inside = np.asarray(codes[positive].sum(axis=0)).ravel() / positive.sum()
    outside = (mean * count - inside * positive.sum()) / (count - positive.sum())
    return np.divide(
        inside - outside, deviation, out=np.zeros_like(mean), where=deviation > 0
    )
