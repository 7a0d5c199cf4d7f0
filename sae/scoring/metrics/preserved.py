"""What a classifier of embeddings still sees in reconstructions (ViSAEBench's M3, on held-out images).

A multinomial logistic regression is fitted on training inputs, and applied to the split's inputs and to their
reconstructions. `preserved_top1`: its top-1 on the latter; `preserved_share`: as a share of that on the inputs;
`preserved_agreement`: on how many images it says the same. `preserved_null`: the share that the mean input keeps.
"""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from sae.core.options import Count, Positive
from sae.core.options import Options as Base
from sae.models.inputs import Inputs
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("train",)
_PART = 4096  # images at once


class Options(Base):
    """How the classifier is fitted."""

    C: Positive = Field(10.0, description="inverse strength of its l2 penalty")
    max_train: Count = Field(
        10_000, description="training images; of more, a seeded sample is drawn"
    )


def score(subject: Subject, split: str, options: Options) -> Scores:
    """What one SAE preserves; nothing where the dataset has no labels."""
    y, y_train = (
        subject.labels(split),
        subject.labels("train", at_most=options.max_train),
    )
    if y is None or y_train is None:
        return {}
    coder = subject.coder
    # All SAEs of a bank see the same inputs, but for controls of another norm: hence the space in the key.
    key = (
        "preserved",
        split,
        options.model_dump_json(),
        coder.input_norm,
        coder.input_scale,
    )
    predict, before, of_mean = subject.once_for_all(
        key, lambda: _classifier(subject, split, y_train, options)
    )
    codes, after, start = subject.codes(split), [], 0
    for part in subject.inputs(split).split(_PART):
        rebuilt = coder.reconstruct(part, codes.rows(start, start + len(part)))
        after.append(predict(rebuilt.cpu().numpy()))
        start += len(part)
    said, top1 = np.concatenate(after), float((before == y).mean())
    return {
        "preserved_top1": float((said == y).mean()),
        "preserved_share": float((said == y).mean()) / top1 if top1 else float("nan"),
        "preserved_agreement": float((said == before).mean()),
        "preserved_null": float((y == of_mean).mean()) / top1 if top1 else float("nan"),
    }


def _classifier(
    subject: Subject, split: str, y_train: np.ndarray, options: Options
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, int]:
    """Predicts classes of inputs (n, d); what it says of the split's inputs (N,); what of the mean training input."""
    x = inputs_of(subject.inputs("train", options.max_train))
    mean, scale = x.mean(axis=0), x.std()
    fitted = LogisticRegression(C=options.C, max_iter=300).fit(
        (x - mean) / scale, y_train
    )

    def predict(inputs: np.ndarray) -> np.ndarray:
        return fitted.predict((inputs - mean) / scale)

    return (
        predict,
        predict(inputs_of(subject.inputs(split))),
        int(predict(mean[None])[0]),
    )


def inputs_of(inputs: torch.Tensor | Inputs) -> np.ndarray:
    """Prepared inputs (N, d) as an array."""
    return np.concatenate([part.cpu().numpy() for part in inputs.split(_PART)])
