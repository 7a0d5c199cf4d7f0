"""Monosemanticity by the embeddings of other backbones, which took no part in training.

`ms_mean_alive_by_{backbone}` for each other backbone of the experiment, and their mean `ms_mean_alive_independent`.
"""

import numpy as np

from sae.core.options import Options
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

STAGE = "score_chosen"
SPLITS = ("test",)
READS = ("others",)


def score(subject: Subject, split: str, options: Options) -> Scores:
    """MS of one SAE by each judge; nothing where there is no other backbone."""
    by = {judge: _ms.summary(_ms.of_subject(subject, split, judge)).mean_alive for judge in subject.others}
    found = {f"ms_mean_alive_by_{judge}": value for judge, value in by.items()}
    return found | ({"ms_mean_alive_independent": float(np.mean(list(by.values())))} if by else {})
