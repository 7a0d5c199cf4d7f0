"""Score SAEs on the images of a card, by the metrics of the project.

Nothing is computed here that a metric does not give: an SAE has the scores that
metrics.csv and `sae.score` have of it on the same images.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sae.cards.images import CardImages
from sae.core import registry
from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.metrics._residuals import score_reconstruction
from sae.scoring.metrics.detection import MOST_TRAIN
from sae.scoring.stage import options_of
from sae.scoring.subject import PerLatent, Subject

# What is read on test alone.
ON_TEST = ("looks", "names", "latents")
# What is computed anew where some of the test images are left out, with its options.
IN_FOLDS: dict[str, dict[str, Any]] = {
    "monosemanticity": {},
    "detection": {"draws": 1},
    "concepts": {"draws": 5},
}


class Measured:
    """The scores of one SAE, each computed when it is first asked for.

    Attributes:
        coder: The SAE.
        subject: The SAE and the images, with its codes.
        latents: A row for each latent; empty before :meth:`on_test`.
    """

    def __init__(self, coder: Coder, images: "MeasuredImages") -> None:
        self.coder = coder
        self._images = images
        self.subject = images.subject(coder)
        self._val: dict[str, Any] = {}
        self._test: dict[str, Any] = {}
        self._without_fold: dict[int, dict[str, Any]] = {}
        self.latents = pd.DataFrame()

    def on_val(self) -> dict[str, Any]:
        """Return the scores on validation that choose."""
        if not self._val:
            self._val = self._scores("val")
        return self._val

    def on_test(self) -> dict[str, Any]:
        """Return the scores on test."""
        if not self._test:
            self._test = self._scores("test")
        return self._test

    def without_fold(self, fold: int) -> dict[str, Any]:
        """Return the scores of `IN_FOLDS` with some of the test images left out."""
        if fold in self._without_fold:
            return self._without_fold[fold]
        subject = self._images.fold_subject(self.coder, fold)
        share_training_codes(self.subject, subject)
        scores: dict[str, Any] = {}
        for metric, options in IN_FOLDS.items():
            if metric in self._images.metrics:
                form = registry.head("metric", metric).options
                scores.update(_score_by(metric, subject, "test", form(**options)))
        self._without_fold[fold] = {
            name: value for name, value in scores.items() if np.isscalar(value)
        }
        return self._without_fold[fold]

    def _scores(self, split: str) -> dict[str, Any]:
        scores: dict[str, Any] = {"m": self.coder.m}
        for metric in self._images.metrics:
            if split == "val" and metric in ON_TEST:
                continue
            subject = self.subject
            if metric == "looks":
                subject = self._images.looks_subject(self.subject)
            scores.update(_score_by(metric, subject, split, options_of(metric, None)))
        per_latent = {
            name: score
            for name, score in scores.items()
            if isinstance(score, PerLatent)
        }
        if split == "test":
            self.latents = pd.DataFrame(
                {score.name or name: score.values for name, score in per_latent.items()}
            )
        return {name: value for name, value in scores.items() if name not in per_latent}


class MeasuredImages:
    """The images of a card, and what metrics keep of them for all SAEs.

    Attributes:
        images: The images.
        metrics: Those that can be read of them.
        folds: (test images,) the part in which each one is left out.
    """

    def __init__(self, images: CardImages, folds: Int[np.ndarray, " images"]) -> None:
        self.images = images
        self.folds = folds
        self.metrics = ["reconstruction", "firing", "monosemanticity"]
        if images.judges:
            self.metrics.append("detection")
        if images.looks:
            self.metrics.append("looks")
        if images.concepts:
            self.metrics += ["concepts", "names"]
        self.metrics.append("latents")
        self._shared: dict[Hashable, Any] = {}
        self._shared_for_looks: dict[Hashable, Any] = {}
        self._fold_images: dict[int, tuple[CardImages, dict[Hashable, Any]]] = {}

    def subject(self, coder: Coder) -> Subject:
        """Return an SAE on these images."""
        images = self.images
        return Subject(
            coder,
            images.splits,
            images.judges,
            self._shared,
            concepts=images.concepts,
        )

    def looks_subject(self, subject: Subject) -> Subject:
        """Return an SAE on these images, with thumbnails in place of a backbone."""
        by_looks = Subject(
            subject.coder,
            self.images.splits,
            {"thumbnail": self.images.looks},
            self._shared_for_looks,
        )
        share_training_codes(subject, by_looks)
        return by_looks

    def fold_subject(self, coder: Coder, fold: int) -> Subject:
        """Return an SAE on these images without one part of the test images."""
        if fold not in self._fold_images:
            rows = np.flatnonzero(self.folds != fold)
            self._fold_images[fold] = (self.images.test_rows(rows), {})
        images, shared = self._fold_images[fold]
        return Subject(
            coder, images.splits, images.judges, shared, concepts=images.concepts
        )


def r2_on(coder: Coder, embeddings: Float[np.ndarray, "images dim"]) -> float:
    """Return the R^2 of an SAE on some embeddings, in its own input space."""
    x = coder.open_inputs(embeddings)
    return score_reconstruction(coder, x, coder.encode(x)).r2


def share_training_codes(source: Subject, target: Subject) -> None:
    """Let one subject have the codes of training images that another one has."""
    count = len(source.embeddings("train"))
    for at_most in (None, MOST_TRAIN):
        if at_most is None or at_most < count:
            codes = source.codes("train", at_most)
            target.once(("codes", "train", at_most), lambda codes=codes: codes)


def _score_by(
    metric: str, subject: Subject, split: str, options: Options
) -> dict[str, Any]:
    module = registry.load("metric", metric)
    readable = subject.limited({split, *module.READS})
    return module.score(readable, split, options)
