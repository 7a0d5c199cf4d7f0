"""Count how often latents fire on a split.

On an image, a latent fires where its activation is > 0 (and selected).

`dead`, `fires_1`, `fires_below_10`: latents that fire on none, on one, on less than 10
images; `alive`: on two or more; `n_active_median`: median number of images;
`dead_train`: latents that fire on no training image; `n_images` N; `n_k_over_m`: N k /
m, the images of a latent if all fired equally often; `images_per_latent`: training
images / m.
"""

import numpy as np

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train",)


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the firing counts of one SAE."""
    coder = subject.coder
    counts = subject.firing_counts(split)
    counts_on_train = subject.firing_counts("train")
    image_count = len(subject.embeddings(split))
    return {
        "dead": (counts == 0).sum(),
        "fires_1": (counts == 1).sum(),
        "fires_below_10": (counts < 10).sum(),
        "alive": (counts >= 2).sum(),
        "n_active_median": np.median(counts),
        "dead_train": (counts_on_train == 0).sum(),
        "n_images": image_count,
        "n_k_over_m": image_count * coder.k / coder.m,
        "images_per_latent": len(subject.embeddings("train")) / coder.m,
    }
