"""Count how often latents fire on a split.

On an image, a latent fires where its activation is > 0 (and selected).

`dead`, `fires_1`, `fires_below_10`: latents that fire on none, on one, on less than 10
images; `alive`: on two or more; `n_active_median`: median number of images;
`dead_train`: latents that fire on no training image; `n_images` N; `n_k_over_m`: N k /
m, the images of a latent if all fired equally often; `images_per_latent`: training
images / m.

Three tell how many latents do different things:

- `effective`: exp of the entropy of firings over the latents, as a share of m. It is 1
  if all fire equally often; 0 if none fires.
- `nested`: of the latents that fire on two images or more, the share of which 90 % of
  the images or more lie within those of one other latent.
- `copies`: of these latents, the share that fires on nearly the same images as another
  one: their Jaccard is .9 or more.
"""

import numpy as np
from jaxtyping import Int

from sae.core.options import Options
from sae.scoring.metrics._overlaps import find_overlaps
from sae.scoring.subject import Scores, Subject

VERSION = 2
STAGE = "score"
SPLITS = ("val", "test")
READS = ("train",)


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the firing counts of one SAE."""
    coder = subject.coder
    codes = subject.codes(split)
    counts = codes.firing_counts()
    counts_on_train = subject.firing_counts("train")
    image_count = len(codes)

    overlaps = find_overlaps(codes.by_latent())
    has_copy = np.zeros(coder.m, bool)
    has_copy[overlaps.alike.ravel()] = True
    is_live = counts >= 2
    return {
        "dead": (counts == 0).sum(),
        "fires_1": (counts == 1).sum(),
        "fires_below_10": (counts < 10).sum(),
        "alive": is_live.sum(),
        "n_active_median": np.median(counts),
        "dead_train": (counts_on_train == 0).sum(),
        "n_images": image_count,
        "n_k_over_m": image_count * coder.k / coder.m,
        "images_per_latent": len(subject.embeddings("train")) / coder.m,
        "effective": effective_count(counts) / coder.m,
        "nested": overlaps.nested[is_live].mean() if is_live.any() else np.nan,
        "copies": has_copy[is_live].mean() if is_live.any() else np.nan,
    }


def effective_count(counts: Int[np.ndarray, " latents"]) -> float:
    """Return exp of the entropy of firings: n if n latents share them equally."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0
