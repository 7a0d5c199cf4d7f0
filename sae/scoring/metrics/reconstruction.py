"""How well the codes reconstruct: R^2 in both conventions (`_residuals` defines them), NMSE, and L0."""

from sae.core.options import Options
from sae.scoring.metrics import _residuals
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()
ALONE = True


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Reconstruction of one SAE: `r2`, `r2_dim_mean`, `nmse`, `constant_dims`, `l0`."""
    codes = subject.codes(split)
    return _residuals.fit(subject.coder, subject.inputs(split), codes)._asdict() | {
        "l0": codes.l0()
    }
