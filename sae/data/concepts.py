"""Annotations of a dataset: keywords of its pictures, and what pairs of them differ in.

They lie beside the dataset's index: `concepts.parquet` has a row for each image and
keyword, `attributes.parquet` one for each image and attribute, and `concepts.json` says
where they come from and holds the hashes of both. No embedding depends on them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse

from sae.core import files
from sae.core.errors import UserError
from sae.data import artifacts
from sae.data.entries import parse

VERSION = 1
KEYWORDS = ["image_id", "concept"]
ATTRIBUTES = ["image_id", "attribute", "value", "drawing"]
# Between several concepts in one text; no concept's name has it.
SEPARATOR = " | "
MANIFEST = "concepts.json"
KEYWORD_FILE = "concepts.parquet"
ATTRIBUTE_FILE = "attributes.parquet"


@dataclass(frozen=True)
class Annotations:
    """Annotations hold what people say of a dataset's pictures.

    Attributes:
        keywords: A row for each image and keyword: `image_id`, `concept`.
        attributes: A row for each image and attribute: `image_id`, `attribute`,
            `value`, `drawing`. Pictures of one drawing differ in that attribute alone.
    """

    keywords: pd.DataFrame
    attributes: pd.DataFrame


@dataclass(frozen=True)
class Attribute:
    """One attribute of the images of a split.

    Attributes:
        values: The names of its values, sorted.
        value_numbers: (images,) places in `values`, -1 of an image without one.
        drawing_numbers: (images,) which pictures differ in this attribute alone; -1 of
            an image without a value.
    """

    values: list[str]
    value_numbers: np.ndarray
    drawing_numbers: np.ndarray


@dataclass(frozen=True)
class SplitConcepts:
    """The annotations of the images of one split, in the order of its index.

    Attributes:
        names: The concepts of the whole dataset, sorted.
        holds: (images, concepts) sparse, 1.0 where an image has the keyword.
        attributes: By name.
    """

    names: list[str]
    holds: scipy.sparse.csr_matrix
    attributes: dict[str, Attribute]


def build(
    dataset_dir: Path,
    spec: dict[str, Any],
    artifacts_root: str | Path | None,
) -> None:
    """Write the annotations of a dataset beside its index.

    Args:
        dataset_dir: The folder that `sae.data.dataset.build` wrote.
        spec: Where they come from: the mapping `concepts` of the dataset's entry.
        artifacts_root: Folder of fetched artifacts; None where none are needed.

    Raises:
        UserError: the source is unknown or its files are not right, or an image that it
            names is not in the index.
    """
    manifest = files.read_json(dataset_dir / "manifest.json", "manifest of dataset")
    index_file = dataset_dir / "index.parquet"
    files.check_sum(index_file, manifest["sha256"], dataset_dir / "manifest.json")
    index = files.read_parquet(index_file)

    entry = parse("annotation", spec)
    # A copy, so that what the entry changes in it is not what it is checked against.
    loaded = entry.entry_module.load(
        entry.own_options, artifacts_root, index.copy(deep=False)
    )
    annotations = Annotations(
        loaded.keywords.reset_index(drop=True), loaded.attributes.reset_index(drop=True)
    )
    check(annotations, index)

    keywords = annotations.keywords.sort_values(KEYWORDS, ignore_index=True)
    attributes = annotations.attributes.sort_values(ATTRIBUTES, ignore_index=True)
    (dataset_dir / MANIFEST).unlink(missing_ok=True)
    files.write_parquet(dataset_dir / KEYWORD_FILE, keywords)
    files.write_parquet(dataset_dir / ATTRIBUTE_FILE, attributes)
    files.write_json(
        dataset_dir / MANIFEST,
        {
            "spec": spec,
            "index": manifest["sha256"],
            "artifacts": artifacts.manifests(artifacts_root, entry.artifact_names),
            "sha256": {
                name: files.sha256(dataset_dir / name)
                for name in (KEYWORD_FILE, ATTRIBUTE_FILE)
            },
        },
    )


def check(annotations: Annotations, index: pd.DataFrame) -> None:
    """Check annotations against the index.

    Raises:
        UserError: columns are missing or hold nothing or no texts, an image is not in
            the index or has one keyword or attribute twice, or a keyword has the
            separator in it.
    """
    tables = (
        ("keywords", annotations.keywords, KEYWORDS, KEYWORDS),
        ("attributes", annotations.attributes, ATTRIBUTES, ATTRIBUTES[:2]),
    )
    for kind, table, columns, key in tables:
        if list(table.columns) != columns:
            raise UserError(
                f"{kind} have columns {list(table.columns)}, expected {columns}"
            )
        for column in columns:
            if not pd.api.types.is_string_dtype(table[column]):
                raise UserError(f"{kind}: the column {column} holds more than texts")
            if (table[column].isna() | (table[column] == "")).any():
                raise UserError(f"{kind}: a row has no {column}")
        unknown = table.loc[~table["image_id"].isin(index["image_id"]), "image_id"]
        if len(unknown):
            raise UserError(
                f"{kind} name image {unknown.iloc[0]!r}, which is not in the dataset"
            )
        repeated = table[table.duplicated(key)]
        if len(repeated):
            first = repeated.iloc[0]
            raise UserError(
                f"{kind}: image {first['image_id']!r} has {first[key[1]]!r} twice"
            )
    names = annotations.keywords["concept"]
    with_separator = names[names.str.contains(SEPARATOR, regex=False)]
    if len(with_separator):
        raise UserError(
            f"the keyword {with_separator.iloc[0]!r} contains {SEPARATOR!r}, which "
            "parts keywords; write it without"
        )


def load_annotations(dataset_dir: Path) -> Annotations:
    """Read the annotations beside a dataset's index.

    Raises:
        UserError: they are missing or altered.
    """
    manifest = files.read_json(dataset_dir / MANIFEST, "manifest of concepts")
    for name, digest in manifest["sha256"].items():
        files.check_sum(dataset_dir / name, digest, dataset_dir / MANIFEST)
    return Annotations(
        files.read_parquet(dataset_dir / KEYWORD_FILE),
        files.read_parquet(dataset_dir / ATTRIBUTE_FILE),
    )


def sums(dataset_dir: Path) -> dict[str, str]:
    """Return the hashes of the annotations beside a dataset's index, by file.

    Raises:
        UserError: they are missing.
    """
    return files.read_json(dataset_dir / MANIFEST, "manifest of concepts")["sha256"]


def of_images(annotations: Annotations, image_ids: pd.Series) -> SplitConcepts:
    """Return the annotations of some images, in their order.

    Args:
        annotations: Of the whole dataset.
        image_ids: Of the images, unique.
    """
    names = sorted(annotations.keywords["concept"].unique())
    rows = places_in(annotations.keywords["image_id"], image_ids)
    columns = places_in(annotations.keywords["concept"], names)
    is_of_split = rows >= 0
    holds = scipy.sparse.csr_matrix(
        (np.ones(is_of_split.sum()), (rows[is_of_split], columns[is_of_split])),
        shape=(len(image_ids), len(names)),
    )

    attributes = {}
    for name, table in annotations.attributes.groupby("attribute"):
        values = sorted(table["value"].unique())
        rows = places_in(table["image_id"], image_ids)
        is_of_split = rows >= 0
        value_numbers = np.full(len(image_ids), -1)
        numbers = places_in(table["value"], values)
        value_numbers[rows[is_of_split]] = numbers[is_of_split]
        drawing_numbers = np.full(len(image_ids), -1)
        drawings = pd.factorize(table["drawing"], sort=True)[0]
        drawing_numbers[rows[is_of_split]] = drawings[is_of_split]
        attributes[str(name)] = Attribute(values, value_numbers, drawing_numbers)
    return SplitConcepts(names, holds, attributes)


def places_in(texts: pd.Series, known_texts: Sequence[str] | pd.Series) -> np.ndarray:
    """Return the place of each text among others, -1 of one that is not there.

    Arrow's own texts take a fifth of the memory of Python's, of which there would be
    millions.
    """
    value_set = pa.array(known_texts, pa.string())
    places = pc.index_in(pa.array(texts, pa.string()), value_set=value_set)
    return places.fill_null(-1).to_numpy()


def from_keywords(
    keywords: Mapping[str, Sequence[Iterable[str]]],
) -> dict[str, SplitConcepts]:
    """Return annotations without attributes of keywords in lists.

    Args:
        keywords: {split: for each of its images, its keywords}; a keyword that stands
            twice counts once.

    Returns:
        {split: its annotations}; the concepts are those of all splits.
    """
    rows = [
        (f"{split}/{number}", word)
        for split, images in keywords.items()
        for number, of_image in enumerate(images)
        for word in sorted(set(of_image))
    ]
    annotations = Annotations(
        pd.DataFrame(rows, columns=KEYWORDS, dtype="str"), no_attributes()
    )
    return {
        split: of_images(
            annotations,
            pd.Series([f"{split}/{number}" for number in range(len(images))]),
        )
        for split, images in keywords.items()
    }


def no_attributes() -> pd.DataFrame:
    """Return a table of attributes without rows, for a source that knows of none."""
    return pd.DataFrame({column: pd.array([], dtype="str") for column in ATTRIBUTES})
