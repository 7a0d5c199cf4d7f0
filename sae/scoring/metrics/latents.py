"""One row per latent: `ms`, `ms_by_{backbone}`, `n_active` images, binary `purity`, dominant class `top_class`.

`ms_across_groups`, where images have groups: pairs of images of one group do not count.
"""

import numpy as np
import pandas as pd

from sae.core.options import Options
from sae.scoring.metrics import _ms, _purity
from sae.scoring.subject import PerLatent, Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("others",)
SHOWN = ("ms", "purity")


def score(subject: Subject, split: str, options: Options) -> Scores:
    """The table of one SAE; without labels `purity` is NaN and `top_class` None, as for latents that never fire."""
    fires = subject.firing_counts(split)
    purity, top_class = np.full(len(fires), np.nan), np.full(len(fires), None)
    labels = subject.labels(split)
    if labels is not None:
        (purity,), _, (dominant,) = _purity.per_latent(
            subject.codes(split).by_latent(), labels[None]
        )
        named = zip(labels, subject.splits[split].index["label_name"], strict=True)
        names = {
            label: str(label) if pd.isna(name) else name for label, name in named
        }  # A class may have no name.
        top_class[:] = [
            names[c] if n else None for c, n in zip(dominant, fires, strict=True)
        ]
    found = {"ms": _ms.of_subject(subject, split)}
    if subject.groups(split) is not None:
        found["ms_across_groups"] = _ms.of_subject(subject, split, across=True)
    found |= {
        f"ms_by_{judge}": _ms.of_subject(subject, split, judge)
        for judge in subject.others
    }
    found |= {"n_active": fires, "purity": purity, "top_class": top_class}
    return {name: PerLatent(values) for name, values in found.items()}
