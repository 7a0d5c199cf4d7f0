"""Where in a picture a latent fires: its pre-activations at the positions of a backbone.

    e = mean_p v_p;  x = s e / |e|;  mean_p [(s v_p / |e| - b_d) @ W_e + b_e] = pi(x)

An embedding e is the mean of vectors v_p at positions, where nothing but linear layers
follows the mean. Each vector is scaled by the length of the image's embedding and gets
the whole bias; then the mean over positions is the latent's pre-activation of the
picture, for inputs of unit length and for inputs as they are. Of other networks (class
tokens, a norm after the mean) and of SAEs that standardise each input it is an
approximation. Maps show the positive part.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Resize

from sae.bank.read import read as read_bank
from sae.core import files
from sae.core.errors import UserError
from sae.core.progress import report_progress
from sae.data import dataset as datasets
from sae.data import pictures, store
from sae.data.backbone import Backbone
from sae.data.entries import NetworkEntry, parse
from sae.data.store import Activations
from sae.models.apply import load_like
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.scoring import rows
from sae.scoring.rows import KEY

VERSION = 1
PICTURES = 15  # of a latent, its highest, that have a heatmap
SPREAD_PICTURES = 10  # of these, those whose spread counts
LEAST_SIDE = 5  # positions; of a coarser grid pictures are looked at larger
DOUBLINGS = 2  # at most
EXACT = 1e-4  # how far a mean may be from an embedding, as a share of its length
_BATCH = 16
# Steps of transforms (timm's) that may draw borders around a picture.
_PADDING = {"ResizeKeepRatio", "CenterCropOrPad", "Pad"}
_rng = np.random.default_rng(0)
# Of a picture of one colour all positions are alike, and any mean is exact.
NOISE = Image.fromarray(_rng.integers(0, 256, (256, 256, 3), np.uint8))


class NoPositions(UserError):
    """A backbone has no vectors at positions; the message says why."""


@torch.no_grad()
def at_positions(
    coder: Coder,
    vectors: Float[Tensor, "positions d"],
    length: float,
    latents: Int[np.ndarray, " latents"],
) -> Float[Tensor, "positions latents"]:
    """Return the pre-activations of some latents at positions of one picture.

    Args:
        coder: the SAE.
        vectors: (P, d) at the positions, as the backbone gave them.
        length: the l2 norm of the picture's embedding.
        latents: which.
    """
    scale = coder.input_scale
    if coder.input_norm != "none" and length > 0:
        scale /= length
    x, _, _ = coder.standardise(vectors * scale)
    weight = coder.W_enc[:, torch.from_numpy(latents)]
    bias = coder.b_enc[torch.from_numpy(latents)] - coder.b_dec @ weight
    return x @ weight + bias


def spread(heatmap: Float[np.ndarray, " positions"]) -> float:
    """Return the share of the positions that hold half of a map's positive part.

    NaN where nothing is positive.
    """
    falling = np.sort(np.maximum(heatmap, 0))[::-1].cumsum(dtype=np.float64)
    if falling[-1] == 0:
        return np.nan
    return (int(np.argmax(falling >= falling[-1] / 2)) + 1) / len(heatmap)


class Viewer:
    """A backbone that looks at the positions of pictures.

    Where it has fewer than 5 x 5, it looks at pictures of twice the size, or twice that.

    Attributes:
        enlarged: the size in pixels at which it looks at them, where that is not the
            size of the embeddings; else None.
        is_exact: whether the mean over positions is the embedding, by a picture of
            noise.

    Args:
        load: returns the backbone for an input size in pixels, None its own.
        image_size: that of the embeddings.
        device: of PyTorch.

    Raises:
        NoPositions: the backbone has none, or pads pictures.
    """

    def __init__(
        self,
        load: Callable[[int | None], Backbone],
        image_size: int | None,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self.enlarged: int | None = None
        self._use(load(image_size))
        vectors = self._vectors_of_noise()
        for _ in range(DOUBLINGS):
            if min(vectors.shape[1:3]) >= LEAST_SIDE:
                break
            size = 2 * self._tensors([NOISE]).shape[-1]
            self._use(load(size))
            larger = self._vectors_of_noise()
            if min(larger.shape[1:3]) <= min(vectors.shape[1:3]):
                # Its grid is the same at any size.
                self._use(load(self.enlarged or image_size))
                break
            self.enlarged = size
            vectors = larger

        self.height, self.width = vectors.shape[1:3]
        with torch.inference_mode():
            embedding = self._backbone.model(self._tensors([NOISE])).cpu()
        difference = (vectors.mean(dim=(1, 2)) - embedding).norm()
        self.is_exact = bool(difference <= EXACT * embedding.norm())

    def _use(self, backbone: Backbone) -> None:
        if backbone.positions is None:
            raise NoPositions(
                "the backbone pools positions by attention, or its loader gives none"
            )
        steps = getattr(backbone.transform, "transforms", [])
        if {type(step).__name__ for step in steps} & _PADDING:
            raise NoPositions("the backbone's transform pads pictures")
        self._backbone = backbone
        backbone.model.eval().to(self._device)

    def _vectors_of_noise(self) -> Float[Tensor, "1 h w d"]:
        try:
            return self.vectors([NOISE])
        except RuntimeError:  # As where there are tokens of the class alone.
            raise NoPositions("the backbone's features are on no grid") from None

    def _tensors(
        self, pictures: Sequence[Image.Image]
    ) -> Float[Tensor, "n 3 height width"]:
        tensors = [self._backbone.transform(picture) for picture in pictures]
        return torch.stack(tensors).to(self._device)

    @torch.inference_mode()
    def vectors(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "n h w d"]:
        """Return the vectors of some pictures, float32 on the CPU."""
        assert self._backbone.positions is not None
        return self._backbone.positions(self._tensors(pictures)).float().cpu()

    def length_of(
        self, embedding: Float[np.ndarray, " d"], vectors: Float[Tensor, "positions d"]
    ) -> float:
        """Return the length by which the vectors of a picture are divided.

        It is that of its embedding, which is another one at another input size.
        """
        if self.is_exact:
            return float(vectors.mean(dim=0).norm())
        return float(np.linalg.norm(embedding.astype(np.float64)))

    @cached_property
    def square(self) -> float | None:
        """The part of a picture that the network sees.

        It is a square in the middle, whose side is this share of the picture's shorter
        side; None: the whole picture.
        """
        steps = getattr(self._backbone.transform, "transforms", [])
        resized = [step for step in steps if isinstance(step, Resize)]
        cropped = [step for step in steps if isinstance(step, CenterCrop)]
        if not resized or not cropped or not isinstance(resized[0].size, int):
            return None
        return min(cropped[0].size) / resized[0].size

    def _is_exact_of(self, coders: Sequence[Coder]) -> bool:
        norms = {coder.input_norm for coder in coders}
        return self.is_exact and "unit_l2_layernorm" not in norms

    def says(self, coder: Coder) -> str:
        """Return what the maps are, in a sentence for people."""
        grid = f"{self.height} x {self.width} positions"
        if self.enlarged:
            grid += f", of pictures at {self.enlarged} pixels"
        if self._is_exact_of([coder]):
            return f"{grid}; their mean is the activation"
        return f"{grid}; an approximation, their mean is not the activation"

    def facts(self, coders: Sequence[Coder] = ()) -> dict[str, Any]:
        """Return what a page needs to draw the maps, and to say what they are."""
        return {
            "height": self.height,
            "width": self.width,
            "square": self.square,
            "enlarged": self.enlarged,
            "exact": self._is_exact_of(coders),
        }


def viewer_like(
    manifest: dict[str, Any],
    artifacts: Path | str | None,
    device: str = "cpu",
) -> Viewer:
    """Return a viewer by the backbone that made some embeddings.

    Args:
        manifest: that of the embeddings.
        artifacts: folder of fetched artifacts.
        device: of PyTorch.

    Raises:
        NoPositions: it has none.
        UserError: its weights are other ones here.
    """
    spec = manifest["backbone"].get("spec")
    if spec is None or not isinstance(parse("backbone", spec), NetworkEntry):
        raise NoPositions("the embeddings were given, not made of pictures here")
    return Viewer(
        lambda size: load_like(manifest, artifacts, size)[1],
        manifest["image_size"],
        device,
    )


@dataclass(frozen=True)
class Maps:
    """Heatmaps of one SAE.

    Attributes:
        table: a row for each map: `latent`, `image` (a row of the split) and `map`, the
            bytes of h x w positions, row after row. 255 is the highest position of the
            picture; 0 is everything that is not positive.
        spread: (m,) the mean share of a picture's positions that hold half of its
            activation, over the ten highest pictures; NaN where there is none.
    """

    table: pd.DataFrame
    spread: Float[np.ndarray, " latents"]


def highest_images(codes: Codes) -> Int[np.ndarray, "latents pictures"]:
    """Return (m, 15) the rows of each latent's highest images, -1 past the last."""
    by_latent = codes.by_latent()
    highest = np.full((codes.m, PICTURES), -1)
    for latent in range(codes.m):
        entries = slice(by_latent.indptr[latent], by_latent.indptr[latent + 1])
        images = by_latent.indices[entries]
        # Of equal activations the first image comes first.
        order = np.lexsort((images, -by_latent.data[entries]))[:PICTURES]
        highest[latent, : len(order)] = images[order]
    return highest


def draw(
    coders: Sequence[Coder],
    images: Activations,
    viewer: Viewer,
    open_image: Callable[[str], Image.Image],
    most_images: int,
) -> list[Maps]:
    """Draw heatmaps of the pictures that activate each latent of some SAEs most.

    Args:
        coders: SAEs of one backbone's embeddings.
        images: the images whose embeddings they encode.
        viewer: what looks at the pictures.
        open_image: returns the picture of a path. One that cannot be read has no map.
        most_images: so many pictures are looked at, at most: the highest of every
            latent first, then the second of every latent, and so on.

    Returns:
        The maps of each SAE.
    """
    if not coders:
        return []
    highest = [
        highest_images(coder.encode(coder.open_inputs(images.embeddings)))
        for coder in coders
    ]
    on_cpu = [copy.deepcopy(coder).cpu() for coder in coders]
    by_rank = np.concatenate([rows.T for rows in highest], axis=1).ravel()
    looked_at = np.sort(pd.unique(by_rank[by_rank >= 0])[:most_images])
    # (m, 15, positions) of each SAE; NaN where there is no map.
    positions = viewer.height * viewer.width
    drawn = [np.full((*rows.shape, positions), np.nan, np.float16) for rows in highest]
    paths = images.index["path"].to_numpy()
    for start in range(0, len(looked_at), _BATCH):
        report_progress(start, len(looked_at), "pictures looked at")
        batch = {}
        for row in looked_at[start : start + _BATCH]:
            with suppress(*pictures.UNREADABLE):
                batch[row] = open_image(paths[row])
        if not batch:
            continue
        vectors = viewer.vectors(list(batch.values())).flatten(1, 2)
        for row, at_row in zip(batch, vectors, strict=True):
            length = viewer.length_of(images.embeddings[row], at_row)
            for coder, rows_of_latents, maps in zip(
                on_cpu, highest, drawn, strict=True
            ):
                latents, ranks = (rows_of_latents == row).nonzero()
                values = at_positions(coder, at_row, length, latents)
                maps[latents, ranks] = values.T.clamp(-6e4, 6e4).numpy()
    report_progress(len(looked_at), len(looked_at), "pictures looked at")
    return [_maps(rows, maps) for rows, maps in zip(highest, drawn, strict=True)]


def _maps(
    highest: Int[np.ndarray, "latents pictures"],
    drawn: Float[np.ndarray, "latents pictures positions"],
) -> Maps:
    latents, ranks = (~np.isnan(drawn[:, :, 0])).nonzero()
    shown = np.maximum(drawn[latents, ranks].astype(np.float32), 0)
    table = pd.DataFrame(
        {
            "latent": latents,
            "image": highest[latents, ranks],
            "map": [bytes(row) for row in to_bytes(shown)],
        }
    )
    spreads = np.full(highest.shape, np.nan)
    spreads[latents, ranks] = [spread(row) for row in shown]
    of_latents = pd.DataFrame(spreads[:, :SPREAD_PICTURES]).mean(axis=1)
    return Maps(table, of_latents.to_numpy())


def to_bytes(
    shown: Float[np.ndarray, "maps positions"],
) -> UInt8[np.ndarray, "maps positions"]:
    """Return maps, which are nowhere negative, as bytes: 255 is the highest of each."""
    highest = shown.max(axis=1, keepdims=True, initial=0)
    return np.rint(shown * (255 / np.where(highest > 0, highest, 1))).astype(np.uint8)


# -- a step of scoring


def run(
    bank: Path,
    activations: Path,
    dataset: Path,
    out: Path,
    *,
    most_images: int,
    artifacts: Path = Path("results/artifacts"),
    device: str = "cpu",
) -> None:
    """Draw heatmaps of the latents of a bank's SAEs that a protocol chose.

    Writes `out`/maps.parquet, whose rows are those of :class:`Maps` under the key of
    their SAE, and tables of a stage of scoring, of which latents.parquet alone has rows:
    the `spread` of each latent. A backbone without positions has no maps; the metadata
    of maps.parquet say why.

    Args:
        bank: bank.json.
        activations: folder of the splits of this (dataset, backbone).
        dataset: folder of the dataset's index.
        out: the folder to write into.
        most_images: so many test images are looked at, at most.
        artifacts: folder of fetched artifacts.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or damaged, or an image cannot be read.
    """
    opened_bank = read_bank(bank)
    saes = [sae for sae in opened_bank.saes if sae.chosen and sae.ok]
    test = store.read(activations / "test")
    spec = files.read_json(dataset / "manifest.json", "manifest of dataset")["spec"]
    key_tables = [rows.table([], (*KEY, "latent", "image", "map"))]
    latent_tables = [rows.table([], (*KEY, "latent"))]
    facts: dict[str, Any]
    try:
        viewer = viewer_like(test.manifest, artifacts, device)
    except NoPositions as error:
        facts = {"missing": str(error)}
    else:
        open_image = datasets.reader(spec, artifacts)
        coders = [opened_bank.open(sae) for sae in saes]
        facts = viewer.facts(coders)
        for sae, maps in zip(
            saes, draw(coders, test, viewer, open_image, most_images), strict=True
        ):
            cell = (opened_bank.dataset, opened_bank.backbone, opened_bank.k)
            values = (*cell, *sae.table_key, "test")
            key = dict(zip(KEY, values, strict=True))
            key_tables.append(_keyed(key, maps.table))
            latents = {"latent": range(len(maps.spread)), "spread": maps.spread}
            latent_tables.append(_keyed(key, pd.DataFrame(latents)))
    table = rows.joined(key_tables).replace_schema_metadata(
        {"facts": files.dumps(facts)}
    )
    files.write_parquet(out / "maps.parquet", table)
    for name in ("metrics", "curves"):
        files.write_parquet(out / f"{name}.parquet", rows.table([]))
    files.write_parquet(out / "latents.parquet", rows.joined(latent_tables))


def _keyed(key: dict[str, Any], table: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(table.assign(**key), preserve_index=False)
