"""Compute monosemanticity by the embeddings of other backbones.

These took no part in training.

`ms_mean_alive_by_{backbone}` for each other backbone of the experiment, and each of its
judges; `ms_mean_alive_independent`, the mean over those of another family. Sizes of one
architecture, trained alike on the same images, are no independent judges.
`ms_mean_alive_independent_across_groups`: that mean without pairs of images of one
group, where the dataset has groups.
"""

from typing import Annotated

import numpy as np

from sae.core.options import FromExperiment
from sae.core.options import Options as Base
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "chosen"
SPLITS = ("test",)
READS = ("others",)


class Options(Base):
    """Options say who judges whom."""

    families: Annotated[dict[str, str] | None, FromExperiment("families")] = None
    """{backbone: its family}; by default as the backbones' entries say."""


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the MS of one SAE by each judge; nothing where there is no judge."""
    families = options.families or {}
    own_family = families.get(subject.backbone, subject.backbone)
    scores: Scores = {}
    independent = []
    independent_across_groups = []
    for judge in subject.others:
        ms = _mean_alive(subject, split, judge)
        scores[f"ms_mean_alive_by_{judge}"] = ms
        if families.get(judge, judge) == own_family:
            continue
        independent.append(ms)
        if subject.groups(split) is not None:
            across_groups = _mean_alive(subject, split, judge, across=True)
            independent_across_groups.append(across_groups)

    if independent:
        scores["ms_mean_alive_independent"] = float(np.mean(independent))
    if independent_across_groups:
        scores["ms_mean_alive_independent_across_groups"] = float(
            np.mean(independent_across_groups)
        )
    return scores


def _mean_alive(
    subject: Subject, split: str, judge: str, across: bool = False
) -> float:
    ms = _ms.subject_scores(subject, split, judge, across)
    return _ms.summary(ms).mean_alive
