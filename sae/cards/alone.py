"""Make the card of an SAE from Python, without files: what `sae.card` does."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from sae.cards.images import (
    CardImages,
    check_row_count,
    draw_splits,
    rows_by_split,
    rows_of,
)
from sae.cards.make import make
from sae.core.errors import UserError
from sae.data.concepts import SplitConcepts, from_keywords
from sae.data.store import Activations
from sae.data.store import rows_of as embeddings_of
from sae.models.apply import Encoder, check_embeddings
from sae.models.coder import Coder
from sae.scoring import alone


def card(
    sae: Encoder | Coder,
    embeddings: Float[np.ndarray, "images dim"],
    *,
    judges: Mapping[str, Float[np.ndarray, "images judge_dim"]] | None = None,
    groups: ArrayLike | None = None,
    concepts: Sequence[Iterable[str]] | None = None,
    train: Float[np.ndarray, "train_images dim"] | None = None,
    split: ArrayLike | None = None,
    store: Path | str = "results/cards",
    quick: bool = False,
    yes: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return the card of an SAE: what `python -m sae card` writes into card.json.

    Top-k SAEs and controls are trained on the same images, and stay in `store`. It
    takes minutes.

    An example::

        sae.card(sae.load("sae.safetensors"), embeddings, judges={"dinov2": others})

    Args:
        sae: what `sae.load` returns.
        embeddings: (N, d) of any float type, as the backbone gave them; N is 500 or
            more.
        judges: {backbone: (N, d') its embeddings of the same images}, d' of its own;
            for detection. Name none of the family of the SAE's own backbone.
        groups: (N,) numbers or texts, equal for near-duplicates (images of one thing).
        concepts: (N,) what people call each image: any number of keywords, or none.
        train: (N', d) embeddings that the SAE was trained on, where these are others:
            references are then trained on them.
        split: (N,) 'train', 'val' or 'test' for each image; by default drawn by a seed,
            by groups where there are any. References are trained on train, chosen on
            val and read on test.
        store: folder in which references stay for a second card.
        quick: train references for a fixed short time.
        yes: go on where it takes more than half an hour.
        device: the name of a torch device.

    Raises:
        UserError: something is of a wrong type or shape, rows are too few or differ in
            number, the SAE reconstructs the embeddings worse than their mean does, or
            it would take too long.
    """
    if not isinstance(sae, Encoder | Coder):
        raise UserError(
            f"sae.card takes an SAE, not {type(sae).__name__}: open a file with "
            "sae.load(path)"
        )
    coder = sae.coder if isinstance(sae, Encoder) else sae
    images = alone.data("embeddings", embeddings, groups, coder.d, coder.input_norm)
    trained_on = None
    if train is not None:
        trained_on = alone.data("train", train, None, coder.d, coder.input_norm)
    keywords = None
    if concepts is not None:
        if len(concepts) != len(images.index):
            raise UserError(
                f"concepts has {len(concepts)} entries for {len(images.index)} "
                "embeddings; give a list of keywords for each"
            )
        keywords = list(concepts)
    card_images, notes = split_one_set(
        images,
        judges or {},
        split=split,
        keywords=keywords,
        trained_on=trained_on,
    )
    made = make(
        coder,
        card_images,
        root=Path(store),
        notes=notes,
        quick=quick,
        yes=yes,
        device=device,
    )
    return made.content


def split_one_set(
    images: Activations,
    judges: Mapping[str, np.ndarray],
    *,
    split: ArrayLike | None = None,
    keywords: Sequence[Iterable[str]] | None = None,
    trained_on: Activations | None = None,
    looks: np.ndarray | None = None,
) -> tuple[CardImages, list[str]]:
    """Split one set of images for a card.

    Args:
        images: The embeddings that the SAE takes.
        judges: {backbone: its embeddings of the same images}.
        split: (N,) as :func:`card` takes it.
        keywords: Of each image.
        trained_on: Embeddings that references are trained on instead.
        looks: (N, 192) thumbnails of the images.

    Returns:
        The images, and what is to be said of them.

    Raises:
        UserError: Rows are too few or differ in number, or a split is not right.
    """
    count = len(images.index)
    check_row_count(count, "embeddings")
    judges = {
        name: check_judge(name, values, images.embeddings)
        for name, values in judges.items()
    }
    notes = []
    if split is None:
        split = draw_splits(images)
        by = "by groups of near-duplicates" if images.grouped else "image by image"
        trained = "trained on 70 %, " if trained_on is None else ""
        notes.append(
            f"The {count:,} images were split by a seed, {by}: references are "
            f"{trained}chosen on 10 % and read on 20 %."
        )
        if trained_on is None:
            notes.append(
                "The SAE may have been trained on the test images, too, which the "
                "references were not: its scores are then on its side."
            )
    rows = rows_by_split(np.asarray(split), images)
    concepts: dict[str, SplitConcepts] = {}
    if keywords is not None:
        concepts = from_keywords(
            {name: [keywords[row] for row in part] for name, part in rows.items()}
        )
    return (
        CardImages(
            splits={name: rows_of(images, part) for name, part in rows.items()},
            judges={
                judge: {
                    name: embeddings_of(values, part) for name, part in rows.items()
                }
                for judge, values in judges.items()
            },
            looks=(
                {}
                if looks is None
                else {name: looks[part] for name, part in rows.items()}
            ),
            concepts=concepts,
            trained_on=trained_on,
        ),
        notes,
    )


def check_judge(name: str, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return a judge's embeddings, if they are of the same images and not `own`.

    Raises:
        UserError: they have another number of rows, or are equal to `own`.
    """
    values = check_embeddings(values, None, f"judge {name}")
    if len(values) != len(own):
        raise UserError(
            f"judge {name} has {len(values)} rows for {len(own)} embeddings: give its "
            "embeddings of the same images, in the same order"
        )
    if values.shape == own.shape and np.array_equal(values, own):
        raise UserError(
            f"judge {name} has the embeddings that the SAE takes: a judge is another "
            "backbone"
        )
    return values
