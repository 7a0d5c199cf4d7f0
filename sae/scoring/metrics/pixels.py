"""Score how well the images of a latent are found by 8 x 8 pixels of them.

This is a control of `detection`: the same judge, shown the same training images, sees a
thumbnail in place of a backbone's embedding, whitened alike
(`sae.data.backbones.thumbnail`). What it finds takes no network to see.

- `detection_pixels`: the mean of the views per latent and per activation, as that of
  `detection`, over the same latents.
"""

from typing import Annotated, Any

from sae.core.options import FromExperiment
from sae.core.options import Options as Base
from sae.scoring.metrics import detection
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "chosen"
SPLITS = ("test",)
READS = ("train", "thumbnail")


class Options(Base):
    """Options say what the judge is shown."""

    detection: Annotated[dict[str, Any] | None, FromExperiment("detection")] = None
    """Options of `detection`; by default those of the experiment."""


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Score one SAE; nothing where its dataset has no images."""
    of_detection = {**(options.detection or {}), "families": {}}
    auc = detection.latent_aucs(subject, split, detection.Options(**of_detection))
    if auc is None:
        return {}
    return {"detection_pixels": detection.summarise(subject, split, auc)["detection"]}
