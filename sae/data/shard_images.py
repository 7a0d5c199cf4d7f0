"""The images of a set of shards: WebDataset tars, or parquet files."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae.core.errors import UserError
from sae.data.omissions import Omissions
from sae.data.parquet_images import parquet_samples, recorded_class_names
from sae.data.webdataset import tar_samples

_LABELS = range(2**63)


@dataclass(frozen=True)
class ShardImages:
    """The N images of some shards, in the shards' order.

    Attributes:
        keys: N names: the WebDataset key; for parquet the image's own path, or its row
            number where that is null.
        places: N texts `shard/row`, unique; the shard without its ending.
        locations: N texts that say where the image's bytes are, as
            :func:`sae.data.archives.read_image_bytes` takes them.
        labels: N integers, or None where there are none.
        label_names: the class names that a parquet schema records, or None.
    """

    keys: list[str]
    places: list[str]
    locations: list[str]
    labels: list[int] | None
    label_names: list[str] | None


def list_images(
    root: Path,
    shards: Sequence[str],
    image_column: str = "image",
    label_column: str | None = None,
) -> ShardImages:
    """List the images of some shards.

    Args:
        root: the folder that the shards are relative to.
        shards: WebDataset tars (`key.jpg` with `key.cls`, or `key.json` with `label`),
            or parquet files; all are of one kind.
        image_column: the column of a parquet file with the images.
        label_column: that with the labels; None: `label`, if there is one.

    Raises:
        UserError: there is no image, a shard is damaged, a label is no class number,
            only some images have one, or two files record other class names.
    """
    is_parquet = shards[0].endswith(".parquet")
    omissions = Omissions()
    keys = []
    places = []
    locations = []
    labels = []
    for shard in shards:
        if is_parquet:
            samples = parquet_samples(root, shard, image_column, label_column)
        else:
            samples = tar_samples(root, shard, omissions)
        shard_name = shard.rpartition(".")[0]
        for row, sample in enumerate(samples):
            keys.append(sample.key)
            places.append(f"{shard_name}/{row}")
            locations.append(sample.location)
            labels.append(sample.label)

    names_of_shard = {}
    if is_parquet:
        for shard in shards:
            names_of_shard[shard] = recorded_class_names(
                root / shard, label_column or "label"
            )
    label_names = agreed_names(root, names_of_shard)
    if not keys:
        first_shards = ", ".join(shards[:3])
        if len(shards) > 3:
            first_shards += ", ..."
        left_out = "".join(f"; left out: {line}" for line in omissions.lines())
        raise UserError(f"{root}: there is no image in {first_shards}{left_out}")
    omissions.tell(f"shards {root}")

    return ShardImages(
        keys,
        places,
        locations,
        _checked_labels(root, labels, keys, places, label_names),
        label_names,
    )


def _checked_labels(
    root: Path,
    labels: Sequence[int | None],
    keys: Sequence[str],
    places: Sequence[str],
    label_names: list[str] | None,
) -> list[int] | None:
    """Return the labels of all images; None where no image has one."""
    numbers = [label for label in labels if label is not None]
    if not numbers:
        return None
    for row, label in enumerate(labels):
        if label is not None and label not in _LABELS:
            raise UserError(
                f"image {keys[row]} ({root / places[row]}) has the label "
                f"{str(label)[:40]}, expected 0 to 2^63 - 1; -1 often means that a "
                "split has no labels: use one that has, or leave them out of all"
            )
    if label_names is not None:
        for number in numbers:
            if number >= len(label_names):
                raise UserError(
                    f"{root}: label {number} is beyond the {len(label_names)} class "
                    "names that its files record"
                )
    if len(numbers) < len(labels):
        row = labels.index(None)
        raise UserError(
            f"image {keys[row]} ({root / places[row]}) has no label, and "
            f"{len(numbers):,} others have one: label all of them or none"
        )
    return numbers


def agreed_names(
    root: Path, names_of_place: Mapping[str, list[str] | None]
) -> list[str] | None:
    """Return the class names that several files or splits record.

    Args:
        root: the dataset's folder, for the message.
        names_of_place: {file or split: its class names; None where it records none}.

    Returns:
        None where no place records any.

    Raises:
        UserError: two record other ones, so that one number would be two classes.
    """
    recorded = [
        (place, names) for place, names in names_of_place.items() if names is not None
    ]
    if not recorded:
        return None
    first_place, first_names = recorded[0]
    for place, names in recorded[1:]:
        pairs = itertools.zip_longest(first_names, names)
        for number, (first_name, name) in enumerate(pairs):
            if first_name != name:
                raise UserError(
                    f"{root}: class {number} is {first_name!r} in {first_place} and "
                    f"{name!r} in {place}: write all with one list of class names, in "
                    "one order"
                )
    return first_names
