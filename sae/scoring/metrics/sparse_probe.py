"""Fit probes on few latents (Gurnee et al. 2023, arXiv:2305.01610).

They ask whether a class has a latent, or a handful, of its own.

For each class against the rest, latents are ranked by the difference of their mean
activation on training images of the class and of the others, in units of their standard
deviation, and a logistic regression is fitted on the `k` first, on training images as
well. `sparse_probe_auc_{k}`: the area under the ROC curve on the split, mean over its
classes. `sparse_probe_auc_null`: at the first k, ranked and fitted on permuted training
labels; at any k it is about a half.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from pydantic import Field
from scipy.sparse import csr_matrix
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
    """Options say how the probes are fitted."""

    ks: list[Count] = Field(
        [1, 5], min_length=1, description="how many latents a probe reads"
    )
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )
    classes: Count = Field(
        30, description="classes that are probed; of more, a seeded sample is drawn"
    )


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the AUC of one SAE's probes; nothing where the dataset has no labels."""
    y_train = subject.labels("train", at_most=options.max_train)
    y = subject.labels(split)
    if y_train is None or y is None:
        return {}
    train = subject.codes("train", options.max_train).matrix()
    test = subject.codes(split).matrix()
    scores: Scores = {
        f"sparse_probe_auc_{k}": auc(train, y_train, test, y, k, options)
        for k in options.ks
    }

    # By chance the AUC is about a half at any k, so one k is enough.
    permuted = np.random.default_rng(0).permutation(y_train)
    null = auc(train, permuted, test, y, options.ks[0], options)
    scores["sparse_probe_auc_null"] = null
    return scores


def auc(
    train: Float64[csr_matrix, "train_images latents"],
    y_train: Int[np.ndarray, " train_images"],
    test: Float64[csr_matrix, "test_images latents"],
    y_test: Int[np.ndarray, " test_images"],
    k: int,
    options: Options,
) -> float:
    """Return the mean AUC over classes of probes on k latents.

    Args:
        train: codes of training images.
        y_train: their classes.
        test: codes of the images that the probes are asked about.
        y_test: their classes.
        k: how many latents a probe reads.
        options: how many classes are asked about.
    """
    classes = np.intersect1d(y_train, y_test)
    if len(classes) > options.classes:
        rng = np.random.default_rng(0)
        classes = np.sort(rng.choice(classes, options.classes, replace=False))

    areas = []
    for label in classes:
        is_class_train = y_train == label
        is_class_test = y_test == label
        if is_class_train.all() or is_class_test.all():
            continue
        order = np.argsort(-difference(train, is_class_train), kind="stable")
        latents = order[:k]
        x_train = train[:, latents].toarray()
        x_test = test[:, latents].toarray()
        scale = x_train.std(axis=0)
        scale[scale == 0] = 1

        probe = LogisticRegression(max_iter=200).fit(x_train / scale, is_class_train)
        decision = probe.decision_function(x_test / scale)
        areas.append(roc_auc_score(is_class_test, decision))
    return float(np.mean(areas)) if areas else float("nan")


def difference(
    codes: Float64[csr_matrix, "images latents"], positive: Bool[np.ndarray, " images"]
) -> Float[np.ndarray, " latents"]:
    """Return how much more active latents are on some images than on the others.

    Args:
        codes: of all images.
        positive: which images.

    Returns:
        The difference of the means in standard deviations; 0 for a constant latent.
    """
    count = codes.shape[0]
    positive_count = positive.sum()
    mean = np.asarray(codes.mean(axis=0)).ravel()
    mean_square = np.asarray(codes.multiply(codes).mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(mean_square - mean**2, 0))

    inside = np.asarray(codes[positive].sum(axis=0)).ravel() / positive_count
    outside = (mean * count - inside * positive_count) / (count - positive_count)
    return np.divide(
        inside - outside, deviation, out=np.zeros_like(mean), where=deviation > 0
    )
