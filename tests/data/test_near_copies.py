"""Near-copies: each rule joins what no other does, and other drawings stay apart."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from sae.data import near_copies
from sae.data.near_copies import Kind, Picture

SIDE = 224
FIELDS = 7


def polygons(layout, colours, outline="black"):
    """Return random triangles with outlines: where they lie, and their colours."""
    corners = np.random.default_rng(layout).integers(20, 204, (FIELDS, 3, 2))
    fills = np.random.default_rng(colours).integers(0, 256, (FIELDS, 3))
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    for triangle, fill in zip(corners.tolist(), fills.tolist(), strict=True):
        draw.polygon([tuple(corner) for corner in triangle], tuple(fill), outline, 3)
    return image


def blobs(layout, contrast=1.0):
    """Return soft spots, so that no line runs anywhere."""
    rng = np.random.default_rng(layout)
    y, x = np.mgrid[:SIDE, :SIDE]
    darkness = np.zeros((SIDE, SIDE))
    for centre_y, centre_x in rng.integers(40, 184, (5, 2)):
        distance = np.hypot(y - centre_y, x - centre_x)
        darkness += rng.choice([-1, 1]) * np.exp(-((distance / 35) ** 2))
    return Image.fromarray(
        np.clip(128 + 60 * contrast * darkness, 0, 255).astype(np.uint8)
    ).convert("RGB")


def disc(mark):
    """Return a black disc with a grey mark on it: a bar across, or one downwards."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 12, 212, 212), "black")
    bar = (50, 95, 174, 129) if mark == "across" else (95, 50, 129, 174)
    draw.rectangle(bar, (60, 60, 60))
    return image


def picture(name, image, kind=Kind.DRAWING, stem=None):
    """Return a picture whose stem is that of its name, if not said."""
    said_stem = near_copies.stem(name.rpartition("/")[2]) if stem is None else stem
    return Picture(name, said_stem, kind, near_copies.sign_of(image))


def are_joined(*pictures):
    """Return whether pictures are all of one group."""
    return len(set(near_copies.groups_of(pictures))) == 1


def test_a_drawing_in_other_colours_is_a_copy():
    first = picture("a", polygons(1, 1))
    second = picture("b", polygons(1, 2))
    assert first.sign.grey @ second.sign.grey < near_copies.SAME_GREY
    assert are_joined(first, second)
    outline = polygons(1, 1).point(lambda value: 255 if value else 0)
    assert are_joined(first, picture("c", outline.convert("L").convert("RGB")))


def test_a_mirrored_drawing_is_a_copy():
    mirrored = ImageOps.mirror(polygons(1, 2))
    assert are_joined(picture("a", polygons(1, 1)), picture("b", mirrored))


def test_a_drawing_in_another_contrast_is_a_copy_where_no_line_runs():
    first = picture("a", blobs(1))
    second = picture("b", blobs(1, contrast=0.4))
    assert not first.sign.lines.any()
    assert are_joined(first, second)


def test_a_symmetric_drawing_with_a_pixel_of_noise_is_a_copy():
    half = ImageOps.mirror(polygons(1, 1)).crop((0, 0, SIDE // 2, SIDE))
    symmetric = Image.new("RGB", (SIDE, SIDE))
    symmetric.paste(half, (0, 0))
    symmetric.paste(ImageOps.mirror(half), (SIDE // 2, 0))
    noisy = symmetric.copy()
    noisy.putpixel((40, 60), (0, 255, 0))
    assert are_joined(picture("a", symmetric), picture("b", noisy))


def test_bits_that_lie_at_the_median_by_chance_do_not_part_a_symmetric_drawing():
    half = np.asarray(blobs(6))[:, : SIDE // 2, 0]
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)
    y, x = np.mgrid[:SIDE, :SIDE]
    lit_from_one_side = symmetric + x / SIDE * 40 - 20
    pictures = []
    for spot in (73, 150):  # Hardly to be seen, to the left and to the right.
        faint_spot = 2 * np.exp(-((np.hypot(y - 60, x - spot) / 15) ** 2))
        grey = np.clip(np.round(lit_from_one_side - faint_spot), 0, 255)
        image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        pictures.append(picture(f"{spot}", image, stem=f"{spot}"))

    first, second = (drawn.sign for drawn in pictures)
    assert not first.lines.any()
    assert not second.lines.any()
    differing = (first.bits != second.bits).sum()
    assert differing * near_copies.SURE_BITS_PER_DIFFERING_ONE > 63
    assert are_joined(*pictures)


def test_discs_with_other_marks_are_not_copies_though_their_grey_is_alike():
    first = picture("a", disc("across"))
    second = picture("b", disc("down"))
    assert first.sign.grey @ second.sign.grey >= near_copies.SAME_GREY
    # None of the few bits that count differs.
    both_sure = first.sign.is_sure & second.sign.is_sure
    assert not ((first.sign.bits != second.sign.bits) & both_sure).any()
    assert not are_joined(first, second)


def test_other_drawings_stay_apart():
    drawings = [picture(f"{n}", polygons(n, n), stem=f"{n}") for n in range(20)]
    drawings += [picture(f"b{n}", blobs(n), stem=f"b{n}") for n in range(20)]
    assert len(set(near_copies.groups_of(drawings))) == 40


def with_more(image, count):
    """Return a picture with some bars across it."""
    changed = image.copy()
    draw = ImageDraw.Draw(changed)
    for place in range(count):
        draw.rectangle((10, 30 * place, 214, 30 * place + 8), "grey", "black")
    return changed


def test_namesakes_in_one_folder_may_differ_more():
    changed = with_more(polygons(1, 2), 2)
    cup = picture("food/cup_bw", polygons(1, 1))
    likeness = cup.sign.lines @ picture("x", changed).sign.lines
    assert near_copies.LINES_OF_NAMESAKES < likeness < near_copies.SAME_LINES
    assert are_joined(cup, picture("food/cup_jane", changed))
    assert not are_joined(cup, picture("sports/cup_jane", changed))
    assert not are_joined(cup, picture("food/cups", changed))
    other_drawing = picture("food/cup_jane", polygons(2, 1))
    assert not are_joined(cup, other_drawing)


@pytest.mark.parametrize(
    ("other_name", "colours", "joined"),
    [("flags/land_jane", 1, True), ("flags/state", 1, False), ("land_jane", 2, False)],
)
def test_emblems_are_copies_where_name_lines_and_colours_agree(
    other_name, colours, joined
):
    emblem = picture("flags/land", polygons(1, 1), Kind.EMBLEM)
    # A pixel more, so that they are not the same to the pixel.
    image = polygons(1, colours)
    image.putpixel((0, 0), (0, 0, 0))
    other_emblem = picture(other_name, image, Kind.EMBLEM)
    assert are_joined(emblem, other_emblem) == joined


def test_copies_of_copies_are_one_group():
    by_lines = polygons(1, 2)
    by_name = polygons(3, 3)
    chain = [
        picture("d/other", polygons(4, 4)),
        picture("b/red", polygons(1, 1)),
        picture("c/pear", by_lines),
        picture("a/pear1", by_name),
        picture("z/anything", by_name),
    ]
    groups = near_copies.groups_of(chain)
    assert groups == ["d/other"] + ["a/pear1"] * 4
    in_another_order = near_copies.groups_of(chain[::-1])
    assert in_another_order == groups[::-1]
