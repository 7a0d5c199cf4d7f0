"""Emoji pictures of several vendors (64 x 64, composited on white), from npm packages of three forms (`_PICTURE`).

An emoji-datasource-* says what emoji there are and brings their labels: `label` is the Unicode subcategory,
`label_coarse` the category. Other vendors' pictures of what it does not know are left out. A `group` is the
person-neutral base emoji across vendors, since the same emoji in another skin tone, gender or vendor's drawing is a
near-duplicate; groups that share a picture to the pixel (some flags do) are one.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable
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
# Dropped: joiner, variation selector, gender signs, skin tones. Mapped: man, woman -> person; boy, girl -> child;
# old man, old woman -> older person; couples and families with a code point of their own -> their neutral sequence.
_DROPPED = {"200D", "FE0F", "2640", "2642", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_NEUTRAL = {
    "1F468": "1F9D1",
    "1F469": "1F9D1",
    "1F466": "1F9D2",
    "1F467": "1F9D2",
    "1F474": "1F9D3",
    "1F475": "1F9D3",
}
_NEUTRAL |= dict.fromkeys(("1F46B", "1F46C", "1F46D"), "1F9D1-1F91D-1F9D1")
_NEUTRAL |= {
    "1F491": "1F9D1-2764-1F9D1",
    "1F48F": "1F9D1-2764-1F48B-1F9D1",
    "1F46A": "1F9D1-1F9D1-1F9D2",
}

# Where pictures lie in a package: emoji-datasource-*, @lobehub/fluent-emoji-3d, openmoji. A file's name is code points.
_PICTURE = re.compile(
    r"package/(?:img/[^/]+/64|assets|color/svg)/([^/]+\.(?:png|webp|svg))"
)
_SIDE = 64  # Of all vendors, so that none is sharper than others.


class Options(options.Options):
    """What may be written of such a dataset."""

    artifacts: dict[str, str]
    """{vendor: the artifact with its pictures}; one of them an emoji-datasource-*, which brings the labels."""
    fractions: options.Fractions
    split_seed: options.Seed


def neutral(unified: str) -> str:
    """The person-neutral base of an emoji's code points, such as '1F468-1F3FB-200D-1F692' (man firefighter)."""
    kept = [_NEUTRAL.get(c, c) for c in unified.upper().split("-") if c not in _DROPPED]
    return "-".join(kept) or unified


def _join(groups: list[str], pictures: list[bytes]) -> list[str]:
    """N group names, where groups that share a picture, be it through other groups, get the first of their names."""
    rows = pd.DataFrame({"group": groups, "picture": pictures, "joined": groups})
    while True:
        before = rows["joined"]
        for shared in ("picture", "group"):
            rows["joined"] = rows.groupby(shared)["joined"].transform("min")
        if rows["joined"].equals(before):
            return rows["joined"].tolist()


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    pictures: dict[str, bytes] = {}
    emoji: list[dict[str, Any]] = []
    for vendor, artifact in spec.artifacts.items():
        # One pass over the archive: a gzip stream has no random access, and all pictures together are tens of MB.
        with tarfile.open(artifacts.only_file(artifacts_root, artifact)) as archive:
            for member in archive:
                if picture := _PICTURE.fullmatch(member.name):
                    pictures[f"{vendor}/{picture[1]}"] = archives.content(
                        archive, member
                    )
                elif member.name == "package/emoji.json":
                    emoji = json.loads(archives.content(archive, member))
        if not any(name.startswith(f"{vendor}/") for name in pictures):
            raise UserError(
                f"dataset emoji, key artifacts.{vendor}: no picture of the known layouts is in {artifact}"
            )
    if not emoji:
        raise UserError(
            "dataset emoji, key artifacts: none is a package emoji-datasource-*, which brings the labels"
        )
    places = _by_code_points(pictures)
    found: list[tuple[str, ...]] = []
    for base in emoji:
        for variant in [base, *base.get("skin_variations", {}).values()]:
            for vendor in spec.artifacts:
                if path := places.get((vendor, _plain(variant["unified"]))):
                    # The group is that of the base: variants of mixed skin tones are spelled in another way.
                    of_base = (
                        base["subcategory"],
                        base["category"],
                        neutral(base["unified"]),
                    )
                    found.append((f"{vendor}/{variant['unified']}", path, *of_base))
    rows = pd.DataFrame(
        found, columns=["image_id", "path", "subcategory", "category", "group"]
    )
    rows = rows.sort_values("image_id", ignore_index=True)
    group = _join(
        rows["group"].tolist(),
        [hashlib.sha256(pictures[path]).digest() for path in rows["path"]],
    )
    index = indexing.frame(
        rows["image_id"],
        rows["path"],
        grouped_split(
            group, rows["category"], spec.fractions.model_dump(), spec.split_seed
        ),
        pd.factorize(rows["subcategory"], sort=True)[0],
        rows["subcategory"],
        label_coarse=pd.array(
            pd.factorize(rows["category"], sort=True)[0], dtype="Int64"
        ),
        label_coarse_name=rows["category"],
        group=group,
    )

    def open_image(path: str) -> Image.Image:
        content = _drawn(pictures[path]) if path.endswith(".svg") else pictures[path]
        return ImageOps.pad(
            rgb(Image.open(io.BytesIO(content))), (_SIDE, _SIDE), color="white"
        )

    return Dataset(index, open_image, grouped=True)


def _plain(code_points: str) -> str:
    """One spelling of code points: vendors differ in case, in leading zeros and in their use of FE0F."""
    return "-".join(c.zfill(4) for c in code_points.upper().split("-") if c != "FE0F")


def _by_code_points(paths: Iterable[str]) -> dict[tuple[str, str], str]:
    """{(vendor, plain code points): path}. Of two files for one emoji the longer name, its full one, counts."""
    found = {}
    for path in sorted(paths, key=len):
        vendor, _, name = path.rpartition("/")
        found[vendor, _plain(Path(name).stem)] = path
    return found


def _drawn(svg: bytes) -> bytes:
    """An SVG as a PNG."""
    import resvg_py

    # No picture has text, and what fonts a machine has must not matter.
    return resvg_py.svg_to_bytes(
        svg_string=svg.decode(), width=_SIDE, height=_SIDE, skip_system_fonts=True
    )
