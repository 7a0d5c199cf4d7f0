"""Where in a picture a latent fires: its pre-activations at the positions of a backbone.

    e = mean_p v_p;  x = s e / |e|;  mean_p [(s v_p / |e| - b_d) @ W_e + b_e] = pi(x)

An embedding e is the mean of vectors v_p at positions, where nothing but linear layers
follows the mean. Each vector is scaled by the length of the image's embedding and gets
the whole bias; then the mean over positions is the latent's pre-activation of the
picture, for inputs of unit length and for inputs as they are. Of other networks (class
tokens, a norm after the mean) and of SAEs that standardise each input it is an
approximation. Maps show the positive part.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from sae.bank.read import Bank
from sae.bank.read import read as read_bank
from sae.bank.sae import Sae
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
from sae.models.inputs import unit_rows
from sae.scoring import rows
from sae.scoring.rows import KEY

VERSION = 3
PICTURES = 15  # of a latent, its highest, that have a heatmap
SPREAD_PICTURES = 10  # of these, those whose spread counts
LEAST_SIDE = 5  # positions; of a coarser grid pictures are looked at larger
DOUBLINGS = 2  # at most
EXACT = 1e-4  # how far a mean may be from an embedding, as a share of its length
_BATCH = 16
# Of given vectors, the least share of pairs of images in which the mean is more like the
# embedding of its image than like the other one's: of the demo's backbones it is .98 and
# more, also where the mean is not the embedding, and of rows in another order .6 at most.
LEAST_LIKE_OWN = 0.7
_CHECKED = 100  # images of which given vectors are compared with their embeddings
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

    They are on the CPU.

    Args:
        coder: the SAE.
        vectors: (P, d) at the positions, as the backbone gave them.
        length: the l2 norm of the picture's embedding.
        latents: which.

    Raises:
        UserError: the vectors are of another shape.
    """
    if vectors.ndim != 2 or vectors.shape[1] != coder.d:
        raise UserError(
            f"vectors at positions are of shape {tuple(vectors.shape)}; this SAE takes "
            f"(P, {coder.d})"
        )
    scale = coder.input_scale
    if coder.input_norm != "none" and length > 0:
        scale /= length
    device = coder.b_dec.device
    x, _, _ = coder.standardise(vectors.to(device) * scale)
    places = torch.from_numpy(latents).to(device)
    weight = coder.W_enc[:, places]
    bias = coder.b_enc[places] - coder.b_dec @ weight
    return (x @ weight + bias).cpu()


def spread(heatmap: Float[np.ndarray, " positions"]) -> float:
    """Return the share of the positions that hold half of a map's positive part.

    NaN where nothing is positive.
    """
    falling = np.sort(np.maximum(heatmap, 0))[::-1].cumsum(dtype=np.float64)
    if falling[-1] == 0:
        return np.nan
    return (int(np.argmax(falling >= falling[-1] / 2)) + 1) / len(heatmap)


@dataclass
class Grid:
    """The positions of pictures.

    Attributes:
        height: how many rows of positions a picture has.
        width: how many columns.
        is_exact: whether the mean over positions is the embedding.
        square: the part of a picture that they cover, a square in the middle, whose
            side is this share of the picture's shorter side; None: the whole picture.
        enlarged: the size in pixels of the pictures that were looked at, where that is
            not the size of the embeddings; else None.
    """

    height: int
    width: int
    is_exact: bool
    square: float | None = None
    enlarged: int | None = None

    def length_of(
        self, embedding: Float[np.ndarray, " d"], vectors: Float[Tensor, "positions d"]
    ) -> float:
        """Return the length by which the vectors of a picture are divided.

        It is that of its embedding, which is another one at another input size.
        """
        if self.is_exact:
            return float(vectors.mean(dim=0).norm())
        return float(np.linalg.norm(embedding.astype(np.float64)))

    def says(self, coder: Coder) -> str:
        """Return what the maps of an SAE are, in a sentence for people."""
        grid = f"{self.height} x {self.width} positions"
        if self.enlarged:
            grid += f", of pictures at {self.enlarged} pixels"
        if kind_of(coder, self.is_exact) == "exact":
            return f"{grid}; their mean is the activation"
        return f"{grid}; an approximation, their mean is not the activation"

    def facts(self) -> dict[str, Any]:
        """Return what a page needs to draw the maps, and to say what they are."""
        return {
            "height": self.height,
            "width": self.width,
            "square": self.square,
            "enlarged": self.enlarged,
            "exact": self.is_exact,
        }


def kind_of(coder: Coder, mean_is_embedding: bool) -> Literal["exact", "approximate"]:
    """Say of an SAE's maps whether their mean is the latent's pre-activation."""
    # This norm divides each position by another length.
    is_linear = coder.input_norm != "unit_l2_layernorm"
    return "exact" if mean_is_embedding and is_linear else "approximate"


class Viewer(Grid):
    """A backbone that looks at the positions of pictures.

    Where it has fewer than 5 x 5, it looks at pictures of twice the size, or twice that.
    Whether their mean is the embedding is seen on a picture of noise.

    Args:
        load: returns the backbone for an input size in pixels, None its own.
        image_size: that of the embeddings.
        device: of PyTorch.

    Raises:
        NoPositions: the backbone has none, or where they lie in a picture is not known.
    """

    def __init__(
        self,
        load: Callable[[int | None], Backbone],
        image_size: int | None,
        device: str = "cpu",
    ) -> None:
        self._device = device
        enlarged = None
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
                self._use(load(enlarged or image_size))
                break
            # A backbone may see fewer pixels than are asked for.
            enlarged = self._tensors([NOISE]).shape[-1]
            vectors = larger

        with torch.inference_mode():
            embedding = self._backbone.model(self._tensors([NOISE])).cpu()
        difference = (vectors.mean(dim=(1, 2)) - embedding).norm()
        super().__init__(
            height=vectors.shape[1],
            width=vectors.shape[2],
            is_exact=bool(difference <= EXACT * embedding.norm()),
            square=_seen_square(self._backbone.transform),
            enlarged=enlarged,
        )

    def _use(self, backbone: Backbone) -> None:
        if backbone.positions is None:
            raise NoPositions(
                "the backbone pools positions by attention, or its loader gives none"
            )
        self._backbone = backbone
        backbone.model.to(self._device)
        self._positions = backbone.folded_positions.to(self._device)

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
        return self._positions(self._tensors(pictures)).float().cpu()

    def reader(
        self, paths: Sequence[str], open_image: Callable[[str], Image.Image]
    ) -> "VectorsOf":
        """Return a function from rows to their vectors at positions.

        Args:
            paths: the picture of each row.
            open_image: returns the picture of a path.
        """

        def vectors_of(rows: Sequence[int]) -> dict[int, Float[Tensor, "positions d"]]:
            opened = {}
            for row in rows:
                with suppress(*pictures.UNREADABLE):
                    opened[row] = open_image(paths[row])
            if not opened:
                return {}
            vectors = self.vectors(list(opened.values())).flatten(1, 2)
            return dict(zip(opened, vectors, strict=True))

        return vectors_of


# Returns {row: its vectors at positions}, without rows whose picture cannot be read.
VectorsOf = Callable[[Sequence[int]], dict[int, Float[Tensor, "positions d"]]]


def _seen_square(transform: Any) -> float | None:
    """Return what `Grid.square` says, of a backbone's transform.

    Raises:
        NoPositions: it pads pictures, or squashes them and then cuts off their edge.
    """
    # Here, since a site, which only shows maps, would wait for it.
    from torchvision.transforms import CenterCrop, Resize

    steps = getattr(transform, "transforms", [])
    if {type(step).__name__ for step in steps} & _PADDING:
        raise NoPositions("the backbone's transform pads pictures")
    resized = [step.size for step in steps if isinstance(step, Resize)]
    cropped = [step.size for step in steps if isinstance(step, CenterCrop)]
    if not cropped:
        return None
    sides = np.ravel(resized[0]).tolist() if resized else []
    if sides == list(cropped[0]):
        return None
    if len(sides) == 2:
        raise NoPositions(
            "the backbone's transform squashes pictures, and then cuts off their edge"
        )
    if len(sides) == 0 or len(set(cropped[0])) > 1:
        raise NoPositions("the backbone's transform shows no square of a known size")
    # Of the shorter side; the other one follows.
    if max(cropped[0]) > sides[0]:
        raise NoPositions("the backbone's transform pads pictures")
    return cropped[0][0] / sides[0]


def read_positions(
    file: Path, images: Activations, all_images: Activations
) -> tuple[Grid, VectorsOf]:
    """Open vectors at positions that were made elsewhere.

    Args:
        file: a .npy file (N, h, w, d) of `all_images`, which is mapped into memory.
        images: the images that are looked at, some of `all_images`.
        all_images: the images whose vectors the file holds, row by row.

    Returns:
        The grid, and a function from rows of `images` to their vectors. Whether their
        mean is the embedding is seen on at most 100 images.

    Raises:
        UserError: the file cannot be read, or holds vectors of other images or of
            another d; later, a vector is not finite.
    """
    values = files.read_array(file)
    n, d = len(all_images.index), all_images.embeddings.shape[1]
    fits = values.ndim == 4 and (len(values), values.shape[3]) == (n, d)
    if not fits or values.dtype.kind != "f" or values.size == 0:
        raise UserError(
            f"--positions: {file} holds {values.dtype} of shape {values.shape}; needed: "
            f"floats of shape ({n}, h, w, {d}), the vectors at h x w positions of each "
            f"of the {n} images, in the order of their embeddings"
        )
    of_file = pd.Index(all_images.index["image_id"]).get_indexer(
        images.index["image_id"]
    )

    def vectors_of(rows: Sequence[int]) -> dict[int, Float[Tensor, "positions d"]]:
        vectors = {}
        for row in rows:
            of_row = np.array(values[of_file[row]], dtype=np.float32).reshape(-1, d)
            if not np.isfinite(of_row).all():
                raise UserError(
                    f"--positions: row {of_file[row]} (from 0) of {file} holds NaN, or "
                    "a value that is not finite in float32"
                )
            vectors[row] = torch.from_numpy(of_row)
        return vectors

    rows = np.linspace(0, len(images.index) - 1, _CHECKED).astype(int)
    rows = np.unique(rows)
    means = np.array(
        [vectors_of([row])[row].double().mean(dim=0).numpy() for row in rows.tolist()]
    )
    rounding = np.finfo(np.result_type(np.float16, values.dtype)).eps
    tolerance = max(EXACT, rounding, np.finfo(images.embeddings.dtype).eps)
    is_embedding = _fits(means, images.embeddings[rows], tolerance)
    is_exact = bool(is_embedding.all())
    if not is_exact:
        _check_order(file, means, rows, is_embedding, images, tolerance)
    return Grid(values.shape[1], values.shape[2], is_exact), vectors_of


def _fits(
    means: Float[np.ndarray, "images d"],
    embeddings: Float[np.ndarray, "images d"],
    tolerance: float,
) -> Bool[np.ndarray, " images"]:
    """Say of each mean whether it is the embedding beside it."""
    embeddings = embeddings.astype(np.float64)
    difference = np.linalg.norm(means - embeddings, axis=1)
    return difference <= tolerance * np.linalg.norm(embeddings, axis=1)


def _check_order(
    file: Path,
    means: Float[np.ndarray, "checked d"],
    rows: Int[np.ndarray, " checked"],
    is_embedding: Bool[np.ndarray, " checked"],
    images: Activations,
    tolerance: float,
) -> None:
    """Refuse vectors at positions of other pictures.

    Args:
        file: their file.
        means: over the positions of some images.
        rows: these images.
        is_embedding: whether the mean is the embedding of its image.
        images: all of which `rows` are some.
        tolerance: how far a mean may be from an embedding that it is.

    Raises:
        UserError: a mean is the embedding of another image; or means are no more like
            the embeddings of their images than like those of others.
    """
    embeddings = images.embeddings
    ids = images.index["image_id"].to_numpy()
    for start in range(0, len(ids), store.AT_ONCE):
        others = embeddings[start : start + store.AT_ONCE].astype(np.float64)
        distances = np.square(others).sum(axis=1) - 2 * means @ others.T
        nearest = distances.argmin(axis=1)
        is_other = ~is_embedding & _fits(means, others[nearest], tolerance)
        if is_other.any():
            first = int(is_other.argmax())
            raise UserError(
                f"--positions: the mean of what {file} has for {ids[rows[first]]} is "
                f"the embedding of {ids[start + nearest[first]]}: bring its rows into "
                "the order of the embeddings"
            )

    of_rows = embeddings[rows].astype(np.float64)
    similarity = (
        unit_rows(means - means.mean(axis=0))
        @ unit_rows(of_rows - of_rows.mean(axis=0)).T
    )
    own = similarity.diagonal()[:, None]
    is_pair = ~np.eye(len(rows), dtype=bool)
    more_like_own = (own > similarity)[is_pair]
    if len(more_like_own) and more_like_own.mean() < LEAST_LIKE_OWN:
        raise UserError(
            f"--positions: the means of the vectors in {file} are more like the "
            "embeddings of their images than like those of others in "
            f"{more_like_own.mean():.0%} of pairs, where chance gives 50%: they are of "
            "other images, in another order, or of another backbone"
        )


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
    grid: Grid,
    vectors_of: VectorsOf,
    most_images: int,
) -> Iterator[Maps]:
    """Draw heatmaps of the pictures that activate each latent of some SAEs most.

    Args:
        coders: SAEs of one backbone's embeddings.
        images: the images whose embeddings they encode.
        grid: the positions.
        vectors_of: returns the vectors of some rows of `images` at these positions.
            Pictures that it leaves out have no map.
        most_images: so many pictures are looked at, at most, of the ten highest of each
            latent: those that give as many latents as possible as many maps as possible.

    Returns:
        The maps of each SAE in turn.
    """
    highest = [
        highest_images(coder.encode(coder.open_inputs(images.embeddings)))
        for coder in coders
    ]
    looked_at = _pictures_to_look_at(
        np.concatenate([rows[:, :SPREAD_PICTURES] for rows in highest]),
        len(images.index),
        most_images,
    )
    # A row for each map. Maps are held as bytes, since they may be many.
    tables = []
    for rows_of_latents in highest:
        latents, ranks = np.isin(rows_of_latents, looked_at).nonzero()
        image = rows_of_latents[latents, ranks]
        tables.append(pd.DataFrame({"latent": latents, "rank": ranks, "image": image}))
    maps = [
        np.zeros((len(table), grid.height * grid.width), np.uint8) for table in tables
    ]
    spreads = [np.full(len(table), np.nan) for table in tables]
    seen: list[int] = []
    for start in range(0, len(looked_at), _BATCH):
        report_progress(start, len(looked_at), "pictures looked at")
        vectors_of_rows = vectors_of(looked_at[start : start + _BATCH].tolist())
        seen += vectors_of_rows
        for row, vectors in vectors_of_rows.items():
            length = grid.length_of(images.embeddings[row], vectors)
            for number, coder in enumerate(coders):
                places = np.flatnonzero(tables[number]["image"] == row)
                latents = tables[number]["latent"].to_numpy()[places]
                values = at_positions(coder, vectors, length, latents).T
                shown = values.clamp_min(0).numpy()
                maps[number][places] = to_bytes(shown)
                spreads[number][places] = [spread(heatmap) for heatmap in shown]
    report_progress(len(looked_at), len(looked_at), "pictures looked at")
    for coder, table, of_maps in zip(coders, tables, spreads, strict=True):
        counts = table["rank"] < SPREAD_PICTURES
        by_latent = pd.Series(of_maps)[counts].groupby(table["latent"]).mean()
        # Those of one SAE after another are let go of.
        table = table.assign(map=[bytes(heatmap) for heatmap in maps.pop(0)])
        shown_maps = table[table["image"].isin(seen)].drop(columns="rank")
        yield Maps(shown_maps, by_latent.reindex(range(coder.m)).to_numpy())


def _pictures_to_look_at(
    highest: Int[np.ndarray, "latents pictures"], image_count: int, most_images: int
) -> Int[np.ndarray, " looked_at"]:
    """Choose pictures so that every latent has some, greedily.

    A latent's first picture counts 1, its second 1/2, its third 1/3, and so on. The
    picture that adds most is chosen next; of equal ones the first.

    Args:
        highest: (latents, pictures) rows of each latent's highest pictures, -1 for none.
        image_count: how many pictures there are.
        most_images: how many are chosen, at most.

    Returns:
        Their rows, in order.
    """
    latents, ranks = np.nonzero(highest >= 0)
    images = highest[latents, ranks]
    latents = latents[np.argsort(images, kind="stable")]
    starts = np.searchsorted(np.sort(images), np.arange(image_count + 1))
    gains = np.bincount(images, minlength=image_count).astype(float)
    counts = np.zeros(len(highest))
    chosen: list[int] = []
    while len(chosen) < most_images and gains.max(initial=0) > 0:
        image = int(gains.argmax())
        chosen.append(image)
        of_image = latents[starts[image] : starts[image + 1]]
        losses = 1 / (1 + counts[of_image]) - 1 / (2 + counts[of_image])
        counts[of_image] += 1
        for pictures_of_latent, loss in zip(highest[of_image], losses, strict=True):
            gains[pictures_of_latent[pictures_of_latent >= 0]] -= loss
        gains[image] = 0
    return np.sort(np.array(chosen, dtype=int))


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
    controls: Sequence[str] = (),
    artifacts: Path = Path("results/artifacts"),
    device: str = "cpu",
) -> None:
    """Draw heatmaps of the latents of the SAEs that a page shows.

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
        controls: methods whose SAEs get none, since no page shows their latents.
        artifacts: folder of fetched artifacts.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.

    Raises:
        UserError: a file is missing or damaged, or an image cannot be read.
    """
    opened_bank = read_bank(bank)
    saes = _shown(opened_bank, controls)
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
        facts = viewer.facts()
        vectors_of = viewer.reader(
            test.index["path"].to_numpy(), datasets.reader(spec, artifacts)
        )
        coders = [opened_bank.open(sae) for sae in saes]
        for sae, maps in zip(
            saes, draw(coders, test, viewer, vectors_of, most_images), strict=True
        ):
            cell = (opened_bank.dataset, opened_bank.backbone, opened_bank.k)
            values = (*cell, *sae.table_key, "test")
            key = dict(zip(KEY, values, strict=True))
            key_tables.append(_keyed(key, maps.table))
            latents = {"latent": range(len(maps.spread)), "spread": maps.spread}
            latent_tables.append(_keyed(key, pd.DataFrame(latents)))
    # `rows.joined` would copy them all.
    table = pa.concat_tables(key_tables, promote_options="permissive")
    table = table.replace_schema_metadata({"facts": files.dumps(facts)})
    files.write_parquet(out / "maps.parquet", table)
    for name in ("metrics", "curves"):
        files.write_parquet(out / f"{name}.parquet", rows.table([]))
    files.write_parquet(out / "latents.parquet", rows.joined(latent_tables))


def _shown(bank: Bank, controls: Sequence[str]) -> list[Sae]:
    """Return the chosen SAE of each method that a page shows.

    It is of protocol `tuned` where that chose one, and has the first seed.
    """
    chosen = [
        sae for sae in bank.saes if sae.chosen and sae.ok and sae.method not in controls
    ]
    chosen.sort(key=lambda sae: (sae.protocol != "tuned", sae.seed))
    first: dict[str, Sae] = {}
    for sae in chosen:
        first.setdefault(sae.method, sae)
    return list(first.values())


def _keyed(key: dict[str, Any], table: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(table.assign(**key), preserve_index=False)
