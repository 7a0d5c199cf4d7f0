"""How a heatmap ranks the positions of a picture, beside what hiding them does.

    python bench/occlusion.py results/caltech101 caltech101 dinov2_vit_s14

Of 200 test pictures (--pictures), drawn by lot, the latent of Top-k that is highest is looked at.
Each position in turn is painted with the transform's mean colour. The fall of the
latent's pre-activation is compared with the heatmap, by Spearman's rank correlation
over the positions of a picture.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from sae.bank.read import read as read_bank
from sae.core import files
from sae.data import dataset as datasets
from sae.data import store
from sae.models.apply import load_like
from sae.scoring import heatmaps

PICTURES = 200


def main() -> None:
    """Print the rank correlation: its mean and quartiles over pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiment", type=Path, help="its results")
    parser.add_argument("dataset")
    parser.add_argument("backbone")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    arguments = parser.parse_args()
    results = arguments.experiment.parent
    cell = f"{arguments.dataset}/{arguments.backbone}"
    (bank_file,) = arguments.experiment.glob(f"saes/{cell}/*/bank.json")
    bank = read_bank(bank_file)
    coder = bank.open(
        next(sae for sae in bank.saes if sae.method == "topk" and sae.chosen)
    )
    test = store.read(results / f"activations/{cell}/test")
    manifest = files.read_json(results / f"datasets/{arguments.dataset}/manifest.json")
    open_image = datasets.reader(manifest["spec"], results / "artifacts")

    images = test.sample(arguments.pictures)
    paths = images.index["path"].tolist()
    viewer = heatmaps.viewer_like(test.manifest, results / "artifacts")
    size = viewer.enlarged or test.manifest["image_size"]
    _, backbone = load_like(test.manifest, results / "artifacts", size)
    model = backbone.model.eval()
    correlations = []
    for path in paths:
        tensor = backbone.transform(open_image(path))
        hidden = hide_each(tensor, viewer.height, viewer.width)
        with torch.inference_mode():
            embeddings = model(torch.cat([tensor[None], hidden]))
        prepared = coder.standardise(coder.prepare(embeddings.numpy()))[0]
        with torch.inference_mode():
            values = (prepared - coder.b_dec) @ coder.W_enc + coder.b_enc
        latent = int(values[0].argmax())
        falls = values[0, latent] - values[1:, latent]
        heatmap = heatmaps.at_positions(
            coder,
            viewer.vectors([open_image(path)])[0].flatten(0, 1),
            float(embeddings[0].norm()),
            np.array([latent]),
        )
        correlations.append(spearmanr(heatmap[:, 0], falls).statistic)
    low, middle, high = np.quantile(correlations, [0.25, 0.5, 0.75])
    kind = "exact" if viewer.is_exact else "an approximation"
    print(
        f"{cell} ({kind}, {viewer.height} x {viewer.width}): rank correlation with "
        f"occlusion {np.mean(correlations):.2f}, median {middle:.2f}, half of the "
        f"{len(paths)} pictures within {low:.2f} to {high:.2f}"
    )


def hide_each(image: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return a picture (3, H, W) once for each position, which is 0 in it."""
    _, height, width = image.shape
    row_of = torch.arange(height) * rows // height
    column_of = torch.arange(width) * columns // width
    position_of = row_of[:, None] * columns + column_of
    is_hidden = position_of == torch.arange(rows * columns)[:, None, None]
    return image * ~is_hidden[:, None]


if __name__ == "__main__":
    main()
