"""Draw README's picture: a latent with a name, and its match in another SAE.

`python docs/figures/latent.py` makes docs/figures/latent.png of a finished demo
(`make demo`). Cell and latent are picked by hand. The match is the latent with Reg. 1
whose decoder row is most alike, as on the page of a latent in the explorer.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.comparison.published import BASELINE, REG1
from sae.core import files
from sae.data import dataset as datasets
from sae.data import store
from sae.models.coder import Coder
from sae.report.site import latents

RESULTS = Path("results")
OUT = Path(__file__).with_suffix(".png")
IMAGES = 10
CELL = ("emoji", "efficientnet_lite0_fast", 8)
LATENT = 257
LABELS = {
    BASELINE: "A latent of Top-k",
    REG1: "Its match in Top-k with Reg. 1",
}


def main() -> None:
    """Draw the ten highest test images of the two latents, a row each."""
    dataset, backbone, k = CELL
    bank = read_bank(RESULTS / f"demo/saes/{dataset}/{backbone}/k{k}/bank.json")
    test = store.read(RESULTS / f"activations/{dataset}/{backbone}/test")
    rows = files.read_parquet(RESULTS / "demo/latents.parquet")
    is_of_cell = (rows[["dataset", "backbone", "k"]] == list(CELL)).all(axis=1)
    rows = rows[is_of_cell & rows["selected"] & (rows["split"] == "test")]
    coders: dict[str, Coder] = {}
    tables: dict[str, pd.DataFrame] = {}
    for method in LABELS:
        coders[method], tables[method] = open_sae(bank, rows, method)

    matches, _ = latents.nearest(coders[BASELINE], coders[REG1], 1)

    manifest = files.read_json(
        RESULTS / f"datasets/{dataset}/manifest.json", "manifest of dataset"
    )
    open_image = datasets.reader(manifest["spec"], RESULTS / "artifacts")
    figure, axes = plt.subplots(2, IMAGES, figsize=(10, 2.9), dpi=120)
    for row, method, number in zip(
        axes, LABELS, (LATENT, int(matches[LATENT, 0])), strict=True
    ):
        about = tables[method].loc[number]
        title = (
            f"{LABELS[method]}, named “{about['name']}” "
            f"(precision {about['name_precision']:.2f})"
        )
        row[0].set_title(title, loc="left", fontsize=12)
        codes = latents.encode(coders[method], test.embeddings)
        images = latents.rank_codes(codes).images_of(number)[:IMAGES]
        for axis, image in zip(row, images, strict=True):
            axis.imshow(open_image(test.index["path"].iloc[image]))
        for axis in row:
            axis.axis("off")
    figure.subplots_adjust(0.01, 0, 0.99, 0.9, wspace=0.1, hspace=0.2)
    figure.savefig(OUT, facecolor="white")


def open_sae(bank: Bank, rows: pd.DataFrame, method: str) -> tuple[Coder, pd.DataFrame]:
    """Return the chosen SAE of a method, with its first seed, and rows of its latents."""
    of_method = rows[rows["method"] == method]
    trial, seed = of_method[["trial", "seed"]].iloc[0]
    is_of_sae = (of_method["trial"] == trial) & (of_method["seed"] == seed)
    entry = next(
        sae
        for sae in bank.saes
        if (sae.method, sae.name, sae.seed) == (method, trial, seed)
    )
    return bank.open(entry), of_method[is_of_sae].set_index("latent").sort_index()


if __name__ == "__main__":
    main()
