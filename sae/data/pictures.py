"""Images opened with care: of raster formats alone, none larger than a limit, and each as it is meant to look.

Pillow tries every format that it knows, whatever a file is called: it hands PostScript to Ghostscript. And a file of a
few kilobytes may claim to hold hundreds of megapixels. Its own conversion to RGB makes 16 bits of grey white, and shows
the colours below what is transparent.
"""

import hashlib
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "DIB")
# Of their files, in small letters; not .pfm, whose pixels are floats.
ENDINGS = (
    *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
MAX_MEGAPIXELS = (
    89.0  # Where Pillow itself begins to warn; ImageNet has none that large.
)
# PNG stores grey of 2 and 4 bits as it is. Pillow scales the pixels to 8 bits, but not the grey that is transparent.
_SCALES = {"L;2": 85, "L;4": 17}
# What Pillow raises on broken pictures.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True)
class Guard:
    """A function from a path to an image, held to :data:`FORMATS` and to a size, whoever calls Pillow in it.

    `open` returns what Pillow opened: of any mode, and perhaps not decoded yet. This can be pickled if `open` can.
    """

    open: Callable[[str], Image.Image]
    max_megapixels: float = MAX_MEGAPIXELS

    def __call__(self, path: str) -> Image.Image:
        """The image, by :func:`rgb`.

        Raises:
            ValueError: it is of no such format, or too large, and was not decoded; or :func:`rgb` does.
        """
        Image.init()  # Formats that Pillow learnt later would be added to the list below.
        kept, most = (Image.ID, Image.MAX_IMAGE_PIXELS), self.max_megapixels
        Image.ID, Image.MAX_IMAGE_PIXELS = list(FORMATS), int(most * 1e6)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # Of odd EXIF blocks, for every such image.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return rgb(self.open(path))
        except UnidentifiedImageError:
            raise ValueError(
                f"not a whole picture in one of the formats {', '.join(FORMATS)}"
            ) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(
                f"more than {most:g} megapixels (`max_megapixels` of a dataset): {error}"
            ) from None
        finally:
            Image.ID, Image.MAX_IMAGE_PIXELS = kept


def rgb(image: Image.Image) -> Image.Image:
    """What an image shows, as RGB of 8 bits: upright, and on white where it is transparent.

    Raises:
        ValueError: which values are white, or which pixels are transparent, is not known; or it is broken, for which
            Pillow raises any of `UNREADABLE`.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"a {type(image).__name__} is no PIL image")
    coding = (
        image.tile[0].args
        if isinstance(image, PngImagePlugin.PngImageFile) and image.tile
        else None
    )
    image.load()
    # An EXIF block that cannot be read turns nothing. In place, because pixels are turned before the block is written
    # anew, which may fail too.
    with suppress(*UNREADABLE, AttributeError):
        ImageOps.exif_transpose(image, in_place=True)
    if coding == "RGB;16B" and "transparency" in image.info:
        raise ValueError(
            "one colour of 16 bits is transparent, and Pillow reads 8 bits of each"
        )
    if coding in _SCALES and "transparency" in image.info:
        image.info["transparency"] *= _SCALES[coding]
    if image.mode == "F" or image.mode.startswith("I"):
        image = _in_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # The only mode that Pillow does not convert in one step.
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of more than 8 bits as one of 8; what is transparent in it has alpha 0."""
    if not image.mode.startswith("I;16") and not (
        image.mode == "I" and image.format in ("PNG", "PPM")
    ):
        kind = "floats" if image.mode == "F" else "integers of 32 bits, or with a sign"
        raise ValueError(
            f"its pixels are {kind}: which are black and white is not known; save it in 8 or 16 bits"
        )
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    most = 65535 if tags is None else 2 ** tags[TiffImagePlugin.BITSPERSAMPLE][0] - 1
    values = np.asarray(image).astype(np.uint32)
    grey = ((510 * values + most) // (2 * most)).astype(
        np.uint8
    )  # 255 * values / most, rounded
    if (
        tags is not None
        and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0) == 0
    ):
        grey = 255 - grey  # 0 is white; Pillow has turned only 8 bits and fewer round.
    result = Image.fromarray(grey)
    if "transparency" in image.info:
        result.putalpha(
            Image.fromarray(
                np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
            )
        )
    return result


def digest(image: Image.Image) -> int:
    """The first 64 bits of a SHA-256 of what an image shows: its mode, size and pixels."""
    return digest_bytes(f"{image.mode} {image.size}".encode(), image.tobytes())


def digest_bytes(*parts: bytes) -> int:
    """The first 64 bits of the SHA-256 of some bytes, as a signed integer."""
    return int.from_bytes(
        hashlib.sha256(b"".join(parts)).digest()[:8], "big", signed=True
    )
