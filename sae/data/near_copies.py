"""Find near-copies: by the names of pictures, by what they show, or to the pixel."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.sparse
from jaxtyping import Bool, Float
from PIL import Image

from sae.data import pictures

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
# Of 63 bits; and the root mean square of the differences of 16 x 16 pixels, of 255.
MOST_BITS = 4
MOST_DIFFERENCE = 20.0


@dataclass(frozen=True)
class Sign:
    """Hold by what a picture is known again.

    Attributes:
        bits: The perceptual hash: whether each low frequency of 32 x 32 grey pixels is
            above their median.
        thumbnail: 16 x 16 pixels in RGB, 0 to 255.
        digest: Of the pixels.
    """

    bits: Bool[np.ndarray, "63"]
    thumbnail: Float[np.ndarray, "768"]
    digest: int


def sign_of(image: Image.Image) -> Sign:
    """Return by what an RGB picture is known again."""
    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    frequencies = scipy.fft.dctn(np.asarray(grey, dtype=np.float64), norm="ortho")
    # Without the first of them, the mean.
    low_frequencies = frequencies[:8, :8].ravel()[1:]
    thumbnail = image.resize((16, 16), Image.Resampling.LANCZOS)
    return Sign(
        bits=low_frequencies > np.median(low_frequencies),
        thumbnail=np.asarray(thumbnail, dtype=np.float32).ravel(),
        digest=pictures.digest(image),
    )


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


def groups_of(
    names: Sequence[str],
    stems: Sequence[str],
    signs: Sequence[Sign],
    is_series: Bool[np.ndarray, "pictures"],
) -> list[str]:
    """Join near-copies, be it through other pictures.

    Args:
        names: Of the pictures, unique.
        stems: Of the pictures, :func:`stem`; in a series, what only copies share.
        signs: Of the pictures.
        is_series: Which pictures are of series whose members are alike and yet are what
            they are, such as flags: they are joined by equal stems, or to the pixel.

    Returns:
        The group of each picture: the first of its members' names.
    """
    count = len(names)
    edges = _edges_of_equals([f"pixels {sign.digest}" for sign in signs])
    whole_stems = common_stems(stems)
    edges += _edges_of_equals(
        [
            f"series {stems[row]}" if is_series[row] else f"stem {whole_stems[row]}"
            for row in range(count)
        ]
    )
    edges += _edges_of_likeness(signs, np.flatnonzero(~is_series))

    first, second = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_matrix(
        (np.ones(len(first)), (first, second)), shape=(count, count)
    )
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    first_name: dict[int, str] = {}
    for name, number in sorted(zip(names, component.tolist(), strict=True)):
        first_name.setdefault(number, name)
    return [first_name[number] for number in component.tolist()]


def _edges_of_equals(values: Sequence[str]) -> list[tuple[int, int]]:
    """Return a pair of rows for each value that an earlier row has too."""
    first_row: dict[str, int] = {}
    edges = []
    for row, value in enumerate(values):
        earlier = first_row.setdefault(value, row)
        if earlier != row:
            edges.append((earlier, row))
    return edges


def _edges_of_likeness(
    signs: Sequence[Sign], rows: np.ndarray
) -> list[tuple[int, int]]:
    """Return the pairs of some rows whose hashes and thumbnails are both alike."""
    edges: list[tuple[int, int]] = []
    if not len(rows):
        return edges
    bits = np.array([signs[row].bits for row in rows])
    thumbnails = np.array([sign.thumbnail for sign in signs])
    for place, row in enumerate(rows):
        differing_bits = (bits[place + 1 :] != bits[place]).sum(axis=1)
        alike = rows[place + 1 :][differing_bits <= MOST_BITS]
        differences = thumbnails[alike] - thumbnails[row]
        root_mean_square = np.sqrt(np.square(differences).mean(axis=1))
        near_copies = alike[root_mean_square <= MOST_DIFFERENCE]
        edges += [(row, near_copy) for near_copy in near_copies]
    return edges
