"""Score SAEs on the images of a card, by the metrics of the project.

Nothing is computed here that a metric does not give: an SAE has the scores that
metrics.csv and `sae.score` have of it on the same images.
"""

import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property, partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sae.cards.images import CardImages
from sae.core import files, registry, versions
from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.metrics._residuals import score_reconstruction
from sae.scoring.metrics.detection import MOST_TRAIN
from sae.scoring.stage import options_of
from sae.scoring.subject import PerLatent, Subject

log = logging.getLogger(__name__)

# What is read on test alone.
ON_TEST = ("pixels", "names", "latents")
# What is computed anew where some of the test images are left out, with its options.
IN_FOLDS: dict[str, dict[str, Any]] = {
    "monosemanticity": {},
    "detection": {"draws": 1},
    "concepts": {"draws": 5},
}


class Measured:
    """The scores of one SAE, each computed when it is first asked for.

    Those of a reference are kept in a folder, for a second card.

    Attributes:
        coder: The SAE.
        latents: A row for each latent, once :meth:`on_test` computed its scores.
    """

    def __init__(
        self, coder: Coder, images: "MeasuredImages", kept_in: Path | None = None
    ) -> None:
        """Begin with no scores.

        Args:
            coder: The SAE.
            images: What it is scored on.
            kept_in: The folder of scores that are kept.
        """
        self.coder = coder
        self.latents = pd.DataFrame()
        self._images = images
        self._computed: dict[str, dict[str, Any]] = {}
        self._folder = None
        if kept_in is not None:
            key = files.sha256_text(
                files.dumps([images.key, tensors_sha256(coder), coder.k])
            )
            self._folder = kept_in / key[:32]

    @cached_property
    def subject(self) -> Subject:
        """The SAE and the images, with its codes."""
        return self._images.subject(self.coder)

    def on_val(self) -> dict[str, Any]:
        """Return the scores on validation that choose."""
        return self._once("val", lambda: self._compute("val"))

    def on_test(self) -> dict[str, Any]:
        """Return the scores on test."""
        return self._once("test", lambda: self._compute("test"))

    def without_fold(self, fold: int) -> dict[str, Any]:
        """Return the scores of `IN_FOLDS` with some of the test images left out."""
        return self._once(f"without{fold}", lambda: self._compute_without(fold))

    def detection_by(self, judge: str) -> list[dict[str, Any]]:
        """Return detection on test by one judge: of all images, then without each fold.

        It is that of `IN_FOLDS`, of one draw.
        """
        module = registry.load("metric", "detection")
        options = registry.head("metric", "detection").options(**IN_FOLDS["detection"])
        subjects = [self.subject]
        for fold in range(int(self._images.folds.max()) + 1):
            subjects.append(self._images.fold_subject(self.coder, fold))
            share_training_codes(self.subject, subjects[-1])
        return [
            _of_sae(
                module.score(subject.limited({"train", "test", judge}), "test", options)
            )
            for subject in subjects
        ]

    def _once(self, part: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if part not in self._computed:
            self._computed[part] = (
                compute()
                if self._folder is None
                else _read_or_compute(self._folder / f"{part}.json", compute)
            )
        return self._computed[part]

    def _compute_without(self, fold: int) -> dict[str, Any]:
        subject = self._images.fold_subject(self.coder, fold)
        share_training_codes(self.subject, subject)
        scores: dict[str, Any] = {}
        for metric, options in IN_FOLDS.items():
            if metric in self._images.metrics:
                form = registry.head("metric", metric).options
                scores.update(_score_by(metric, subject, "test", form(**options)))
        return _of_sae(scores)

    def _compute(self, split: str) -> dict[str, Any]:
        scores: dict[str, Any] = {"m": self.coder.m}
        for metric in self._images.metrics:
            if split == "val" and metric in ON_TEST:
                continue
            subject = self.subject
            if metric == "pixels":
                subject = self._images.looks_subject(self.subject)
            scores.update(_score_by(metric, subject, split, options_of(metric, None)))
        if split == "test":
            self.latents = pd.DataFrame(
                {
                    name: score.values
                    for name, score in scores.items()
                    if isinstance(score, PerLatent)
                }
            )
        return _of_sae(scores)


class MeasuredImages:
    """The images of a card, and what metrics keep of them for all SAEs.

    Attributes:
        images: The images.
        metrics: Those that can be read of them.
        folds: (test images,) the part in which each one is left out.
        key: A hash of all that decides the scores, beside the SAE.
    """

    def __init__(self, images: CardImages, folds: Int[np.ndarray, " images"]) -> None:
        self.images = images
        self.folds = folds
        self.metrics = ["reconstruction", "firing", "monosemanticity"]
        if images.judges:
            self.metrics.append("detection")
        if images.looks:
            self.metrics.append("pixels")
        if images.concepts:
            self.metrics += ["concepts", "names"]
        self.metrics.append("latents")
        names = [("metric", metric) for metric in self.metrics]
        versions_text = versions.joined([*names, ("models", "inputs")])
        self.key = files.sha256_text(f"{images.sha256()} {versions_text} {IN_FOLDS}")
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


def tensors_sha256(coder: Coder) -> str:
    """Return the hash of an SAE's tensors, the same in whatever file they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(coder.tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def without_nan(value: Any) -> Any:
    """Return a value of JSON with None in place of NaN, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and isnan(value) else value


def r2_on(coder: Coder, embeddings: Float[np.ndarray, "images dim"]) -> float:
    """Return the R^2 of an SAE on some embeddings, in its own input space."""
    x = coder.open_inputs(embeddings)
    return score_reconstruction(coder, x, coder.encode(x)).r2


def share_training_codes(source: Subject, target: Subject) -> None:
    """Let one subject have the codes of training images that another one has."""
    count = len(source.embeddings("train"))
    for at_most in (None, MOST_TRAIN):
        if at_most is None or at_most < count:
            make = partial(source.codes, "train", at_most)
            target.once(("codes", "train", at_most), make)


def _read_or_compute(
    file: Path, compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    # The file says whose it is: that of another SAE could lie in its place.
    of = f"{file.parent.name}/{file.name}"
    if file.exists():
        kept = files.read_json(file, "scores of a reference")
        if kept.get("of") == of:
            return {
                name: np.nan if value is None else value
                for name, value in kept["scores"].items()
            }
        log.warning("%s does not say that it is of this SAE; computed again", file)
    scores = compute()
    files.write_json(file, {"of": of, "scores": without_nan(scores)})
    return scores


def _of_sae(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metrics say of an SAE as a whole, without latents and curves."""
    of_sae = {
        name: score.of_sae if isinstance(score, PerLatent) else score
        for name, score in scores.items()
    }
    return {name: value for name, value in of_sae.items() if np.isscalar(value)}


def _score_by(
    metric: str, subject: Subject, split: str, options: Options
) -> dict[str, Any]:
    module = registry.load("metric", metric)
    readable = subject.limited({split, *module.READS})
    return module.score(readable, split, options)
