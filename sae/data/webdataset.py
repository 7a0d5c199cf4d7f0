"""The samples of WebDataset tars: `a/1.jpg` with `a/1.cls`, or `a/1.json`.

Members of one sample follow each other, and have one key: the name up to the first dot
of its last part. What comes after the dot is the member's ending.
"""

import itertools
import json
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import TypeAdapter

from sae.core.errors import UserError
from sae.data.omissions import Omissions
from sae.data.sample import OTHER_JSON, Sample
from sae.data.tars import open_tar_file, tar_members

IMAGE_ENDINGS = {"jpg", "jpeg", "png", "webp"}
# What is read of other people's JSON; whatever else is in it does no harm.
_LABEL: TypeAdapter[int | None] = TypeAdapter(int | None)


class _Member(NamedTuple):
    """A member of a tar, as WebDataset reads its name.

    Attributes:
        key: the sample's.
        ending: such as "jpg", in small letters.
        offset: the byte of the tar at which its content starts.
        size: in bytes.
    """

    key: str
    ending: str
    offset: int
    size: int


def tar_samples(root: Path, file: str, omissions: Omissions) -> Iterator[Sample]:
    """Yield the images of a WebDataset tar in order; only their labels are read.

    Args:
        root: the folder that `file` is relative to.
        file: the tar.
        omissions: gets the members and the keys that give no image.

    Raises:
        UserError: the tar is damaged, a label is no class number, or the second dot of
            a name hides that a key has an image.
    """
    path = root / file
    keys_with_image = set()
    # {key: the ending of an image that its second dot hides}
    hidden_images: dict[str, str] = {}
    with open_tar_file(path) as open_file:
        by_key = itertools.groupby(
            _named_members(path, omissions), operator.attrgetter("key")
        )
        for key, members in by_key:
            sample = _members_by_ending(members, file, omissions)
            images = [ending for ending in sample if ending in IMAGE_ENDINGS]
            # Such as "mask.png" of a/1.mask.png.
            views = [ending for ending in sample if _is_view(ending)]
            for ending in images[1:]:
                omissions.add(
                    "images beside another one of their key", f"{file}: {key}.{ending}"
                )
            for ending in views:
                omissions.add(
                    "images of two endings, as masks have,", f"{file}: {key}.{ending}"
                )

            # The first image is the sample's.
            if images:
                image = sample[images[0]]
                keys_with_image.add(key)
                label = _read_label(open_file, sample, file, path, omissions)
                yield Sample(key, f"{file}@{image.offset}+{image.size}", label)
            elif views:
                hidden_images.setdefault(key, views[0])
            else:
                endings = ", ".join(sorted(IMAGE_ENDINGS))
                omissions.add(
                    f"keys without an image ({endings})",
                    f"{file}: {key}.{next(iter(sample))}",
                )

    # Beside an image a view is a mask, say; the image may follow under the same key. A
    # view alone is most likely the image, whose name has a dot too many.
    for key, ending in hidden_images.items():
        if key not in keys_with_image:
            raise UserError(
                f"{path}: {key}.{ending} has the ending {ending!r}, since an ending "
                f"starts at the first dot, and {key} has no other image: rename it "
                "with one dot"
            )


def _is_view(ending: str) -> bool:
    return "." in ending and ending.rpartition(".")[2] in IMAGE_ENDINGS


def _named_members(path: Path, omissions: Omissions) -> Iterator[_Member]:
    for name, offset, size in tar_members(path, omissions=omissions):
        folder, slash, base_name = name.removeprefix("./").rpartition("/")
        stem, _, ending = base_name.partition(".")
        if stem:
            yield _Member(folder + slash + stem, ending.lower(), offset, size)
        else:
            # As what macOS writes beside each file: no sample for WebDataset either.
            omissions.add("hidden members", f"{path.name}: {name}", expected=True)


def _members_by_ending(
    members: Iterable[_Member], file: str, omissions: Omissions
) -> dict[str, _Member]:
    """Return {ending: the last member that has it} of one sample."""
    sample: dict[str, _Member] = {}
    for member in members:
        if member.ending in sample:
            omissions.add(
                "members whose key and ending come twice in a row",
                f"{file}: {member.key}.{member.ending}",
            )
        sample[member.ending] = member
    return sample


def _read_label(
    open_file: IO[bytes],
    sample: dict[str, _Member],
    file: str,
    path: Path,
    omissions: Omissions,
) -> int | None:
    """Return the class number in a sample's `cls` or else its `json`, if any."""
    texts: dict[str, bytes] = {}
    for ending in ("cls", "json"):
        if ending in sample:
            open_file.seek(sample[ending].offset)
            texts[ending] = open_file.read(sample[ending].size)
    if not texts:
        for ending in ("label", "class", "cls.txt", "label.txt"):
            if ending in sample:
                omissions.add(
                    "labels by an ending other than .cls, and so their images' classes,",
                    f"{file}: {sample[ending].key}.{ending}",
                )
        return None

    deciding = "cls" if "cls" in texts else "json"
    key = sample[deciding].key
    try:
        if deciding == "json":
            label = _json_label(texts["json"])
            if label is None:
                similar = _similar_key(texts["json"])
                if similar is not None:
                    omissions.add(
                        f"labels of a json under {similar!r} instead of 'label', and so "
                        "their images' classes,",
                        f"{file}: {key}.json",
                    )
            return label
        # Python also reads 1_0, as 10. Whatever a `json` says beside a `cls` is for
        # others to read.
        return int(texts["cls"].replace(b"_", b"?"))
    except OTHER_JSON:
        expected = "a class number"
        if deciding == "json":
            expected += " as `label`"
        raise UserError(
            f"{path}: {key}.{deciding} holds {texts[deciding][:40]!r}, expected "
            f"{expected}"
        ) from None


def _similar_key(text: bytes) -> str | None:
    """Return a key of a sample's JSON that may have been meant as `label`."""
    for key in json.loads(text):
        if key.lower() in ("label", "labels", "cls", "class"):
            return key
    return None


def _json_label(text: bytes) -> int | None:
    return _LABEL.validate_python(json.loads(text).get("label"), strict=True)
