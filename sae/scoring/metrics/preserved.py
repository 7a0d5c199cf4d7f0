"""Ask what a classifier of embeddings still sees in reconstructions.

It is ViSAEBench's M3, on held-out images.

A multinomial logistic regression is fitted on training inputs, and applied to the
split's inputs and to their reconstructions. `preserved_top1`: its top-1 on the latter;
`preserved_share`: as a share of that on the inputs; `preserved_agreement`: on how many
images it says the same. `preserved_null`: the share that the mean input keeps.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sae.core.options import Count, Positive
from sae.core.options import Options as Base
from sae.models.inputs import Inputs
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("train",)
# Images that are looked at at once.
_PART = 4096


class Options(Base):
    """Options say how the classifier is fitted."""

    C: Positive = Field(
        10.0, description="inverse strength of the classifier's l2 penalty"
    )
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )


class _Classifier(NamedTuple):
    """A classifier of inputs (n, d).

    Attributes:
        regression: fitted on standardised training inputs.
        mean: (d,) of the training inputs.
        scale: their standard deviation.
    """

    regression: LogisticRegression
    mean: Float[np.ndarray, " dim"]
    scale: float

    def predict(
        self, inputs: Float[np.ndarray, "images dim"]
    ) -> Int[np.ndarray, " images"]:
        """Return the class of each input."""
        return self.regression.predict((inputs - self.mean) / self.scale)


class _Reference(NamedTuple):
    """A classifier, and what it says of inputs that are no reconstructions.

    Attributes:
        classifier: the classifier.
        of_inputs: the class of each of the split's inputs.
        of_mean: the class of the mean training input.
    """

    classifier: _Classifier
    of_inputs: Int[np.ndarray, " images"]
    of_mean: int


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return what one SAE preserves; nothing where the dataset has no labels."""
    y = subject.labels(split)
    y_train = subject.labels("train", at_most=options.max_train)
    if y is None or y_train is None:
        return {}

    # All SAEs of a bank see the same inputs, but for controls of another norm: hence
    # the space in the key.
    coder = subject.coder
    key = (
        "preserved",
        split,
        options.model_dump_json(),
        coder.input_norm,
        coder.input_scale,
    )
    reference = subject.once_for_all(
        key, lambda: _make_reference(subject, split, y_train, options)
    )
    of_reconstructions = _classify_reconstructions(subject, split, reference.classifier)

    top1_of_inputs = float((reference.of_inputs == y).mean())
    top1 = float((of_reconstructions == y).mean())
    top1_of_mean = float((y == reference.of_mean).mean())
    agreement = float((of_reconstructions == reference.of_inputs).mean())
    return {
        "preserved_top1": top1,
        "preserved_share": top1 / top1_of_inputs if top1_of_inputs else float("nan"),
        "preserved_agreement": agreement,
        "preserved_null": (
            top1_of_mean / top1_of_inputs if top1_of_inputs else float("nan")
        ),
    }


def _make_reference(
    subject: Subject,
    split: str,
    y_train: Int[np.ndarray, " train_images"],
    options: Options,
) -> _Reference:
    """Fit the classifier on training inputs, and apply it to the split's inputs."""
    x = inputs_of(subject.inputs("train", options.max_train))
    mean = x.mean(axis=0)
    scale = x.std()
    regression = LogisticRegression(C=options.C, max_iter=300)
    regression.fit((x - mean) / scale, y_train)

    classifier = _Classifier(regression, mean, scale)
    of_inputs = classifier.predict(inputs_of(subject.inputs(split)))
    of_mean = int(classifier.predict(mean[None])[0])
    return _Reference(classifier, of_inputs, of_mean)


def _classify_reconstructions(
    subject: Subject, split: str, classifier: _Classifier
) -> Int[np.ndarray, " images"]:
    """Return the class of each reconstruction of a split's inputs."""
    codes = subject.codes(split)
    predicted = []
    start = 0
    for part in subject.inputs(split).split(_PART):
        part_codes = codes.rows(start, start + len(part))
        reconstruction = subject.coder.reconstruct(part, part_codes)
        predicted.append(classifier.predict(reconstruction.cpu().numpy()))
        start += len(part)
    return np.concatenate(predicted)


def inputs_of(
    inputs: Float[Tensor, "images dim"] | Inputs,
) -> Float[np.ndarray, "images dim"]:
    """Return prepared inputs as an array."""
    return np.concatenate([part.cpu().numpy() for part in inputs.split(_PART)])
