"""Images opened with care: of raster formats alone, and each as it is meant to look.

Pillow tries every format that it knows, whatever a file is called: it hands PostScript
to Ghostscript. And a file of a few kilobytes may claim to hold hundreds of megapixels,
so that there is a limit. Pillow's own conversion to RGB makes 16 bits of grey white,
and shows the colours below what is transparent.
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
# Where Pillow itself begins to warn; ImageNet has none that large.
MAX_MEGAPIXELS = 89.0
# PNG stores grey of 2 and 4 bits as it is. Pillow scales the pixels to 8 bits, but not
# the grey that is transparent.
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
    """A function from a path to an image, held to :data:`FORMATS` and to a size.

    It guards whoever calls Pillow in it. It can be pickled if `open` can.

    Attributes:
        open: returns what Pillow opened: of any mode, and perhaps not decoded yet.
        max_megapixels: a larger image is not decoded.
    """

    open: Callable[[str], Image.Image]
    max_megapixels: float = MAX_MEGAPIXELS

    def __call__(self, path: str) -> Image.Image:
        """Open an image, by :func:`rgb`.

        Raises:
            ValueError: it is of no such format, or too large, and was not decoded; or
                :func:`rgb` does.
        """
        # Formats that Pillow learnt later would be added to the list below.
        Image.init()
        formats_before = Image.ID
        limit_before = Image.MAX_IMAGE_PIXELS
        Image.ID = list(FORMATS)
        Image.MAX_IMAGE_PIXELS = int(self.max_megapixels * 1e6)
        try:
            with warnings.catch_warnings():
                # Pillow warns of odd EXIF blocks, for every such image.
                warnings.simplefilter("ignore", UserWarning)
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return rgb(self.open(path))
        except UnidentifiedImageError:
            raise ValueError(
                f"not a whole picture in one of the formats {', '.join(FORMATS)}"
            ) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(
                f"more than {self.max_megapixels:g} megapixels (`max_megapixels` of a "
                f"dataset): {error}"
            ) from None
        finally:
            Image.ID = formats_before
            Image.MAX_IMAGE_PIXELS = limit_before


def rgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB of 8 bits, upright, and on white where it is transparent.

    Raises:
        ValueError: which values are white, or which pixels are transparent, is not
            known; or it is broken, for which Pillow raises any of `UNREADABLE`.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"a {type(image).__name__} is no PIL image")
    # How a PNG stores a pixel; Pillow forgets it once the image is loaded.
    png_coding = None
    if isinstance(image, PngImagePlugin.PngImageFile) and image.tile:
        png_coding = image.tile[0].args
    image.load()
    # An EXIF block that cannot be read turns nothing. In place, because pixels are
    # turned before the block is written anew, which may fail too.
    with suppress(*UNREADABLE, AttributeError):
        ImageOps.exif_transpose(image, in_place=True)

    has_transparent_colour = "transparency" in image.info
    if png_coding == "RGB;16B" and has_transparent_colour:
        raise ValueError(
            "one colour of 16 bits is transparent, and Pillow reads 8 bits of each"
        )
    if png_coding in _SCALES and has_transparent_colour:
        image.info["transparency"] *= _SCALES[png_coding]
    if image.mode == "F" or image.mode.startswith("I"):
        image = _in_8_bits(image)

    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # The only mode that Pillow does not convert in one step.
        image = image.convert("LA")
    on_white = Image.new("RGBA", image.size, "white")
    on_white.alpha_composite(image.convert("RGBA"))
    return on_white.convert("RGB")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of more bits as one of 8, its alpha 0 where transparent."""
    has_16_bits = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    )
    if not has_16_bits:
        kind = "floats" if image.mode == "F" else "integers of 32 bits, or with a sign"
        raise ValueError(
            f"its pixels are {kind}: which are black and white is not known; save it "
            "in 8 or 16 bits"
        )

    tiff_tags = None
    white = 65535
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff_tags = image.tag_v2
        white = 2 ** tiff_tags[TiffImagePlugin.BITSPERSAMPLE][0] - 1
    values = np.asarray(image).astype(np.uint32)
    # 255 * values / white, rounded.
    grey = ((510 * values + white) // (2 * white)).astype(np.uint8)
    if tiff_tags is not None:
        interpretation = tiff_tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
        # 0 is white; Pillow has turned only 8 bits and fewer round.
        if interpretation == 0:
            grey = 255 - grey

    grey_image = Image.fromarray(grey)
    if "transparency" in image.info:
        is_transparent = values == image.info["transparency"]
        alpha = np.where(is_transparent, 0, 255).astype(np.uint8)
        grey_image.putalpha(Image.fromarray(alpha))
    return grey_image


def digest(image: Image.Image) -> int:
    """Return the first 64 bits of a SHA-256 of an image's mode, size and pixels."""
    return digest_bytes(f"{image.mode} {image.size}".encode(), image.tobytes())


def digest_bytes(*parts: bytes) -> int:
    """Return the first 64 bits of the SHA-256 of some bytes, as a signed integer."""
    sha256 = hashlib.sha256(b"".join(parts)).digest()
    return int.from_bytes(sha256[:8], "big", signed=True)
