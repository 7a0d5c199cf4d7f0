"""Images opened with care: of raster formats alone, and none that is larger than a limit, by its header.

Pillow tries every format that it knows, whatever a file is called: it hands PostScript to Ghostscript. And a file of a
few kilobytes may claim to hold hundreds of megapixels.
"""

import hashlib
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_MEGAPIXELS = 89.0  # Where Pillow itself begins to warn; ImageNet has none that large.
# What Pillow raises on broken pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, IndexError, OverflowError, struct.error)


@dataclass(frozen=True)
class Guard:
    """A function from a path to an image, held to :data:`FORMATS` and to a size, whoever calls Pillow in it.

    It can be pickled if `open` can.
    """

    open: Callable[[str], Image.Image]
    max_megapixels: float = MAX_MEGAPIXELS

    def __call__(self, path: str) -> Image.Image:
        """The image.

        Raises:
            ValueError: it is of no such format, or too large. It was not decoded then.
        """
        with _guarded(self.max_megapixels):
            return self.open(path)


@contextmanager
def _guarded(max_megapixels: float) -> Iterator[None]:
    Image.init()  # Formats that Pillow learnt later would be added to the list below.
    kept = Image.ID, Image.MAX_IMAGE_PIXELS
    Image.ID, Image.MAX_IMAGE_PIXELS = list(FORMATS), int(max_megapixels * 1e6)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError:
        raise ValueError(f"not a whole picture in one of the formats {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"more than {max_megapixels:g} megapixels (`max_megapixels` of a dataset): {error}") from None
    finally:
        Image.ID, Image.MAX_IMAGE_PIXELS = kept


def digest(image: Image.Image) -> int:
    """The first 64 bits of a SHA-256 of what an image shows: its mode, size and pixels."""
    return digest_bytes(f"{image.mode} {image.size}".encode(), image.tobytes())


def digest_bytes(*parts: bytes) -> int:
    """The first 64 bits of the SHA-256 of some bytes, as a signed integer."""
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:8], "big", signed=True)
