"""A small world that is known, and a run of everything on it.

Pictures show some of eight concepts, each a coloured square at a place of its own. Two
families of backbones see them: a small random network, and 8 x 8 pixels. An imported
SAE has the concepts themselves as its latents.
"""

import csv

import numpy as np
import torch
from conftest import Checkout
from PIL import Image

from sae.models import saefile
from sae.models.coder import Coder, Threshold

SIDE = 32  # pixels of a picture
GREY = 90
CONCEPTS = {  # name: (colour, left and upper edge of its square)
    "red": ((250, 30, 30), (2, 2)),
    "green": ((30, 220, 30), (10, 2)),
    "blue": ((40, 60, 250), (18, 2)),
    "yellow": ((240, 230, 20), (25, 2)),
    "cyan": ((20, 220, 230), (2, 18)),
    "magenta": ((230, 20, 230), (10, 18)),
    "orange": ((250, 140, 20), (18, 18)),
    "white": ((245, 245, 245), (25, 18)),
}
NAMES = list(CONCEPTS)
COUNTS = {"train": 360, "val": 70, "test": 70}


def draw(strengths: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return a picture (SIDE, SIDE, 3) uint8 of concepts, 0 where one is not shown."""
    picture = GREY + noise
    for strength, (colour, (x, y)) in zip(strengths, CONCEPTS.values(), strict=True):
        picture[y : y + 6, x : x + 6] += strength * (np.array(colour) - GREY)
    return picture.clip(0, 255).astype(np.uint8)


def write_pictures(folder):
    """Write the pictures into class folders, and what they show into a CSV.

    Each class has two concepts of its own, which most of its pictures show.
    """
    rng = np.random.default_rng(0)
    with (folder / "concepts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "concept"])
        for split, count in COUNTS.items():
            for number in range(count):
                label = number % 4
                chance = np.full(len(NAMES), 0.15)
                chance[[2 * label, 2 * label + 1]] = 0.8
                is_shown = rng.random(len(NAMES)) < chance
                strengths = is_shown * rng.uniform(0.4, 1, len(NAMES))
                noise = rng.uniform(-20, 20, (SIDE, SIDE, 3))
                name = f"{split}/class{label}/{number:03}.png"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw(strengths, noise)).save(path)
                rows.writerows([name, NAMES[c]] for c in np.flatnonzero(is_shown))


def known_sae() -> Coder:
    """Return an SAE of the 8 x 8 pixels whose latents are the concepts."""

    def pixels(strengths):
        picture = draw(strengths, np.zeros((SIDE, SIDE, 3)))
        blocks = picture.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)) / 255
        return torch.tensor(blocks, dtype=torch.float32).permute(2, 0, 1).ravel()

    background = pixels(np.zeros(len(NAMES)))
    one_each = np.eye(len(NAMES))
    directions = torch.stack([pixels(one) - background for one in one_each])
    rows = torch.nn.functional.normalize(directions, dim=1)
    threshold = Threshold(directions.norm(dim=1) / 5)
    coder = Coder(background.numel(), len(NAMES), k=4, select=threshold)
    with torch.no_grad():
        coder.W_dec.copy_(rows)
        coder.encoder.copy_(rows)
        coder.b_dec.copy_(background)
    return coder


def run(folder, digits):
    """Run the experiment `tiny` on the world, a card, and an explored SAE.

    Args:
        folder: where a copy of the checkout is made.
        digits: where the weights of the small network lie.

    Returns:
        Path: the copy, with results/, card.txt, card/ and explore/.
    """
    checkout = Checkout(folder, digits)
    (folder / "planted").mkdir()
    write_pictures(folder / "planted")
    saefile.save(known_sae(), folder / "known.safetensors")

    config = checkout.config
    config["datasets"]["planted"] = {
        "type": "image_folder",
        "root": "planted",
        "image_size": SIDE,
        "concepts": "planted/concepts.csv",
    }
    pixels = {"loader": "thumbnail", "family": "blocks", "model": "rgb"}
    config["backbones"]["blocks"] = pixels | {"image_size": 8}
    known = {"place": "known.safetensors", "backbone": "blocks"}
    config["methods"]["known"] = {"import": known, "label": "Known"}
    config["training"]["tiny"].update(m=24, auxk_k=24, steps=60)
    config["figures"] = ["effects", "detection", "fig1", "fig5", "sweep"]
    checkout.experiment.update(
        datasets=["planted"],
        backbones=["tiny", "blocks"],
        methods=["topk", "reg1", "reg2", "batch_topk", "untrained", "pca", "known"],
        protocols={"paper": {}, "tuned": {"fresh": [3, 4]}},
        metrics={"concepts": {}, "names": {}},
        heatmaps=20,
    )
    checkout.write()
    checkout.snakemake("tiny", "--cores", "1")

    activations = "results/activations/planted"
    of_known = ["--sae", "known.safetensors", "--activations", f"{activations}/blocks"]
    card = ["card", *of_known, "--judge", f"{activations}/tiny", "--quick"]
    for command in (card, ["explore", *of_known, "--out", "explore"]):
        process = checkout.run("-m", "sae", *command)
        assert process.returncode == 0, process.stderr
        if command is card:
            (folder / "card.txt").write_text(process.stdout)
    return folder
