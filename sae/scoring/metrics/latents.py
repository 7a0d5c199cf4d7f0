"""Describe each latent in a row.

Columns: `ms`, `ms_by_{backbone}`, `n_active` images, binary `purity`, dominant class
`top_class`.

`ms_across_groups`, where images have groups: pairs of images of one group do not count.
"""

import numpy as np
import pandas as pd
from jaxtyping import Int

from sae.core.options import Options
from sae.scoring.metrics import _ms, _purity
from sae.scoring.subject import PerLatent, Scores, Subject

VERSION = 1
STAGE = "chosen"
SPLITS = ("test",)
READS = ("others",)


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the table of one SAE.

    Without labels `purity` is NaN and `top_class` None, as for latents that never fire.
    """
    firing_counts = subject.firing_counts(split)
    purity = np.full(len(firing_counts), np.nan)
    top_class = np.full(len(firing_counts), None)
    labels = subject.labels(split)
    if labels is not None:
        codes = subject.codes(split).by_latent()
        by_labelling = _purity.per_latent(codes, labels[None])
        purity = by_labelling.binary[0]
        name_by_class = _class_names(labels, subject.splits[split].index["label_name"])
        top_class[:] = [
            name_by_class[dominant] if count else None
            for dominant, count in zip(
                by_labelling.dominant[0], firing_counts, strict=True
            )
        ]

    columns = {"ms": _ms.subject_scores(subject, split)}
    if subject.groups(split) is not None:
        columns["ms_across_groups"] = _ms.subject_scores(subject, split, across=True)
    for judge in subject.others:
        columns[f"ms_by_{judge}"] = _ms.subject_scores(subject, split, judge)
    columns["n_active"] = firing_counts
    columns["purity"] = purity
    columns["top_class"] = top_class
    return {name: PerLatent(values) for name, values in columns.items()}


def _class_names(
    labels: Int[np.ndarray, " images"], label_names: pd.Series
) -> dict[int, str]:
    names = {}
    # A class without a name has its number.
    for label, name in zip(labels, label_names, strict=True):
        names[label] = str(label) if pd.isna(name) else name
    return names
