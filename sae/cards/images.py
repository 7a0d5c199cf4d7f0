"""The images that a card reads: embeddings in three splits, and what goes with them.

References are trained on `train`, chosen on `val`, and everything is read on `test`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from sae.core import files
from sae.core.errors import UserError
from sae.data import store
from sae.data.concepts import SplitConcepts, from_keywords
from sae.data.dataset import OpenImage
from sae.data.parts import PartialArray
from sae.data.splits import SPLITS, grouped_split
from sae.data.store import Activations
from sae.scoring.judges import check_judges
from sae.scoring.metrics import concepts as concepts_metric
from sae.scoring.metrics.concepts import group_numbers, take_rows
from sae.scoring.repeats import check_apart, join_repeats

# Of the groups of one set of images.
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
LEAST_ROWS = 500
# The interval of a card leaves out a tenth of the groups of test images in turn.
LEAST_TEST_GROUPS = 10


@dataclass(frozen=True)
class CardImages:
    """The images of a card.

    Attributes:
        splits: {"train", "val" and "test": the embeddings that the SAE takes}.
        judges: {backbone: {split: its embeddings of the same images}}.
        looks: {split: 8 x 8 thumbnails of the images, as a backbone's embeddings};
            empty where there are no pictures.
        concepts: {split: what people call its images}; empty where nobody says it.
        trained_on: The embeddings that references are trained on, where the SAE was
            trained on others than it is judged on; None: those of train.
        folder: Where the splits lie, as the store of embeddings has them; None where
            they do not lie there.
        open_image: How to open a picture by its path; None where there are none.
        credit: Whose pictures they are.
        notes: What is to be said of how the images were split.
    """

    splits: Mapping[str, Activations]
    judges: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    looks: Mapping[str, np.ndarray] = field(default_factory=dict)
    concepts: Mapping[str, SplitConcepts] = field(default_factory=dict)
    trained_on: Activations | None = None
    folder: Path | None = None
    open_image: OpenImage | None = None
    credit: str = ""
    notes: Sequence[str] = ()

    def sha256(self) -> str:
        """Return a hash of all that a score may read of them."""
        parts = []
        for split, images in self.splits.items():
            parts += [split, array_sha256(images.embeddings)]
            parts.append(files.sha256_text(str(group_numbers(images).tolist())))
            for judge, by_split in self.judges.items():
                parts += [judge, array_sha256(by_split[split])]
            if self.looks:
                parts.append(array_sha256(self.looks[split]))
            if self.concepts:
                concepts = self.concepts[split]
                parts += [*concepts.names, array_sha256(concepts.holds.toarray())]
        return files.sha256_text(files.dumps(parts))

    def test_rows(self, rows: Int[np.ndarray, " rows"]) -> "CardImages":
        """Return these images with some of the test images alone."""
        judges = {
            name: {**by_split, "test": store.rows_of(by_split["test"], rows)}
            for name, by_split in self.judges.items()
        }
        concepts = dict(self.concepts)
        if concepts:
            concepts["test"] = take_rows(concepts["test"], rows)
        splits = {**self.splits, "test": rows_of(self.splits["test"], rows)}
        return replace(self, splits=splits, judges=judges, concepts=concepts)


def rows_of(images: Activations, rows: Int[np.ndarray, " rows"]) -> Activations:
    """Return some of the images, in memory."""
    return Activations(
        store.rows_of(images.embeddings, rows),
        images.index.iloc[rows].reset_index(drop=True),
        images.manifest,
    )


def draw_splits(images: Activations, seed: int = 0) -> np.ndarray:
    """Return (N,) "train", "val" or "test" for each image, drawn by a seed.

    Images of one group get the same split. Classes are not kept apart: small ones would
    have no image in val.
    """
    strata = np.zeros(len(images.index), dtype=int)
    return grouped_split(group_numbers(images), strata, SHARES, seed)


def rows_by_split(
    split: np.ndarray, images: Activations
) -> dict[str, Int[np.ndarray, " rows"]]:
    """Return the rows of each split, after a check.

    Args:
        split: (N,) the split of each image.
        images: The images.

    Raises:
        UserError: A split is missing or another text.
    """
    split = np.asarray(split)
    values = sorted({str(value) for value in split.ravel()})
    if split.shape != (len(images.index),) or values != sorted(SPLITS):
        raise UserError(
            f"split is of shape {split.shape} and holds {values}; "
            f"give 'train', 'val' or 'test' for each of {len(images.index)} embeddings"
        )
    return {name: np.flatnonzero(split == name) for name in SPLITS}


def check_row_count(count: int, name: str) -> None:
    """Refuse embeddings of too few images.

    Raises:
        UserError: there are fewer than `LEAST_ROWS`.
    """
    if count < LEAST_ROWS:
        raise UserError(
            f"{name} has {count} rows, and a card needs {LEAST_ROWS}: references are "
            "trained on seven tenths of them and read on a fifth"
        )


def check_group_count(
    groups: Int[np.ndarray, " images"], least: int, name: str
) -> None:
    """Refuse images of too few groups of near-duplicates.

    Raises:
        UserError: there are fewer than `least`.
    """
    count = len(np.unique(groups))
    if count < least:
        raise UserError(
            f"{name} are of {count} groups, and a card needs {least}: an interval over "
            "fewer says nothing; add images of other things, or give finer groups"
        )


def split_one_set(
    images: Activations,
    judges: Mapping[str, np.ndarray],
    *,
    split: ArrayLike | None = None,
    keywords: Sequence[Iterable[str]] | None = None,
    trained_on: Activations | None = None,
    looks: np.ndarray | None = None,
) -> CardImages:
    """Split one set of images for a card.

    Args:
        images: The embeddings that the SAE takes.
        judges: {backbone: its embeddings of the same images}.
        split: (N,) "train", "val" or "test" for each image; None: drawn by a seed.
        keywords: Of each image.
        trained_on: Embeddings that references are trained on instead.
        looks: (N, 192) thumbnails of the images.

    Raises:
        UserError: Rows or groups are too few, rows differ in number, a split is not
            right, or splits share images.
    """
    count = len(images.index)
    check_row_count(count, "embeddings")
    named = {f"judge {name}": values for name, values in judges.items()}
    checked = check_judges(named, images.embeddings)
    judges = dict(zip(judges, checked.values(), strict=True))
    images, repeat_count = join_repeats(images)
    notes = says_repeats(repeat_count, count)
    if split is None:
        least_groups = round(LEAST_TEST_GROUPS / SHARES["test"])
        check_group_count(group_numbers(images), least_groups, "embeddings")
        split = draw_splits(images)
        by = "by groups of near-duplicates" if images.grouped else "image by image"
        trained = "trained on 70 %, " if trained_on is None else ""
        notes.append(
            f"The {count:,} images were split by a seed, {by}: Top-k and the controls "
            f"are {trained}chosen on 10 % (validation) and read on 20 % (test)."
        )
        if trained_on is None:
            notes.append(
                "If yours was trained on all of these images, it has seen the test "
                "images, and Top-k has not: that is to its advantage."
            )
    rows = rows_by_split(np.asarray(split), images)

    def by_split(values: np.ndarray) -> dict[str, np.ndarray]:
        return {name: store.rows_of(values, part) for name, part in rows.items()}

    concepts: dict[str, SplitConcepts] = {}
    if keywords is not None:
        concepts = from_keywords(
            {name: [keywords[row] for row in part] for name, part in rows.items()}
        )
    splits = {name: rows_of(images, part) for name, part in rows.items()}
    check_apart(splits, trained_on)
    return CardImages(
        splits=splits,
        judges={judge: by_split(values) for judge, values in judges.items()},
        looks={} if looks is None else by_split(looks),
        concepts=concepts,
        trained_on=trained_on,
        notes=notes,
    )


def says_repeats(repeat_count: int, count: int) -> list[str]:
    """Return what is to be said of images that `join_repeats` joined."""
    if not repeat_count:
        return []
    return [
        f"{repeat_count:,} of {count:,} images have the embedding of another one: "
        "identical ones count as one group."
    ]


def check_concepts_count(images: CardImages, name: str) -> None:
    """Refuse keywords of a user of which none counts.

    Args:
        images: With the keywords.
        name: What messages call the keywords.

    Raises:
        UserError: On the test images none does.
    """
    if not _concepts_that_count(images):
        raise UserError(
            f"{name}: no keyword counts on the test images. {_needs_of_concepts(images)}"
        )


def says_uncounted_concepts(images: CardImages) -> list[str]:
    """Return what is to be said where keywords are given and none of them counts."""
    if images.concepts and not _concepts_that_count(images):
        return [
            "There are no names and no match with concepts: no keyword counts on the "
            f"test images. {_needs_of_concepts(images)}."
        ]
    return []


def _concepts_that_count(images: CardImages) -> int:
    options = concepts_metric.Options()
    train = concepts_metric.training_side(
        images.splits["train"], images.concepts["train"], options
    )
    places, _ = concepts_metric.held_out_side(
        images.splits["test"], images.concepts["test"], train, options
    )
    return len(places)


def _needs_of_concepts(images: CardImages) -> str:
    options = concepts_metric.Options()
    return (
        f"A keyword counts if {options.least_train} or more of the "
        f"{len(images.splits['train'].index):,} training images have it, in "
        f"{options.least_train_groups} groups; {options.least_split} or more of the "
        f"{len(images.splits['test'].index):,} test images, in "
        f"{options.least_split_groups} groups; and not all of them"
    )


def training_folder(images: CardImages, root: Path) -> Path:
    """Return the folder of the splits that references are trained and chosen on.

    Where they do not lie in one, `train` and `val` are written below `root`, into a
    folder that is named by what is in it.
    """
    if images.folder is not None and images.trained_on is None:
        return images.folder
    splits = {
        "train": images.trained_on or images.splits["train"],
        "val": images.splits["val"],
    }
    names = []
    for split, activations in splits.items():
        names += [split, array_sha256(activations.embeddings)]
    folder = root / "embeddings" / files.sha256_text(files.dumps(names))[:32]
    if all((folder / split / "manifest.json").exists() for split in splits):
        return folder
    # Whole or absent: another card may begin on the same embeddings.
    with files.atomic_directory(folder, replace=folder.exists()) as temporary:
        for split, activations in splits.items():
            about = {
                part: {"fingerprint": "", **activations.manifest[part]}
                for part in ("dataset", "backbone")
            }
            index = activations.index.reset_index(drop=True)
            with files.scratch_directory(temporary / split) as scratch:
                rows = PartialArray(scratch / "embeddings.npy", len(index))
                rows.append(np.asarray(activations.embeddings))
                store.adopt(temporary / split, [rows], index, about)
    return folder


def array_sha256(array: Float[np.ndarray, "images dim"]) -> str:
    """Return the hash of an array's shape, type and numbers."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    for start in range(0, len(array), store.AT_ONCE):
        digest.update(array[start : start + store.AT_ONCE].tobytes())
    return digest.hexdigest()
