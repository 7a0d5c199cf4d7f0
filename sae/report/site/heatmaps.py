"""Heatmaps of a site: where in its highest pictures each latent of an SAE fires."""

from pathlib import Path

import numpy as np
import pandas as pd

from sae.report.site import pack
from sae.scoring.heatmaps import PICTURES


def put(
    site: Path, number: int, maps: pd.DataFrame | None, m: int, image_count: int
) -> None:
    """Write `where/{number}`, if an SAE has heatmaps.

    Args:
        site: The folder of the site.
        number: That of the SAE.
        maps: Its heatmaps (`sae.scoring.heatmaps.Maps`).
        m: How many latents it has.
        image_count: How many test images there are.
    """
    if maps is None or maps.empty:
        return
    latents = maps["latent"].to_numpy()
    ranks = maps.groupby("latent").cumcount().to_numpy()
    images = np.full((m, PICTURES), -1)
    images[latents, ranks] = maps["image"]
    values = np.frombuffer(b"".join(maps["map"]), np.uint8).reshape(len(maps), -1)
    of_latents = np.zeros((m, PICTURES, values.shape[1]), np.uint8)
    of_latents[latents, ranks] = values
    payload = {
        "image": pack.index(images, image_count),
        "maps": pack.packed(of_latents, "u8"),
    }
    pack.put(site, f"where/{number}", payload)
