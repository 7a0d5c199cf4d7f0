"""Photographs in folders of an artifact's tar, pooled and split anew.

The pictures of all `folders`, such as an official train and val, are split class by
class. Near-copies are one group (`sae.data.near_copies.groups_of_photographs`), which
lies in one split. An image's id is its path in the tar. A class that is a WordNet ID
is shown by its word.
"""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pydantic import Field

from sae.core import options
from sae.core.errors import UserError
from sae.data import archives, artifacts, indexing, near_copies, pictures
from sae.data.clock import Clock
from sae.data.dataset import Dataset, OpenImage
from sae.data.omissions import Omissions
from sae.data.splits import grouped_split
from sae.data.tars import TarMember, tar_members
from sae.data.wordnet_ids import class_words

VERSION = 1
IN_FOLDERS = "folders"


class Options(options.Options):
    """Say which pictures are taken, and how they are split."""

    artifacts: options.OneArtifact
    """An artifact of one file, a tar."""
    folders: list[str]
    """The folders in the tar that hold class folders; `train/n01440764/...`."""
    labels: str = IN_FOLDERS
    """What says the class of a picture: `folders`, or a CSV in the tar with the columns
    `image`, a picture's name without its ending, and `label`. The pictures then lie in
    the folders themselves."""
    without: list[str] = Field([])
    """Classes that are left out."""
    fractions: options.Fractions
    """The share of each split: {train, val, test}."""
    split_seed: options.Seed
    """The seed that draws which images a split gets."""


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """Load what `sae.data.datasets` says; every picture is decoded, to find copies.

    Raises:
        UserError: the tar has no picture in one of the folders, or one of the classes
            that are to be left out is not there.
    """
    tar = artifacts.only_file(artifacts_root, spec.artifacts[0])
    members_of_class = list_pictures(tar, spec)
    omitted = [name for name in spec.without if not members_of_class.pop(name, None)]
    if omitted:
        raise UserError(
            f"dataset class_folders, key without: {tar} has no class {omitted[0]!r}; it "
            f"has {', '.join(sorted(members_of_class))}"
        )

    class_names = sorted(members_of_class)
    words = class_words(class_names)
    members: list[TarMember] = []
    labels: list[int] = []
    label_names: list[str] = []
    for label, name in enumerate(class_names):
        members += members_of_class[name]
        labels += [label] * len(members_of_class[name])
        label_names += [words[name].replace("_", " ")] * len(members_of_class[name])

    names = [member.name for member in members]
    paths = [f"{tar.name}@{member.offset}+{member.size}" for member in members]
    open_image = archives.opener(tar.parent)
    groups = join_copies(names, paths, pictures.Guard(open_image))
    splits = grouped_split(groups, labels, spec.fractions.model_dump(), spec.split_seed)
    index = indexing.frame(names, paths, splits, labels, label_names, group=groups)
    return Dataset(index, open_image, grouped=True)


def opener(
    spec: Options, artifacts_root: str | Path | None
) -> Callable[[str], Image.Image]:
    """Return the function that opens a picture, as `sae.data.datasets` says."""
    tar = artifacts.only_file(artifacts_root, spec.artifacts[0])
    return archives.opener(tar.parent)


def list_pictures(tar: Path, spec: Options) -> dict[str, list[TarMember]]:
    """Return {class: its pictures in all folders, by name}.

    Raises:
        UserError: a folder has none, or the CSV of labels is not right.
    """
    omissions = Omissions()
    members = sorted(tar_members(tar, omissions=omissions))
    class_of = _class_of_path(tar, members, spec.labels)
    members_of_class: dict[str, list[TarMember]] = {}
    folders_without = set(spec.folders)
    for member in members:
        for folder in spec.folders:
            if not member.name.startswith(f"{folder}/"):
                continue
            class_name = class_of(member.name.removeprefix(f"{folder}/"))
            is_picture = member.name.lower().endswith(pictures.ENDINGS)
            if is_picture and class_name is not None:
                members_of_class.setdefault(class_name, []).append(member)
                folders_without.discard(folder)
            else:
                omissions.add("files that are no picture of a class", member.name)
    if folders_without:
        place = "CLASS/" if spec.labels == IN_FOLDERS else ""
        raise UserError(
            f"dataset class_folders, key folders: {tar} has no picture in "
            f"{min(folders_without)}/{place}"
        )
    omissions.tell(f"dataset class_folders, {tar.name}", expected=True)
    return members_of_class


def _class_of_path(
    tar: Path, members: Iterable[TarMember], labels: str
) -> Callable[[str], str | None]:
    """Return the function from a path below a folder to a class; None if it has none."""
    if labels == IN_FOLDERS:
        return lambda path: path.partition("/")[0] if "/" in path else None
    class_of_name = _read_labels(tar, members, labels)
    return lambda path: class_of_name.get(PurePosixPath(path).stem)


def _read_labels(tar: Path, members: Iterable[TarMember], name: str) -> dict[str, str]:
    """Return {name of a picture without its ending: its class} of a CSV in the tar."""
    place = f"dataset class_folders, key labels: {tar}"
    member = next((member for member in members if member.name == name), None)
    if member is None:
        raise UserError(f"{place} has no file {name}; or write folders")
    with tar.open("rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}, {name} is no text in UTF-8: {error}") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {"image", "label"} <= set(rows.fieldnames or []):
        raise UserError(f"{place}, {name}: expected the columns image and label")
    return {row["image"]: row["label"] for row in rows if row["label"]}


def join_copies(names: list[str], paths: list[str], open_rgb: OpenImage) -> list[str]:
    """Return the group of each picture; one that cannot be read is its own.

    Args:
        names: N texts, unique.
        paths: N texts, which `open_rgb` takes.
        open_rgb: Returns an image in RGB.
    """
    readable: list[int] = []
    digests: list[int] = []
    thumbnails: list[np.ndarray] = []
    clock = Clock("dataset class_folders: compared", len(names), len(names))
    for row, path in enumerate(paths):
        try:
            image = open_rgb(path)
        except pictures.UNREADABLE:
            continue
        readable.append(row)
        digests.append(pictures.digest(image))
        thumbnails.append(near_copies.thumbnail_of(image))
        clock.tell(1)

    groups = list(names)
    readable_names = [names[row] for row in readable]
    joined = near_copies.groups_of_photographs(
        readable_names, digests, np.array(thumbnails, np.uint8).reshape(-1, 16, 16, 3)
    )
    for row, group in zip(readable, joined, strict=True):
        groups[row] = group
    return groups
