"""Pack concepts for the site: names of latents, F1 by concept, and pairs of images.

Concepts are keywords that people gave images (`sae.data.concepts`). Names are those of
the metric `names`, read from latents.parquet; the F1 of each concept is computed here,
from the latents that latents.parquet has for it and the test codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from sae.core import files
from sae.core.errors import UserError
from sae.data import concepts
from sae.data.store import Activations
from sae.report.names import printed
from sae.report.site import pack
from sae.scoring import concept_matching as matching
from sae.scoring.metrics import concepts as metric

# The columns of latents.parquet that say what latents stand for, and are no scores.
WORDS = (
    "stands_for",
    "name",
    "name_precision",
    "name_recall",
    "name_threshold",
    "often",
)


@dataclass(frozen=True)
class ShownConcepts:
    """The annotations of the test images of a dataset.

    Attributes:
        names: The C concepts that count, sorted.
        holds: (images, C) sparse, 1.0 where a test image has the concept.
        weights: (images,) 1 over the size of an image's group.
        attributes: By name.
        credit: Whose keywords these are; empty where nobody is to be named.
    """

    names: list[str]
    holds: scipy.sparse.csc_matrix
    weights: np.ndarray
    attributes: Mapping[str, concepts.Attribute]
    credit: str


def choose_shown(
    annotations: concepts.Annotations,
    train: Activations,
    test: Activations,
    options: metric.Options,
    credit: str,
) -> ShownConcepts:
    """Choose the concepts that the metric counts on test.

    Args:
        annotations: Of all images of the dataset.
        train: Its training images; of these the index alone is read.
        test: Its test images.
        options: Those of the metric.
        credit: Whose keywords these are.
    """
    train_concepts = concepts.of_images(annotations, train.index["image_id"])
    test_concepts = concepts.of_images(annotations, test.index["image_id"])
    train_side = metric.training_side(train, train_concepts, options)
    _, test_side = metric.held_out_side(test, test_concepts, train_side, options)
    return ShownConcepts(
        [test_concepts.names[number] for number in test_side.concepts],
        test_side.holds.tocsc(),
        test_side.weights,
        test_concepts.attributes,
        credit,
    )


def read_index(folder: Path) -> Activations:
    """Read the index of a split; its embeddings are not opened, and have no column.

    Raises:
        UserError: a file is missing or altered.
    """
    manifest_file = folder / "manifest.json"
    manifest = files.read_json(manifest_file, "manifest of activations")
    index_file = folder / "index.parquet"
    files.check_sum(index_file, manifest["sha256"][index_file.name], manifest_file)
    index = files.read_parquet(index_file)
    return Activations(np.empty((len(index), 0)), index, manifest)


def images_payload(shown: ShownConcepts) -> dict[str, Any]:
    """Return what `images/{i}` holds of concepts, and of pairs of images."""
    image_count = len(shown.weights)
    holds = shown.holds.sorted_indices()
    payload: dict[str, Any] = {
        "concepts": {
            "names": [printed(name) for name in shown.names],
            "offsets": pack.packed(holds.indptr, "u32"),
            "image": pack.index(holds.indices, image_count),
        },
        "attributes": [
            attribute_payload(name, attribute)
            for name, attribute in shown.attributes.items()
        ],
        "concept_credit": shown.credit,
    }
    return payload


def attribute_payload(name: str, attribute: concepts.Attribute) -> dict[str, Any]:
    """Return one attribute of the test images; an image without a partner has none.

    Partners are images of one drawing that have different values.
    """
    table = pd.DataFrame(
        {"drawing": attribute.drawing_numbers, "value": attribute.value_numbers}
    )
    value_count = table.groupby("drawing")["value"].transform("nunique")
    has_partner = (table["drawing"] >= 0) & (value_count > 1)
    # Drawings are numbered anew, so that few bits do.
    drawing = np.full(len(table), -1)
    drawing[has_partner] = pd.factorize(table.loc[has_partner, "drawing"])[0]
    value = np.where(has_partner, attribute.value_numbers, -1)
    return {
        "name": printed(name),
        "values": [printed(value_name) for value_name in attribute.values],
        "value": pack.index(value, len(attribute.values)),
        "drawing": pack.index(drawing, len(table)),
    }


def is_matched(table: pd.DataFrame) -> bool:
    """Return whether an SAE was matched with concepts on test, by its latents' table."""
    return "stands_for" in table and bool(table["stands_for"].notna().any())


def is_named(table: pd.DataFrame) -> bool:
    """Return whether names were sought for an SAE's latents, by their table."""
    return "often" in table and bool(table["often"].notna().any())


def names_payload(table: pd.DataFrame) -> dict[str, Any]:
    """Return `names` of `saes/{n}`, of an SAE for whose latents names were sought.

    Args:
        table: (m rows by latent) the columns of the metric `names`.
    """
    return {
        "name": [None if pd.isna(name) else printed(name) for name in table["name"]],
        "often": [printed(words) for words in table["often"]],
        "precision": pack.packed(table["name_precision"].to_numpy(float), "f16"),
        "recall": pack.packed(table["name_recall"].to_numpy(float), "f16"),
        "threshold": pack.packed(table["name_threshold"].to_numpy(float), "f32"),
    }


def stands_for_payload(
    table: pd.DataFrame, codes: scipy.sparse.csc_matrix, shown: ShownConcepts
) -> dict[str, Any]:
    """Return which latents stand for each concept, and how well, of one SAE.

    Args:
        table: (m rows by latent) `stands_for`: concepts joined by a separator.
        codes: (images, m) of the test images.
        shown: The concepts that count.

    Returns:
        `f1`, (C,) of "one of the concept's latents fires"; `latents`, (C, steps), those
        latents, the best alone first; `alone`, (C, steps), the F1 of each alone.

    Raises:
        UserError: the table names a concept that does not count.
    """
    chosen = chosen_latents(table, shown.names)
    fires = codes.tocsr(copy=True)
    fires.data[:] = 1.0
    f1 = matching.f1_of_chosen(chosen, fires, shown.holds, shown.weights)

    alone = np.full(chosen.latents.shape, np.nan)
    for step, latents in enumerate(chosen.latents):
        one_each = matching.ChosenLatents(latents[None], np.zeros((1, len(latents))))
        f1_of_step = matching.f1_of_chosen(one_each, fires, shown.holds, shown.weights)
        alone[step] = np.where(latents >= 0, f1_of_step, np.nan)
    order = np.argsort(-np.nan_to_num(alone, nan=-1.0), axis=0, kind="stable")
    latents = np.take_along_axis(chosen.latents, order, axis=0)
    return {
        "f1": pack.packed(f1, "f32"),
        "latents": pack.index(latents.T, codes.shape[1]),
        "alone": pack.packed(np.take_along_axis(alone, order, axis=0).T, "f32"),
    }


def chosen_latents(table: pd.DataFrame, names: list[str]) -> matching.ChosenLatents:
    """Return the latents that stand for each concept, read from `stands_for`.

    In which order they were chosen, and what each gained, is not known any more.

    Raises:
        UserError: the table names a concept that does not count.
    """
    latents_by_concept: dict[str, list[int]] = {name: [] for name in names}
    for latent, joined_names in enumerate(table["stands_for"]):
        if not isinstance(joined_names, str):
            continue
        for name in joined_names.split(concepts.SEPARATOR):
            if name not in latents_by_concept:
                raise UserError(
                    f"latents.parquet names the concept {name!r}, which does not count "
                    "in these images; run the scores again"
                )
            latents_by_concept[name].append(latent)

    step_count = max(map(len, latents_by_concept.values()), default=0)
    latents = np.full((step_count, len(names)), -1)
    for number, name in enumerate(names):
        of_concept = latents_by_concept[name]
        latents[: len(of_concept), number] = of_concept
    return matching.ChosenLatents(latents, np.zeros(latents.shape))
