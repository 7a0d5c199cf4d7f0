"""Make the card of an SAE from Python, without files: what `sae.card` does."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from sae.cards.images import check_concepts_count, split_one_set
from sae.cards.make import check_is_pooled, make_card
from sae.core import arguments
from sae.models.apply import Encoder, coder_of
from sae.models.coder import Coder
from sae.scoring import alone
from sae.scoring.judges import named_judges


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
    pooled: bool = False,
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
        pooled: the SAE was trained on one vector an image, although its format is one
            of patch tokens.
        device: the name of a torch device.

    Raises:
        UserError: something is of a wrong type or shape, rows or groups are too few or
            differ in number, the SAE is one of patch tokens or reconstructs the
            embeddings worse than their mean does, or it would take too long.
    """
    coder = coder_of(sae, "sae.card")
    check_is_pooled(coder, pooled)
    images = alone.data("embeddings", embeddings, groups, coder.d, coder.input_norm)
    trained_on = None
    if train is not None:
        trained_on = alone.data("train", train, None, coder.d, coder.input_norm)
    alone.check_order("split", split)
    keywords = None
    if concepts is not None:
        keywords = alone.keyword_lists("concepts", concepts, len(images.index))
    card_images = split_one_set(
        images,
        named_judges("judges", judges),
        split=split,
        keywords=keywords,
        trained_on=trained_on,
    )
    if concepts is not None:
        check_concepts_count(card_images, "concepts")
    made = make_card(
        coder,
        card_images,
        root=arguments.file_path("store", store),
        quick=quick,
        yes=yes,
        device=device,
    )
    return made.content
