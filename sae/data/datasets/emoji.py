"""Emoji pictures of several vendors, from npm packages of three forms (`_PICTURE`).

Pictures are 64 x 64, composited on white. An emoji-datasource-* says what emoji there
are and brings their labels: `label` is the Unicode subcategory, `label_coarse` the
category. Other vendors' pictures of what it does not know are left out. A `group` is
the person-neutral base emoji across vendors, since the same emoji in another skin tone,
gender or vendor's drawing is a near-duplicate; groups that share a picture to the pixel
(some flags do) are one.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageOps

from sae.core import options
from sae.core.errors import UserError
from sae.data import archives, artifacts, indexing
from sae.data.dataset import Dataset
from sae.data.pictures import rgb
from sae.data.splits import grouped_split

VERSION = 1
# Code points that change a person's look and not what is shown: joiner, variation
# selector, gender signs, skin tones.
_DROPPED = {"200D", "FE0F", "2640", "2642", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
# {code point: those of its neutral form}
_NEUTRAL = {
    # Man and woman: person.
    "1F468": "1F9D1",
    "1F469": "1F9D1",
    # Boy and girl: child.
    "1F466": "1F9D2",
    "1F467": "1F9D2",
    # Old man and old woman: older person.
    "1F474": "1F9D3",
    "1F475": "1F9D3",
    # Couples and families with a code point of their own: their neutral sequences.
    "1F46B": "1F9D1-1F91D-1F9D1",
    "1F46C": "1F9D1-1F91D-1F9D1",
    "1F46D": "1F9D1-1F91D-1F9D1",
    "1F491": "1F9D1-2764-1F9D1",
    "1F48F": "1F9D1-2764-1F48B-1F9D1",
    "1F46A": "1F9D1-1F9D1-1F9D2",
}

# Where pictures lie in a package: emoji-datasource-*, @lobehub/fluent-emoji-3d,
# openmoji. A file's name is code points.
_PICTURE = re.compile(
    r"package/(?:img/[^/]+/64|assets|color/svg)/([^/]+\.(?:png|webp|svg))"
)
_SIDE = 64  # Of all vendors, so that none is sharper than others.
_ROW = ["image_id", "path", "subcategory", "category", "group"]


class Options(options.Options):
    """The options of such a dataset."""

    artifacts: dict[str, str]
    """{vendor: the artifact with its pictures}; one of them an emoji-datasource-*,
    which brings the labels."""
    fractions: options.Fractions
    """The share of each split: {train, val, test}."""
    split_seed: options.Seed
    """The seed that draws which images a split gets."""


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """Load the dataset; see `sae.data.datasets`.

    Raises:
        UserError: a package has no pictures, or none brings the labels.
    """
    pictures, emoji = _read_packages(spec.artifacts, artifacts_root)
    rows = _labelled_pictures(emoji, pictures, list(spec.artifacts))
    rows = rows.sort_values("image_id", ignore_index=True)
    digests = [hashlib.sha256(pictures[path]).digest() for path in rows["path"]]
    group = _join(rows["group"].tolist(), digests)
    split = grouped_split(
        group, rows["category"], spec.fractions.model_dump(), spec.split_seed
    )
    category_numbers = pd.factorize(rows["category"], sort=True)[0]
    index = indexing.frame(
        rows["image_id"],
        rows["path"],
        split,
        pd.factorize(rows["subcategory"], sort=True)[0],
        rows["subcategory"],
        label_coarse=pd.array(category_numbers, dtype="Int64"),
        label_coarse_name=rows["category"],
        group=group,
    )

    def open_image(path: str) -> Image.Image:
        picture = pictures[path]
        if path.endswith(".svg"):
            import resvg_py

            # No picture has text, and what fonts a machine has must not matter.
            picture = resvg_py.svg_to_bytes(
                svg_string=picture.decode(),
                width=_SIDE,
                height=_SIDE,
                skip_system_fonts=True,
            )
        image = rgb(Image.open(io.BytesIO(picture)))
        return ImageOps.pad(image, (_SIDE, _SIDE), color="white")

    return Dataset(index, open_image, grouped=True)


def _read_packages(
    artifact_of_vendor: Mapping[str, str], artifacts_root: str | Path | None
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    pictures: dict[str, bytes] = {}
    emoji: list[dict[str, Any]] = []
    for vendor, artifact in artifact_of_vendor.items():
        has_pictures = False
        # One pass over the archive: a gzip stream has no random access.
        with tarfile.open(artifacts.only_file(artifacts_root, artifact)) as archive:
            for member in archive:
                picture_name = _PICTURE.fullmatch(member.name)
                if picture_name:
                    has_pictures = True
                    picture = archives.read_tar_member(archive, member)
                    pictures[f"{vendor}/{picture_name[1]}"] = picture
                elif member.name == "package/emoji.json":
                    emoji = json.loads(archives.read_tar_member(archive, member))
        if not has_pictures:
            raise UserError(
                f"dataset emoji, key artifacts.{vendor}: no picture of the known "
                f"layouts is in {artifact}"
            )
    if not emoji:
        raise UserError(
            "dataset emoji, key artifacts: none is a package emoji-datasource-*, which "
            "brings the labels"
        )
    return pictures, emoji


def _labelled_pictures(
    emoji: Iterable[dict[str, Any]], paths: Iterable[str], vendors: Iterable[str]
) -> pd.DataFrame:
    path_of_picture = _by_code_points(paths)
    rows: list[tuple[str, ...]] = []
    for base in emoji:
        # Of the base: variants of mixed skin tones are spelled in another way.
        labels = (base["subcategory"], base["category"], neutral(base["unified"]))
        for variant in [base, *base.get("skin_variations", {}).values()]:
            code_points = variant["unified"]
            for vendor in vendors:
                path = path_of_picture.get((vendor, _plain(code_points)))
                if path:
                    rows.append((f"{vendor}/{code_points}", path, *labels))
    return pd.DataFrame(rows, columns=_ROW)


def neutral(code_points: str) -> str:
    """Return the code points of an emoji's person-neutral base.

    Args:
        code_points: such as '1F468-1F3FB-200D-1F692' (man firefighter).
    """
    neutral_points = [
        _NEUTRAL.get(code_point, code_point)
        for code_point in code_points.upper().split("-")
        if code_point not in _DROPPED
    ]
    return "-".join(neutral_points) or code_points


def _join(groups: list[str], digests: list[bytes]) -> list[str]:
    """Give groups that share a picture, be it through others, their first name."""
    rows = pd.DataFrame({"group": groups, "digest": digests, "joined": groups})
    while True:
        before = rows["joined"]
        for shared in ("digest", "group"):
            rows["joined"] = rows.groupby(shared)["joined"].transform("min")
        if rows["joined"].equals(before):
            return rows["joined"].tolist()


def _plain(code_points: str) -> str:
    """Return one spelling of code points; vendors differ in case, 0s and FE0F."""
    return "-".join(
        code_point.zfill(4)
        for code_point in code_points.upper().split("-")
        if code_point != "FE0F"
    )


def _by_code_points(paths: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return {(vendor, plain code points): path}, of two files the longer name."""
    path_of_picture = {}
    for path in sorted(paths, key=len):
        vendor, _, name = path.rpartition("/")
        path_of_picture[vendor, _plain(Path(name).stem)] = path
    return path_of_picture
