"""Score how well the codes reconstruct: R^2 in both conventions, NMSE, and L0.

`_residuals` defines the conventions.
"""

from sae.core.options import Options
from sae.scoring.metrics import _residuals
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return `r2`, `r2_dim_mean`, `nmse`, `constant_dims` and `l0` of one SAE."""
    codes = subject.codes(split)
    scores = _residuals.score_reconstruction(
        subject.coder, subject.inputs(split), codes
    )
    return {**scores._asdict(), "l0": codes.l0()}
