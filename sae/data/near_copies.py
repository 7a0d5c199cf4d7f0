"""Find near-copies: by the names of pictures, by what they show, or to the pixel.

All limits below were set by looking at pairs just inside and just outside of them: of
the dataset `openclipart`, and those of photographs on Caltech-101, Imagenette and
CIFAR-10. docs/data.md says what they showed.
"""

import enum
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.sparse
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from sae.data.pictures import digest

# A drawing in other colours, or as an outline, has the name of the first one and these.
COLOURS = {
    "bw",
    "black",
    "white",
    "grey",
    "gray",
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "pink",
    "brown",
}
# File names were cut off after about 24 letters, in the middle of the maker's name. A
# stem of so many letters that begins another stem is taken for that one, cut off.
CUT_OFF = 14

# A line runs where neighbouring pixels differ by more than this in a channel, of 255.
LINE = 12
# Correlations of lines, of two pictures as they are or one of them mirrored. From .97
# on there are the same drawing in other colours, its outline and its shape filled; at
# .96 begin other signs in the same frame.
SAME_LINES = 0.97
# Among drawings of one name in one folder: a stop sign without and with its word is at
# .762, two telephones by two makers are at .756.
LINES_OF_NAMESAKES = 0.76
# Among emblems of one name, which are the same in other proportions or hues.
LINES_OF_EMBLEMS = 0.9
# The root mean square of the differences of 16 x 16 pixels, of 255: emblems are the
# same only in the same colours.
MOST_OTHER_COLOUR = 20.0

# The correlation of 16 x 16 grey pixels. By itself it joins all discs and all squares.
SAME_GREY = 0.97
# A bit counts where its frequency is this far from the median, in mean distances.
# Frequencies of symmetric drawings lie at the median, on either side by chance.
SURE_BIT = 0.05
# Half of the bits have to count in both pictures: of discs, whatever is on them, 15 do.
LEAST_SURE_BITS = 32
# Of those that count, one in so many may differ.
SURE_BITS_PER_DIFFERING_ONE = 15

# Photographs, as they are or mirrored: the correlation of 16 x 16 grey pixels, and the
# root mean square of the differences of 16 x 16 pixels, of 255. There are crops by a
# few pixels and new compressions; further out begin other motorbikes on one background.
SAME_PHOTOGRAPH = 0.95
MOST_OTHER_PHOTOGRAPH = 20.0
# Photographs that are compared with all others at once.
BLOCK = 500


class Kind(enum.Enum):
    """A way in which the near-copies of a picture are found."""

    DRAWING = "by its name, or by what it shows"
    EMBLEM = "by both together: others look alike and are another thing, as flags"
    NAMED = "by its name alone, as a playing card"


@dataclass(frozen=True)
class Sign:
    """The features by which a picture is recognised, whatever its file says.

    Attributes:
        lines: Where lines run: the share of pixels on a line in each of 32 x 32 fields,
            less their mean, scaled to length 1; all 0 where there are none.
        mirrored_lines: Where lines run in the picture mirrored left to right.
        grey: 16 x 16 grey pixels less their mean, scaled to length 1.
        thumbnail: 16 x 16 pixels in RGB, 0 to 255.
        bits: The perceptual hash: whether each low frequency of 32 x 32 grey pixels is
            above their median.
        is_sure: Whether each frequency is far enough from the median (`SURE_BIT`).
        digest: Of the pixels.
    """

    lines: Float[np.ndarray, "1024"]
    mirrored_lines: Float[np.ndarray, "1024"]
    grey: Float[np.ndarray, "256"]
    thumbnail: Float[np.ndarray, "768"]
    bits: Bool[np.ndarray, "63"]
    is_sure: Bool[np.ndarray, "63"]
    digest: int


@dataclass(frozen=True)
class Picture:
    """A picture with all that its near-copies are found by.

    Attributes:
        name: Its path, unique.
        stem: What its name says of the drawing (:func:`stem`); of `Kind.NAMED`, what
            only its copies share.
        kind: How its near-copies are found.
        sign: The features by which it is recognised.
    """

    name: str
    stem: str
    kind: Kind
    sign: Sign


def sign_of(image: Image.Image) -> Sign:
    """Return the features by which an RGB picture is recognised."""
    grey_32 = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    frequencies = scipy.fft.dctn(np.asarray(grey_32, dtype=np.float64), norm="ortho")
    # Without the first of them, the mean.
    low_frequencies = frequencies[:8, :8].ravel()[1:]
    above_median = low_frequencies - np.median(low_frequencies)
    distance = np.abs(above_median)

    thumbnail = image.resize((16, 16), Image.Resampling.LANCZOS)
    lines = _line_shares(image)
    return Sign(
        lines=_standardised(lines),
        mirrored_lines=_standardised(lines[:, ::-1]),
        grey=_standardised(np.asarray(thumbnail.convert("L"))),
        thumbnail=np.asarray(thumbnail, dtype=np.float32).ravel(),
        bits=above_median > 0,
        is_sure=distance > SURE_BIT * distance.mean(),
        digest=digest(image),
    )


def _line_shares(image: Image.Image) -> np.ndarray:
    """Return the share of pixels on a line in 32 x 32 fields of a picture, of 255."""
    # Channel by channel: the largest of three is found six times as fast.
    channels = np.moveaxis(np.asarray(image, dtype=np.int16), 2, 0).copy()
    differs_from_right = np.abs(np.diff(channels, axis=2)).max(axis=0) > LINE
    differs_from_below = np.abs(np.diff(channels, axis=1)).max(axis=0) > LINE

    # Both pixels lie on the line, so that a mirrored picture has mirrored lines.
    is_line = np.zeros(channels.shape[1:], dtype=bool)
    is_line[:, :-1][differs_from_right] = True
    is_line[:, 1:][differs_from_right] = True
    is_line[:-1][differs_from_below] = True
    is_line[1:][differs_from_below] = True
    line_picture = Image.fromarray(np.where(is_line, 255, 0).astype(np.uint8))
    return np.asarray(line_picture.resize((32, 32), Image.Resampling.BOX))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Return values less their mean, as a vector of length 1, or 0 if all are equal."""
    centred = values.ravel() - values.mean(dtype=np.float64)
    return (centred / (np.linalg.norm(centred) or 1.0)).astype(np.float32)


def stem(file_name: str) -> str:
    """Return what a file's name says of the drawing, without which copy it is.

    That is without numbers, colours and short last words: `muffin1_bw` and `muffin_3`
    are both `muffin`, `led_circle_red` is `led circle`, `bullet_hole_linda_kim_aa` is
    `bullet hole linda kim`. A name that has nothing else keeps its words.
    """
    words = re.split(r"[^a-z0-9]+", file_name.lower())
    without_numbers = [word.strip("0123456789") for word in words]
    telling = [word for word in without_numbers if word and word not in COLOURS]
    while len(telling) > 1 and len(telling[-1]) <= 2:
        telling.pop()
    return " ".join(telling or filter(None, words))


def common_stems(stems: Sequence[str]) -> list[str]:
    """Replace each stem by the shortest long one that begins it (`CUT_OFF`)."""
    beginning = ""
    replaced = {}
    for name in sorted(set(stems)):
        if len(beginning) < CUT_OFF or not name.startswith(beginning):
            beginning = name
        replaced[name] = beginning
    return [replaced[name] for name in stems]


def groups_of(pictures: Sequence[Picture]) -> list[str]:
    """Join near-copies, be it through other pictures.

    Returns:
        The group of each picture: the first of its members' names.
    """
    pairs = _pairs_of_equals([picture.sign.digest for picture in pictures])
    pairs += _pairs_by_name(pictures)
    pairs += _pairs_by_lines_and_name(pictures)
    pairs += _pairs_by_likeness(pictures)
    return _join([picture.name for picture in pictures], pairs)


def groups_of_photographs(
    names: Sequence[str],
    digests: Sequence[int],
    thumbnails: UInt8[np.ndarray, "n 16 16 3"],
) -> list[str]:
    """Join near-copies among photographs, be it through others.

    Args:
        names: Of N photographs, unique.
        digests: N hashes of their pixels.
        thumbnails: N times 16 x 16 pixels in RGB (:func:`thumbnail_of`).

    Returns:
        The group of each photograph: the first of its members' names.
    """
    return _join(names, _pairs_of_equals(digests) + _pairs_of_photographs(thumbnails))


def thumbnail_of(image: Image.Image) -> UInt8[np.ndarray, "16 16 3"]:
    """Return the mean colours of 16 x 16 fields of an RGB picture."""
    return np.asarray(image.resize((16, 16), Image.Resampling.BOX))


def _pairs_of_photographs(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    in_grey = thumbnails.mean(axis=3, dtype=np.float32)
    greys = np.stack([_standardised(grey) for grey in in_grey])
    mirrored_greys = greys.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)
    # Of two pictures the means differ by no more than the pixels do.
    brightness = in_grey.mean(axis=(1, 2))
    order = np.argsort(brightness, kind="stable")
    pairs = []
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        brightest = brightness[rows[-1]] + MOST_OTHER_PHOTOGRAPH
        end = np.searchsorted(brightness[order], brightest, side="right")
        others = order[start:end]
        for shown, step in ((greys, 1), (mirrored_greys, -1)):
            is_alike = greys[rows] @ shown[others].T >= SAME_PHOTOGRAPH
            for place, other_place in np.argwhere(is_alike):
                row = rows[place]
                other = others[other_place]
                difference = thumbnails[row].astype(np.float64)
                difference -= thumbnails[other][:, ::step]
                root_mean_square = np.sqrt(np.square(difference).mean())
                if row != other and root_mean_square <= MOST_OTHER_PHOTOGRAPH:
                    pairs.append((int(row), int(other)))
    return pairs


def _join(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Return the group of each row: the first name that pairs lead to from it."""
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_matrix(
        (np.ones(len(first)), (first, second)), shape=(len(names), len(names))
    )
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    first_name: dict[int, str] = {}
    for name, number in sorted(zip(names, component.tolist(), strict=True)):
        first_name.setdefault(number, name)
    return [first_name[number] for number in component.tolist()]


def _pairs_of_equals(values: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return a pair of rows for each value that an earlier row has too."""
    first_row: dict[Hashable, int] = {}
    pairs = []
    for row, value in enumerate(values):
        earlier = first_row.setdefault(value, row)
        if earlier != row:
            pairs.append((earlier, row))
    return pairs


def _pairs_by_name(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    stems = [picture.stem for picture in pictures if picture.kind is Kind.DRAWING]
    whole_stems = dict(zip(stems, common_stems(stems), strict=True))
    values = []
    for picture in pictures:
        if picture.kind is Kind.DRAWING:
            values.append(f"drawing {whole_stems[picture.stem]}")
        elif picture.kind is Kind.NAMED:
            values.append(f"named {picture.stem}")
        else:
            values.append(f"itself {picture.name}")
    return _pairs_of_equals(values)


def _pairs_by_lines_and_name(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """Return the pairs of rows that are alike, one's stem beginning the other's."""
    # Drawings are compared within a folder; emblems with all others, and their colours
    # have to agree as well.
    by_first_word: dict[tuple[str, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        first_word = picture.stem.partition(" ")[0]
        folder = picture.name.rpartition("/")[0]
        if picture.kind is Kind.DRAWING:
            by_first_word.setdefault((first_word, folder), []).append(row)
        elif picture.kind is Kind.EMBLEM:
            by_first_word.setdefault((first_word,), []).append(row)

    pairs = []
    for rows in by_first_word.values():
        for place, row in enumerate(rows):
            earlier = pictures[row]
            for later_row in rows[place + 1 :]:
                later = pictures[later_row]
                if not _are_namesakes(earlier.stem, later.stem):
                    continue
                likeness = earlier.sign.lines @ later.sign.lines
                if earlier.kind is Kind.EMBLEM:
                    differences = earlier.sign.thumbnail - later.sign.thumbnail
                    other_colour = np.sqrt(np.square(differences).mean())
                    is_copy = (
                        likeness >= LINES_OF_EMBLEMS
                        and other_colour <= MOST_OTHER_COLOUR
                    )
                else:
                    is_copy = likeness >= LINES_OF_NAMESAKES
                if is_copy:
                    pairs.append((row, later_row))
    return pairs


def _are_namesakes(first_stem: str, second_stem: str) -> bool:
    shorter, longer = sorted((first_stem, second_stem), key=len)
    return f"{longer} ".startswith(f"{shorter} ")


def _pairs_by_likeness(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """Return the pairs of drawings that show the same, whatever their names."""
    # They have the same lines, in whatever colours and perhaps mirrored; or the same
    # grey pixels, in whatever contrast, and the same bits.
    rows = [row for row, picture in enumerate(pictures) if picture.kind is Kind.DRAWING]
    if not rows:
        return []
    signs = [pictures[row].sign for row in rows]
    lines = np.stack([sign.lines for sign in signs])
    greys = np.stack([sign.grey for sign in signs])
    bits = np.stack([sign.bits for sign in signs])
    is_sure = np.stack([sign.is_sure for sign in signs])

    pairs = []
    for place, (row, sign) in enumerate(zip(rows, signs, strict=True)):
        later = slice(place + 1, None)
        as_is_and_mirrored = np.stack([sign.lines, sign.mirrored_lines], axis=1)
        likeness_of_lines = (lines[later] @ as_is_and_mirrored).max(axis=1)
        both_sure = is_sure[later] & sign.is_sure
        sure_count = both_sure.sum(axis=1)
        differing_count = ((bits[later] != sign.bits) & both_sure).sum(axis=1)
        has_same_bits = (sure_count >= LEAST_SURE_BITS) & (
            SURE_BITS_PER_DIFFERING_ONE * differing_count <= sure_count
        )
        has_same_grey = greys[later] @ sign.grey >= SAME_GREY

        is_copy = (likeness_of_lines >= SAME_LINES) | (has_same_grey & has_same_bits)
        pairs += [(row, rows[place + 1 + copy]) for copy in np.flatnonzero(is_copy)]
    return pairs
