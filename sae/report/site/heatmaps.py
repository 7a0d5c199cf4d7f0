"""Heatmaps of a site: where in its highest pictures each latent of an SAE fires."""

from typing import Any

import numpy as np
import pandas as pd

from sae.report.site import pack
from sae.scoring.heatmaps import PICTURES


def payload(maps: pd.DataFrame, m: int, image_count: int) -> dict[str, Any]:
    """Return what `where/{n}` holds.

    Args:
        maps: Of one SAE, at least one (`sae.scoring.heatmaps.Maps`).
        m: How many latents it has.
        image_count: How many test images there are.
    """
    latents = maps["latent"].to_numpy()
    ranks = maps.groupby("latent").cumcount().to_numpy()
    images = np.full((m, PICTURES), -1)
    images[latents, ranks] = maps["image"]
    values = np.frombuffer(b"".join(maps["map"]), np.uint8).reshape(len(maps), -1)
    of_latents = np.zeros((m, PICTURES, values.shape[1]), np.uint8)
    of_latents[latents, ranks] = values
    return {
        "image": pack.index(images, image_count),
        "maps": pack.packed(of_latents, "u8"),
    }
