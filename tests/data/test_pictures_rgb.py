"""Pictures show the right RGB of 8 bits.

Expectations are computed by hand, files are written byte by byte.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from sae.data import pictures

RED = (255, 0, 0)
WHITE = (255, 255, 255)
# 16 bits of grey, and 255/65535 of each, rounded: 1 begins at 128.5, 255 at 65406.5.
DEEP = [0, 128, 129, 255, 32896, 65406, 65407, 65535]
GREYS = [0, 0, 1, 1, 128, 254, 255, 255]


def png(bits, kind, row, **chunks):
    """Return a PNG of one row.

    Args:
        bits: of a sample.
        kind: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        row: the samples' bytes.
        chunks: {name: content} of chunks before the pixels.
    """
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = len(row) * 8 // (bits * channels)
    parts = [
        ("IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)),
        *chunks.items(),
    ]
    parts += [("IDAT", zlib.compress(b"\0" + row)), ("IEND", b"")]
    packed = [(name.encode(), content) for name, content in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c))
        for n, c in packed
    )


def tiff(order, bits, photometric, row, samples=1, **tags):
    """Return a TIFF of one row, not compressed; `bits` of each sample."""
    width = len(row) * 8 // (bits * samples)
    entries = {
        256: width,
        257: 1,
        259: 1,
        262: photometric,
        273: 8,
        277: samples,
        278: 1,
        279: len(row),
        258: [bits] * samples,
        **{int(tag[1:]): value for tag, value in tags.items()},
    }
    pixels = row + b"\0" * (len(row) % 2)
    extra = b""
    directory = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:  # Behind the pixels.
            place = struct.pack(order + "I", 8 + len(pixels) + len(extra))
            extra += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, 3, len(values)) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark
        + struct.pack(order + "I", 8 + len(pixels) + len(extra))
        + pixels
        + extra
        + directory
        + b"\0" * 4
    )


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def constant(mode, values, kind, **options):
    return saved(Image.new(mode, (16, 16), values), kind, **options)


def shown(content):
    """Return the pixels that a guarded reader shows of a file: (height, width, 3)."""
    image = pictures.Guard(lambda _: Image.open(io.BytesIO(content)))("")
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(*values):
    return [(value,) * 3 for value in values]


def big(*values):
    return struct.pack(f">{len(values)}H", *values)


def little(*values):
    return struct.pack(f"<{len(values)}H", *values)


PLTE = bytes([255, 0, 0, 0, 0, 255, 9, 9, 9])
# Red in half, nothing, and blue in full, on white.
MIXED = bytes([255, 0, 0, 128, 7, 7, 7, 0, 0, 0, 255, 255])
ON_WHITE = [(255, 127, 127), WHITE, (0, 0, 255)]
KNOWN = {
    "grey of 16 bits": (png(16, 0, big(*DEEP)), grey(*GREYS)),
    "TIFF, little-endian": (tiff("<", 16, 1, little(*DEEP)), grey(*GREYS)),
    "TIFF where 0 is white": (
        tiff("<", 16, 0, little(*DEEP)),
        grey(*(255 - value for value in GREYS)),
    ),
    "PGM": (b"P5 8 1 65535\n" + big(*DEEP), grey(*GREYS)),
    "PGM up to 1000": (b"P5 3 1 1000\n" + big(0, 250, 1000), grey(0, 64, 255)),
    # Pillow drops the lower 8 bits: 255 is 0, where rounding would give 1.
    "colours of 16 bits": (png(16, 2, big(255, 32896, 65407)), [(0, 128, 255)]),
    "colours of 16 bits with alpha": (
        png(16, 6, big(65535, 0, 0, 32896)),
        [(255, 127, 127)],
    ),
    "colours with alpha": (png(8, 6, MIXED), ON_WHITE),
    "WebP with alpha": (
        saved(
            Image.frombytes("RGBA", (3, 1), MIXED), "webp", lossless=True, exact=True
        ),
        ON_WHITE,
    ),
    "TIFF, colours times alpha": (
        tiff("<", 8, 2, bytes([128, 0, 0, 128]), 4, t338=1),
        [(255, 127, 127)],
    ),
    "TIFF, grey times alpha": (
        tiff("<", 8, 1, bytes([20, 51, 0, 0]), 2, t338=1),
        grey(224, 255),
    ),
    "palette with alpha": (
        png(8, 3, bytes([0, 1, 2]), PLTE=PLTE, tRNS=bytes([128, 0])),
        [(255, 127, 127), WHITE, (9, 9, 9)],
    ),
    "one bit, black transparent": (
        png(1, 0, bytes([0b10100000]), tRNS=big(0)),
        grey(*[255] * 8),
    ),
    "two bits, the second transparent": (
        png(2, 0, bytes([0b00011011]), tRNS=big(1)),
        grey(0, 255, 170, 255),
    ),
    "one grey transparent": (
        png(8, 0, bytes([100, 101]), tRNS=big(100)),
        grey(255, 101),
    ),
    "one grey of 16 bits transparent": (
        png(16, 0, big(1000, 1001, 65535), tRNS=big(1000)),
        grey(255, 4, 255),
    ),
    "one colour transparent": (
        png(8, 2, bytes([1, 2, 3, 1, 2, 4]), tRNS=big(1, 2, 3)),
        [WHITE, (1, 2, 4)],
    ),
    "CMYK": (
        tiff("<", 8, 5, bytes([0, 255, 255, 0, 0, 0, 0, 255]), 4),
        [RED, (0, 0, 0)],
    ),
}
# JPEG and other spaces of colour: to rounding. Adobe's JPEGs of CMYK hold 255 where
# there is no ink. In those of YCCK the inks but black are turned as RGB is: red is
# cyan's opposite, with Y, Cb, Cr of 179, 171, 1.
CMYK = constant("CMYK", (0, 255, 255, 0), "jpeg", quality=100)
YCCK = constant("CMYK", (255 - 179, 255 - 171, 255 - 1, 0), "jpeg", quality=100)
ADOBE = YCCK.index(b"Adobe") + 11
NEAR = {
    "JPEG of CMYK": (CMYK, RED),
    "JPEG of YCCK": (YCCK[:ADOBE] + b"\2" + YCCK[ADOBE + 1 :], RED),
    "TIFF of YCbCr": (tiff("<", 8, 6, bytes([76, 85, 255]), 3, t530=[1, 1]), RED),
    "TIFF of LAB, white": (tiff("<", 8, 8, bytes([255, 0, 0]), 3), WHITE),
    "TIFF of LAB, red": (
        tiff("<", 8, 8, bytes([138, 81, 70]), 3),
        RED,
    ),  # L* 54.3, a* 80.8, b* 69.9 for D50
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_picture_shows_what_is_meant(name):
    content, expected = KNOWN[name]
    assert shown(content)[0].tolist() == [list(colour) for colour in expected]


@pytest.mark.parametrize("name", NEAR)
def test_other_colour_spaces_are_near(name):
    content, expected = NEAR[name]
    assert (
        np.abs(shown(content).astype(int) - expected).max() <= 6
    )  # Of LAB a step of 8 bits is a step of 2 to 4.


def test_opaque_alpha_changes_nothing():
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    opaque = np.dstack([values, np.full((64, 64), 255, np.uint8)])
    np.testing.assert_array_equal(shown(saved(Image.fromarray(opaque), "png")), values)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "gif", "ppm", "tiff", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_pictures_are_as_pillow_converts_them(kind, mode):
    content = saved(
        Image.fromarray(load_sample_image("china.jpg")[:60, :80]).convert(mode), kind
    )
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    got = pictures.Guard(lambda _: Image.open(io.BytesIO(content)))("")
    assert pictures.digest(got) == pictures.digest(expected)


NO_RANGE = "which are black and white is not known; save it in 8 or 16 bits"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            tiff("<", 32, 1, struct.pack("<2I", 0, 9)),
            f"its pixels are integers of 32 bits, or with a sign: {NO_RANGE}",
        ),
        (
            tiff("<", 16, 1, little(0, 9), t339=2),
            f"its pixels are integers .* with a sign: {NO_RANGE}",
        ),
        (
            tiff("<", 32, 1, struct.pack("<2f", 0, 0.5), t339=3),
            f"its pixels are floats: {NO_RANGE}",
        ),
        (
            png(16, 2, big(1, 2, 3), tRNS=big(1, 2, 3)),
            "one colour of 16 bits is transparent",
        ),
    ],
)
def test_what_is_not_known_is_not_guessed(content, problem):
    with pytest.raises(ValueError, match=problem):
        shown(content)


def exif(orientation, text=None):
    tags = Image.Exif()
    tags[0x0112] = orientation
    if text:
        tags[0x010E] = text
    return tags


# By the standard: row 0 of what is stored is, seen upright, its top, top, bottom,
# bottom, left, right, right, left; and column 0 the left, right, right, left, top, top,
# bottom, bottom.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_upright(kind, orientation):
    image = Image.fromarray(load_sample_image("flower.jpg")[200:232, 300:348])
    plain = saved(image, kind, **({"lossless": True} if kind == "webp" else {}))
    turned = saved(
        image,
        kind,
        exif=exif(orientation),
        **({"lossless": True} if kind == "webp" else {}),
    )
    np.testing.assert_array_equal(shown(turned), UPRIGHT[orientation](shown(plain)))
    # Of torchvision some classes convert by themselves.
    np.testing.assert_array_equal(
        np.asarray(pictures.rgb(Image.open(io.BytesIO(turned)).convert("RGB"))),
        shown(turned),
    )


def test_16_bits_are_turned_too():
    image = Image.fromarray(np.array([[0, 65535, 65535]], np.uint16))
    assert shown(saved(image, "png", exif=exif(6)))[:, 0, 0].tolist() == [0, 255, 255]


def test_an_odd_exif_block_does_no_harm():
    image = Image.fromarray(load_sample_image("flower.jpg")[200:232, 300:348])
    block = exif(6, text="a text").tobytes()
    # A width that is a text: Pillow cannot write the block anew, once the picture is
    # upright.
    unwritable = block.replace(
        struct.pack(">HH", 0x010E, 2), struct.pack(">HH", 0x0100, 2)
    )
    for kind, options in (("jpeg", {}), ("webp", {"lossless": True})):
        plain = shown(saved(image, kind, **options))
        for wrong in (
            block[:14],
            b"Exif\0\0MM\0*\0\0\0",
            b"Exif\0\0XX\0*\0\0\0\x08",
            b"Exif\0\0II*\0" + b"\xff" * 4,
        ):
            np.testing.assert_array_equal(
                shown(saved(image, kind, exif=wrong, **options)), plain
            )
        turned = saved(image, kind, exif=unwritable, **options)
        with pytest.raises(struct.error):
            ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))
        np.testing.assert_array_equal(shown(turned), UPRIGHT[6](plain))
