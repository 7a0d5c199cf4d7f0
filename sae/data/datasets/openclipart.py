"""Clip art that hundreds of people drew and named: Debian's package openclipart-svg.

Only pictures that are marked as public domain inside their SVG are taken. They are
drawn by resvg (resvg_py, which pip installs without system libraries), on white, as
large as they fit (`sae.data.drawing`). Beside the PNG files of Debian's
openclipart-png, 199 random pages drawn at 224 pixels differ by 1.0 of 255 in the
median, and 97 % by less than 5; most of the others are thin lines, or have text, which
is not drawn, or a link to a picture that nobody has.

`label_coarse` is the folder at the top, `label` the folder in which a picture lies.
Near-copies are one `group` (`sae.data.near_copies`), but flags and playing cards stay
what they are: a flag is joined only with one that is named and looks like it, a card
only with the same card of the other decks; and either with what is the same to the
pixel.
"""

import functools
import io
import lzma
import re
import tarfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from PIL import Image

from sae.core import files, options
from sae.core.errors import UserError
from sae.data import artifacts, drawing, indexing, near_copies
from sae.data.dataset import Dataset
from sae.data.omissions import Omissions
from sae.data.splits import grouped_split

VERSION = 2
FOLDER = "usr/share/openclipart/svg/"
# What makers name as the licence of a picture in the public domain.
PUBLIC_DOMAIN = {
    "http://web.resource.org/cc/publicdomain",
    "http://creativecommons.org/licenses/publicdomain",
    "public domain",
}
# Some flags lie in other folders, and some in this one have no keyword.
FLAGS = "signs_and_symbols/flags/"
FLAG_KEYWORDS = {"flag", "flags"}
# Each deck has a folder, and its cards the folder's name, suit and rank: bordered_c_10.
CARD = re.compile(r"recreation/games/cards/([a-z]+)/\1_([a-z]+_[a-z0-9]+)")
# A Debian package is an ar archive: after a line, members with a header of 60 bytes.
AR_START = b"!<arch>\n"
AR_HEADER = 60
DATA = "data.tar"


class Options(options.Options):
    """Say which pictures are taken, and how they are split."""

    artifacts: options.OneArtifact
    """The Debian package openclipart-svg."""
    without: list[str]
    """Folders at the top that are left out."""
    fractions: options.Fractions
    """The share of each split: {train, val, test}."""
    split_seed: options.Seed
    """The seed that draws which images a split gets."""


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """Load what `sae.data.datasets` says; draw what is not drawn yet."""
    package = artifacts.only_file(artifacts_root, spec.artifacts[0])
    svgs = public_pictures(package, spec.without)
    folder = folder_of_drawings(spec, package)
    drawing.draw_all(svgs, folder, "dataset openclipart: drawn")

    omissions = Omissions()
    pictures: list[near_copies.Picture] = []
    undrawn: list[str] = []
    for name in sorted(svgs):
        try:
            image = drawing.open_drawing(folder, name).convert("RGB")
        except ValueError:
            # It stays in the index, so that it is named among the broken ones.
            undrawn.append(name)
            continue
        if is_of_one_colour(image):
            omissions.add("pictures of one colour", name)
        else:
            pictures.append(as_near_copy(name, keywords_of(svgs[name]), image))
    omissions.tell("dataset openclipart", expected=True)

    names = [picture.name for picture in pictures] + undrawn
    group = near_copies.groups_of(pictures) + undrawn
    leaves = pd.Series([name.rpartition("/")[0] for name in names])
    tops = pd.Series([name.partition("/")[0] for name in names])
    index = indexing.frame(
        names,
        names,
        grouped_split(group, tops, spec.fractions.model_dump(), spec.split_seed),
        pd.factorize(leaves, sort=True)[0],
        leaves,
        label_coarse=pd.array(pd.factorize(tops, sort=True)[0], dtype="Int64"),
        label_coarse_name=tops,
        group=group,
    )
    open_image = functools.partial(drawing.open_drawing, folder)
    return Dataset(index, open_image, grouped=True)


def opener(
    spec: Options, artifacts_root: str | Path | None
) -> Callable[[str], Image.Image]:
    """Return the function that opens what was drawn, as `sae.data.datasets` says."""
    package = artifacts.only_file(artifacts_root, spec.artifacts[0])
    folder = folder_of_drawings(spec, package)
    if not drawing.is_complete(folder):
        svgs = public_pictures(package, spec.without)
        drawing.draw_all(svgs, folder, "dataset openclipart: drawn")
    return functools.partial(drawing.open_drawing, folder)


def as_near_copy(
    name: str, keywords: list[str], image: Image.Image
) -> near_copies.Picture:
    """Return what the near-copies of a picture are found by.

    Args:
        name: Its path.
        keywords: As its maker wrote them.
        image: In RGB.
    """
    sign = near_copies.sign_of(image)
    card = CARD.fullmatch(name)
    if card:
        suit_and_rank = card[2]
        return near_copies.Picture(name, suit_and_rank, near_copies.Kind.NAMED, sign)

    is_flag = name.startswith(FLAGS) or any(
        keyword.lower() in FLAG_KEYWORDS for keyword in keywords
    )
    kind = near_copies.Kind.EMBLEM if is_flag else near_copies.Kind.DRAWING
    stem = near_copies.stem(name.rpartition("/")[2])
    return near_copies.Picture(name, stem, kind, sign)


def folder_of_drawings(spec: Options, package: Path) -> Path:
    """Return where the pictures of a package lie once they are drawn: beside it."""
    pixels_rest_on = [files.sha256(package), sorted(spec.without), drawing.renderer()]
    key = files.sha256_text(files.dumps(pixels_rest_on))[:16]
    return package.parent / f"drawn-{key}"


def public_pictures(package: Path, without: list[str]) -> dict[str, bytes]:
    """Return the SVGs that are marked as public domain; says how many others there are.

    Args:
        package: The file *.deb.
        without: Folders at the top that are left out.

    Returns:
        {path below the folder of all pictures, without .svg: content}.

    Raises:
        UserError: there are none, or one of the folders is not there.
    """
    omissions = Omissions()
    public: dict[str, bytes] = {}
    tops: set[str] = set()
    for name, svg in read_package(package, omissions).items():
        top = name.partition("/")[0]
        tops.add(top)
        if top in without:
            omissions.add(f"pictures in {top}", name)
            continue
        try:
            marks, _ = describe(svg)
        except (ElementTree.ParseError, LookupError, ValueError):
            # The last two: an encoding that Python does not know, or cannot parse in.
            omissions.add("pictures that are no XML", name)
            continue
        # A mark of a licence, and none but this one.
        if marks and all(map(is_mark, marks)):
            public[name] = svg
        else:
            omissions.add("pictures without a mark of public domain", name)
    strange = sorted(set(without) - tops)
    if strange:
        raise UserError(
            f"dataset openclipart, key without: {package} has no folder "
            f"{strange[0]!r}; it has {', '.join(sorted(tops))}"
        )
    if not public:
        raise UserError(f"{package} has no picture that is marked as public domain")
    omissions.tell("dataset openclipart", expected=True)
    return public


def read_package(package: Path, omissions: Omissions | None = None) -> dict[str, bytes]:
    """Read the SVGs of a Debian package.

    Args:
        package: The file *.deb.
        omissions: Gets the links: one picture in several folders.

    Returns:
        {path below the folder of all pictures, without .svg: content}.

    Raises:
        UserError: it is no Debian package, or a name in it leads out of its folder.
    """
    omissions = Omissions() if omissions is None else omissions
    svgs = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data_of_package(package))) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                if not path.startswith(FOLDER) or not path.endswith(".svg"):
                    continue
                name = path.removeprefix(FOLDER).removesuffix(".svg")
                # A picture is drawn into a file of this name.
                if name.startswith("/") or ".." in name.split("/"):
                    raise UserError(
                        f"{package}: the name {member.name!r} leads out of its folder"
                    )
                if member.isreg():
                    content = archive.extractfile(member)
                    assert content is not None  # It is a regular file.
                    svgs[name] = content.read()
                else:
                    omissions.add("links to pictures", name)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{package} has no {DATA} that can be read: {error}") from None
    return svgs


def data_of_package(package: Path) -> bytes:
    """Return the compressed tar with the files of a Debian package (deb(5)).

    Raises:
        UserError: it is none.
    """
    content = package.read_bytes()
    position = len(AR_START)
    while content.startswith(AR_START) and position + AR_HEADER <= len(content):
        header = content[position : position + AR_HEADER]
        size = header[48:58].strip()
        if not size.isdigit():
            break
        start = position + AR_HEADER
        end = start + int(size)
        if header.startswith(DATA.encode()):
            return content[start:end]
        position = end + end % 2  # Members begin at even bytes.
    raise UserError(f"{package} is no whole Debian package: fetch it again")


def describe(svg: bytes) -> tuple[list[str], list[str]]:
    """Read what an SVG says of itself in RDF: marks of licences, and keywords.

    Python's parser of XML bounds what entities may grow to, and opens no other file.

    Raises:
        xml.etree.ElementTree.ParseError: it is no XML.
    """
    marks: list[str] = []
    keywords: list[str] = []
    for element in ElementTree.fromstring(svg).iter():
        name = drawing.local_name(element.tag).lower()
        if name == "license":
            # cc:license names one, and cc:License says what it allows.
            marks += element.attrib.values()
        elif name == "subject":
            words = [
                entry.text or ""
                for entry in element.iter()
                if drawing.local_name(entry.tag) == "li"
            ]
            keywords += [word.strip() for word in words if word.strip()]
    return marks, keywords


def keywords_of(svg: bytes) -> list[str]:
    """Return the keywords of an SVG, as their makers wrote them."""
    return describe(svg)[1]


def is_mark(licence: str) -> bool:
    """Return whether a text or an address is one that names the public domain."""
    return licence.strip().lower().rstrip("/") in PUBLIC_DOMAIN


def is_of_one_colour(image: Image.Image) -> bool:
    """Return whether an RGB picture shows nothing."""
    return image.getcolors(maxcolors=1) is not None
