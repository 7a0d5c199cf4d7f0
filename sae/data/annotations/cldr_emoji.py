"""English keywords of emoji by Unicode CLDR; emoji differ in skin tone, sex and vendor.

Keywords are of an emoji without its skin tone, as CLDR lists them. This is for images
whose id is VENDOR/CODE-POINTS, as those of the dataset type `emoji` are.
"""

import json
import tarfile
from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data import archives, artifacts
from sae.data.concepts import Annotations

VERSION = 1
MEMBER = "package/annotations/en/annotations.json"
SELECTOR = "FE0F"
TONES = {
    "1F3FB": "light",
    "1F3FC": "medium light",
    "1F3FD": "medium",
    "1F3FE": "medium dark",
    "1F3FF": "dark",
}
# {code point: (its sex, what stands for it in a drawing of either sex)}
SEXES = {
    "1F468": ("male", "adult"),
    "1F469": ("female", "adult"),
    "1F466": ("male", "child"),
    "1F467": ("female", "child"),
    "1F474": ("male", "older adult"),
    "1F475": ("female", "older adult"),
    "2642": ("male", "sign"),
    "2640": ("female", "sign"),
}


class Options(options.Options):
    """Which files to read."""

    artifacts: options.OneArtifact
    """The npm package cldr-annotations-full."""


def load(
    spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says.

    Raises:
        UserError: the package has no English keywords, or an image's id is none of an
            emoji.
    """
    words = read_keywords(artifacts.only_file(artifacts_root, spec.artifacts[0]))
    keyword_rows: list[tuple[str, str]] = []
    attribute_rows: list[tuple[str, str, str, str]] = []
    for image_id in index["image_id"]:
        vendor, slash, code_points = image_id.partition("/")
        points = [point.upper().zfill(4) for point in code_points.split("-")]
        if not slash or not all(is_code_point(point) for point in points):
            raise UserError(
                f"image {image_id!r} is not called VENDOR/CODE-POINTS: cldr_emoji is "
                "for datasets of type emoji"
            )
        keyword_rows += [
            (image_id, word) for word in words.get(without_tone(points), [])
        ]
        attribute_rows += [
            (image_id, *attribute) for attribute in attributes_of(vendor, points)
        ]
    return Annotations(
        pd.DataFrame(keyword_rows, columns=["image_id", "concept"], dtype="str"),
        pd.DataFrame(
            attribute_rows,
            columns=["image_id", "attribute", "value", "drawing"],
            dtype="str",
        ),
    )


def read_keywords(package: Path) -> dict[str, list[str]]:
    """Return CLDR's English keywords by code points, with - between, without selectors.

    Raises:
        UserError: the package lacks them.
    """
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name == MEMBER:
                content = json.loads(archives.read_tar_member(archive, member))
                break
        else:
            raise UserError(f"{package} has no {MEMBER}")
    keywords = {}
    for characters, entry in content["annotations"]["annotations"].items():
        points = [f"{ord(character):04X}" for character in characters]
        plain = "-".join(point for point in points if point != SELECTOR)
        keywords[plain] = list(dict.fromkeys(entry.get("default", [])))
    return keywords


def is_code_point(text: str) -> bool:
    """Return whether a text is a code point in hex."""
    return 4 <= len(text) <= 6 and all(c in "0123456789ABCDEF" for c in text)


def without_tone(points: list[str]) -> str:
    """Return code points as CLDR has them: without skin tones and selectors."""
    return "-".join(p for p in points if p not in TONES and p != SELECTOR)


def attributes_of(vendor: str, points: list[str]) -> list[tuple[str, str, str]]:
    """Return what an emoji's picture has: (attribute, value, drawing).

    Pictures of one drawing differ in the attribute alone. A picture of several people
    may have several tones or sexes; then it has no single value and is left out.
    """
    plain = "-".join(point for point in points if point != SELECTOR)
    attributes = [("vendor", vendor, plain)]

    tones = {point for point in points if point in TONES}
    if len(tones) == 1:
        drawing = f"{vendor}/{without_tone(points)}"
        attributes.append(("tone", TONES[tones.pop()], drawing))

    sexes = {SEXES[point][0] for point in points if point in SEXES}
    if len(sexes) == 1:
        either = [SEXES[p][1] if p in SEXES else p for p in points if p != SELECTOR]
        attributes.append(("sex", sexes.pop(), f"{vendor}/{'-'.join(either)}"))
    return attributes
