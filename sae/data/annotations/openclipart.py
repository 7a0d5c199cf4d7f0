"""Keywords that the makers of clip art gave their drawings, from the RDF in each SVG.

For the dataset type `openclipart`. They are in lower case, with spaces for underscores,
without words that say of a file and not of what it shows (`NO_CONCEPTS`).
"""

import re
from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data import artifacts
from sae.data.concepts import Annotations, no_attributes
from sae.data.datasets.openclipart import keywords_of, read_package

VERSION = 1
# {why: words}. A word on fewer than ten pictures need not be here: it never counts.
NO_CONCEPTS = {
    "what tools and their series are called": [
        "hash",
        "icon",
        "map symbol",
        "mapsym",
        "musicstuff",
        "weathersym",
        "11",
    ],
    "themes of decks of cards and of sets of drawings": [
        "bordered",
        "festive",
        "menu",
        "ornamental",
        "simple",
        "white",
    ],
    "makers": ["architetto francesco rollandin"],
    "folders for what has no other, and for all kinds of things": [
        "activities",
        "miscellany",
        "place",
        "shape",
        "special",
        "symbols",
        "unsorted",
    ],
}
# A Perl program that wrote a variable's address where a word should be.
ADDRESS = re.compile(r"hash\(0x[0-9a-f]+\)")


class Options(options.Options):
    """Name the file to read."""

    artifacts: options.OneArtifact
    """The Debian package openclipart-svg."""


def load(
    spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says.

    The names of the dataset's folders at the top are no keywords either: they are its
    coarse classes.

    Raises:
        UserError: an image is not in the package.
    """
    svgs = read_package(artifacts.only_file(artifacts_root, spec.artifacts[0]))
    listed_words = {word for words in NO_CONCEPTS.values() for word in words}
    coarse_classes = {name.partition("/")[0].replace("_", " ") for name in svgs}
    no_concepts = listed_words | coarse_classes

    rows: list[tuple[str, str]] = []
    for image_id in index["image_id"]:
        if image_id not in svgs:
            raise UserError(
                f"image {image_id!r} is not in artifact {spec.artifacts[0]}: "
                "openclipart is for datasets of that type"
            )
        keywords = {as_concept(word) for word in keywords_of(svgs[image_id])}
        rows += [
            (image_id, keyword)
            for keyword in sorted(keywords - no_concepts - {""})
            if not ADDRESS.fullmatch(keyword)
        ]
    keywords_of_images = pd.DataFrame(
        rows, columns=["image_id", "concept"], dtype="str"
    )
    return Annotations(keywords_of_images, no_attributes())


def as_concept(keyword: str) -> str:
    """Return a keyword in one spelling: small letters, and one space between words."""
    return " ".join(keyword.lower().replace("_", " ").split())
