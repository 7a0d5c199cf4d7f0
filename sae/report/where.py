"""Show where in a picture the latents of an SAE fire, in a PNG."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from sae.core import files, outputs
from sae.core.errors import UserError
from sae.core.options import Count, Whole
from sae.data import archives, pictures
from sae.models import convert
from sae.models.apply import Encoder, embed_like, read_own_manifest
from sae.models.convert import Options, check_output_path
from sae.scoring import heatmaps

_SIDE = 224  # pixels of a picture's longer side in the PNG
_DARKEST = 0.8  # of a picture where the latent does not fire; as on the site
_LINE = 16  # pixels of a line of text


def where(
    options: Options = convert.NO_OPTIONS,
    *,
    sae: Path,
    image: Path,
    backbone: str = "",
    latent: Whole | None = None,
    most: Count = 8,
    out: Path = Path("where.png"),
    activations: Path = Path("results/activations"),
    artifacts: Path = Path("results/artifacts"),
    device: str = "cpu",
) -> None:
    """Print the latents that are highest on a picture, and draw where they fire.

    The PNG shows the picture, then the picture for each latent, dark where it does not
    fire.

    Args:
        options: what a file of another library leaves open.
        sae: an SAE: a file, a folder, or owner/name[:folder] on the Hugging Face hub, of
            this project or another library.
        image: a picture.
        backbone: the backbone of its embeddings, by its name in the config; not needed
            where --activations names its embeddings.
        latent: show this latent alone.
        most: show so many at most.
        out: the PNG to write, FILE.png.
        activations: the embeddings that say how a picture is embedded: a folder
            DATASET/BACKBONE, or the folder of all of them, of which the dataset that
            the SAE was trained on and --backbone are taken.
        artifacts: folder of fetched artifacts, of which the backbone's weights may be
            one.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or is not right, there is no such latent, or the
            backbone has no positions.
    """
    check_output_path(out, sae, image, suffix=".png")
    encoder = Encoder(convert.load(sae, options=options), device)
    manifest = _manifest(encoder, sae, activations, backbone)
    embeddings = embed_like(
        manifest, image.parent, [image.name], artifacts, device, workers=0
    )
    codes = encoder.encode(embeddings, name=str(image))
    latents = codes.indices[:most]
    activation_of = dict(zip(codes.indices, codes.values, strict=True))
    if latent is not None:
        if latent >= encoder.coder.m:
            raise UserError(
                f"--latent {latent}: this SAE has latents 0 to {encoder.coder.m - 1}"
            )
        latents = np.array([latent])

    open_image = pictures.Guard(archives.opener(image.parent))
    picture = open_image(image.name)
    viewer = heatmaps.viewer_like(manifest, artifacts, device)
    vectors = viewer.vectors([picture]).flatten(1, 2)[0]
    length = viewer.length_of(embeddings[0], vectors)
    coder = encoder.coder.cpu()
    values = heatmaps.at_positions(coder, vectors, length, latents.astype(np.int64))
    shown = values.T.clamp_min(0).numpy()
    as_bytes = heatmaps.to_bytes(shown)

    name_of = _names(sae)
    titles = []
    for place, number in enumerate(latents):
        activation = f"{activation_of.get(number, 0):.3g}"
        spread = heatmaps.spread(shown[place])
        name = name_of.get(int(number), "")
        called = f" ({name})" if name else ""
        titles.append(f"latent {number}{called}: {activation}")
        print(
            f"{titles[-1]:<40} half of it in {100 * spread:.0f} % of the positions"
            if spread == spread
            else f"{titles[-1]:<40} not positive at any position"
        )
    maps = as_bytes.reshape(-1, viewer.height, viewer.width)
    sheet = _sheet(picture, maps, titles, viewer.square)
    with outputs.replacing_file(out) as temporary:
        sheet.save(temporary, format="PNG")
    print(f"{out}: {viewer.says(coder)}")


def _manifest(
    encoder: Encoder, sae: Path, activations: Path, backbone: str
) -> dict[str, Any]:
    """Return what says how the pictures of an SAE are embedded.

    Raises:
        UserError: no embeddings lie there, or others than those that the SAE was
            trained on, where it says which.
    """
    if not activations.is_dir():
        raise UserError(f"{activations} is no folder of embeddings")
    folder = activations
    if not (folder / "train").exists():
        dataset = encoder.metadata.get("dataset")
        if dataset is None or not backbone:
            raise UserError(
                f"how pictures are embedded for {sae} is not said: name the folder of "
                "its embeddings, --activations results/activations/DATASET/BACKBONE"
            )
        folder = activations / str(dataset) / backbone
        if not folder.exists():
            raise UserError(
                f"{folder} does not exist: this looks at a picture as the embeddings of "
                f"{dataset} were made. Run it in the checkout of the experiment, or name "
                "--activations; --backbone is one whose folder lies there"
            )
    if {"made_of", "embeddings"} & encoder.metadata.keys():
        return read_own_manifest(encoder, sae, folder)
    return files.read_json(folder / "train/manifest.json", "manifest of activations")


def _names(sae: Path) -> dict[int, str]:
    """Return {latent: its name} of an experiment's SAE, or else {}."""
    folders = sae.absolute().parents
    if len(folders) < 8 or folders[6].name != "saes":
        return {}
    table = folders[7] / "latents.parquet"
    if not table.exists():
        return {}
    latents = files.read_parquet(table)
    key: dict[str, Any] = {
        "dataset": folders[5].name,
        "backbone": folders[4].name,
        "k": int(folders[3].name.removeprefix("k")),
        "method": folders[2].name,
        "trial": folders[1].name,
        "seed": int(folders[0].name.removeprefix("seed")),
        "split": "test",
    }
    is_row = functools.reduce(
        lambda rows, column: rows & (latents[column] == key[column]),
        key,
        pd.Series(True, latents.index),
    )
    named = latents[is_row].reindex(columns=["latent", "name"]).dropna()
    return dict(zip(named["latent"], named["name"], strict=True))


def _sheet(
    picture: Image.Image, maps: np.ndarray, titles: list[str], square: float | None
) -> Image.Image:
    """Return a picture as it is, and dark where each map is low, side by side."""
    picture = picture.convert("RGB")
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height))
    seen = (width, height)
    if square is not None:
        seen = (round(square * min(width, height)),) * 2
    corner = ((width - seen[0]) // 2, (height - seen[1]) // 2)

    column_count = min(len(maps) + 1, 5)
    row_count = -(-(len(maps) + 1) // column_count)
    cell = (_SIDE + 8, height + _LINE + 8)
    sheet = Image.new("RGB", (column_count * cell[0], row_count * cell[1]), "white")
    text = ImageDraw.Draw(sheet)
    black = Image.new("RGB", picture.size)
    for place, title in enumerate(["", *titles]):
        row, column = divmod(place, column_count)
        at = (column * cell[0], row * cell[1])
        drawn = picture
        if place > 0:
            mask = Image.fromarray(maps[place - 1]).resize(
                seen, Image.Resampling.BILINEAR
            )
            darkness = Image.new("L", picture.size, round(255 * _DARKEST))
            darkness.paste(mask.point(lambda value: _DARKEST * (255 - value)), corner)
            drawn = Image.composite(black, picture, darkness)
        sheet.paste(drawn, (at[0], at[1] + _LINE))
        text.text((at[0] + 2, at[1] + 2), title, fill="black")
    return sheet
