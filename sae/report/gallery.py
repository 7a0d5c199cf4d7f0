"""What Figs. 1 to 3 of arXiv:2606.27321 show: the activations of one image, and the images that activate a latent.

No picking by hand: latents stand at fixed ranks of MS, and the image of Fig. 1 is the one with the median error.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sae.bank import read as bankfile
from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import store
from sae.models import codes as coding
from sae.report import labels
from sae.scoring.selection import chosen_entries

# Ranks shown, as shares of the latents ordered by MS from the highest.
RANKS = (0.0, 0.1, 0.25, 0.5)
# A latent must fire on this many images, so that its top, middle and bottom ones differ.
ENOUGH = 30
IMAGES = 10
SIDE = 64  # pixels of a thumbnail
COLUMNS = ["dataset", "backbone", "k", "seed", "figure", "rank", "regularizer", "latent", "ms", "n_active", "top_class"]
COLUMNS += ["part", "place", "image_id", "activation", "png"]


def build(bank_file, scores_file, latents_file, activations_dir, dataset_dir, artifacts_root, out, *, device):
    """Write two parquet files into the folder `out`, for the bank's first seed.

    Both name their dataset, backbone, k and seed. `images`: figure ('fig2': latents at the same rank of MS, 'fig3': the
    same latent index, ranked by the baseline's MS), rank, regularizer, latent, ms, n_active, top_class, part (top,
    middle, bottom), place, image_id, activation, png. Methods: the baseline, and the first regularizer with a chosen
    lambda (Reg. 1, if it has one). `sample`: regularizer, rank, activation, kept; and image_id, png of one test image,
    every method.

    Args:
        latents_file: what `sae.scoring.evaluate` wrote for this bank.
        dataset_dir, artifacts_root: the dataset's index, and the images themselves.
    """
    bank = files.read_json(bank_file, "bank")
    test = store.read(Path(activations_dir) / "test")
    manifest = files.read_json(Path(dataset_dir) / "manifest.json", "manifest of dataset")
    open_image = datasets.reader(manifest["spec"], artifacts_root)
    saes = _chosen(bank_file, bank, scores_file, device)
    latents = files.read_parquet(latents_file)
    seed = latents["seed"].iloc[0]
    tables = {r: latents[(latents["regularizer"] == r) & (latents["seed"] == seed)] for r in saes}
    tables = {r: table.set_index("latent") for r, table in tables.items()}
    x = next(iter(saes.values())).open_inputs(test.embeddings)

    def png(row):
        path = test.index["path"].iloc[row]
        try:
            image = open_image(path).convert("RGB")
        except OSError as error:
            raise UserError(f"image {path} cannot be read: {error}") from None
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()

    cell = {name: bank[name] for name in ("dataset", "backbone", "k")} | {"seed": seed}
    rows = []
    methods = list(saes)[:2]
    codes = {r: coding.encode(saes[r], x).matrix().tocsc() for r in methods}
    for figure, latents_of in (("fig2", _rank_matched), ("fig3", _unit_matched)):
        for rank, pairs in latents_of({r: tables[r] for r in methods}):
            for regularizer, latent in pairs.items():
                about = tables[regularizer].loc[latent, ["ms", "n_active", "top_class"]].to_dict()
                for part, place, row, activation in _activating(codes[regularizer], latent):
                    shown = {"figure": figure, "rank": rank, "regularizer": regularizer, "latent": latent} | about
                    shown |= {"part": part, "place": place, "image_id": test.index["image_id"].iloc[row]}
                    rows.append(cell | shown | {"activation": activation, "png": png(row)})
    images = pd.DataFrame(rows, columns=COLUMNS)
    sample = _sample(saes, x, test.index, png).assign(**cell)
    for name, table in (("images", images), ("sample", sample)):
        with files.atomic_file(Path(out) / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)


def _chosen(bank_file, bank, scores_file, device):
    """{regularizer: SAE} of the first seed: the baseline, then the others with a chosen lambda."""
    chosen = chosen_entries(bank, files.read_parquet(scores_file))
    first = {entry["regularizer"]: entry for entry in chosen if entry["seed"] == chosen[0]["seed"]}
    return {r: bankfile.open_sae(bank_file, bank, first[r]).to(device) for r in labels.method_order(first)}


def _ordered(tables):
    """{method: latents by MS, highest first}, of those that fire on enough images (or as often as the tenth)."""
    tenth = min(table["n_active"].nlargest(10).min() for table in tables.values())
    enough = max(3, min(ENOUGH, tenth))  # Three: a top, a middle and a bottom one.
    shown = {r: t[(t["n_active"] >= enough) & t["ms"].notna()] for r, t in tables.items()}
    return {r: table.sort_values("ms", ascending=False).index for r, table in shown.items()}


def _rank_matched(tables):
    ordered = _ordered(tables)
    for rank in RANKS:
        if all(len(o) for o in ordered.values()):
            yield rank, {r: int(o[int(rank * (len(o) - 1))]) for r, o in ordered.items()}


def _unit_matched(tables):
    ordered = list(_ordered(tables).values())
    shared = [latent for latent in ordered[0] if all(latent in o for o in ordered)]
    for rank in RANKS:
        if shared:
            latent = int(shared[int(rank * (len(shared) - 1))])
            yield rank, dict.fromkeys(tables, latent)


def _activating(codes, latent):
    """(part, place, row, activation) of the images with the highest, the middle and the lowest activations > 0."""
    column = codes[:, latent]
    order = np.argsort(-column.data, kind="stable")
    rows, values = column.indices[order], column.data[order]
    count = min(IMAGES, len(rows) // 3)
    middle = (len(rows) - count) // 2
    for part, start in (("top", 0), ("middle", middle), ("bottom", len(rows) - count)):
        for place in range(count):
            yield part, place, int(rows[start + place]), float(values[start + place])


@torch.no_grad()
def _sample(saes, x, index, png):
    baseline = next(iter(saes.values()))
    error = []
    for part in x.split(4096):
        error.append((part - baseline.reconstruct(part, *baseline.encode(part))).square().sum(dim=1).cpu())
    row = int(torch.cat(error).argsort(stable=True)[len(x) // 2])
    tables = []
    for regularizer, sae in saes.items():
        a = sae.activations(sae.standardise(x[row : row + 1])[0])[0].sort(descending=True).values.cpu().numpy()
        ranks = np.arange(1, len(a) + 1)
        table = pd.DataFrame({"regularizer": regularizer, "rank": ranks, "activation": a, "kept": ranks <= sae.k})
        tables.append(table[table["activation"] > 0])
    return pd.concat(tables, ignore_index=True).assign(image_id=index["image_id"].iloc[row], png=png(row))
