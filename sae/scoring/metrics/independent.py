"""Monosemanticity by the embeddings of other backbones, which took no part in training.

`ms_mean_alive_by_{backbone}` for each other backbone of the experiment; `ms_mean_alive_independent`, the mean over
those of another family. Sizes of one architecture, trained alike on the same images, are no independent judges.
"""

import numpy as np
from pydantic import Field

from sae.core.options import Options as Base
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

STAGE = "score_chosen"
SPLITS = ("test",)
READS = ("others",)


class Options(Base):
    """Who judges whom."""

    families: dict[str, str] | None = Field(
        None, description="{backbone: family}; by default as the backbones' entries say"
    )


def score(subject: Subject, split: str, options: Options) -> Scores:
    """MS of one SAE by each judge; nothing where there is no other backbone."""
    families = options.families or {}
    own = families.get(subject.backbone, subject.backbone)
    by = {judge: _ms.summary(_ms.of_subject(subject, split, judge)).mean_alive for judge in subject.others}
    independent = [ms for judge, ms in by.items() if families.get(judge, judge) != own]
    found = {f"ms_mean_alive_by_{judge}": ms for judge, ms in by.items()}
    return found | ({"ms_mean_alive_independent": float(np.mean(independent))} if independent else {})
