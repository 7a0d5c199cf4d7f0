"""SVG files drawn as square pictures, once, into a folder that later jobs read.

An SVG is a program by a stranger. So all are drawn by a process that can be lost,
with a limit of time for each and one of memory, and one that names another file, or is
too large, is not drawn at all. resvg (https://github.com/linebender/resvg) fetches
nothing from a network and runs no scripts.
"""

import io
import multiprocessing
import signal
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from sae.core import files
from sae.core.errors import UserError
from sae.data.clock import Clock

SIDE = 224  # pixels of a picture, of which
MARGIN = 8  # so many on each side are white
MOST_ZOOM = 4  # how much larger than SIDE a page is drawn whose drawing is small
MOST_BYTES = 4_000_000  # of an SVG
MOST_SECONDS = 30  # of processor time for an SVG
MOST_MEMORY = 2_000_000_000  # bytes that the process which draws takes for itself
DPI = 96  # CSS's own; resvg_py would take 0, by which a page in mm has no size
COMPLETE = "complete"  # the name of a file, the last one that is written
NAMING_FILES = ("image", "feImage")  # elements whose href may name a file
# What ends a process in which a library fails or runs too long.
ENDED_BY_PICTURE = tuple(
    -number
    for number in (
        signal.SIGPROF,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
    )
)


def renderer() -> str:
    """Return what decides the pixels beside the SVG: a version and the constants."""
    constants = (SIDE, MARGIN, MOST_ZOOM, DPI)
    # Pillow shrinks what resvg drew.
    libraries = [f"{name} {version(name)}" for name in ("resvg_py", "pillow")]
    return f"{' '.join(libraries)} {constants}"


def draw_all(svgs: Mapping[str, bytes], folder: Path, heading: str) -> None:
    """Draw the SVGs that a folder lacks, in a process that can be lost.

    For each there is then NAME.png in the folder, or NAME.txt that says why not. What
    is there already is not drawn again.

    Args:
        svgs: {name, which may have folders: content}.
        folder: For one :func:`renderer` and one source alone.
        heading: What lines of progress begin with.

    Raises:
        UserError: the process ended for a reason that lies in no picture.
    """
    missing = _missing([*svgs], folder)
    clock = Clock(heading, len(svgs), len(missing))
    while missing:
        process = multiprocessing.get_context("fork").Process(
            target=_draw_each, args=(missing, svgs, folder, clock)
        )
        process.start()
        try:
            process.join()
        finally:
            process.kill()  # Only where this process is stopped meanwhile.

        # Pictures are drawn in this order: the first one that is still missing is the
        # one at which the process ended.
        missing = _missing(missing, folder)
        if process.exitcode in ENDED_BY_PICTURE:
            reason = (
                f"it took more than {MOST_SECONDS} s"
                if process.exitcode == -signal.SIGPROF
                else f"the renderer ended by signal {-process.exitcode}"
            )
            files.write_text(_failure_file(folder, missing[0]), reason)
            missing = missing[1:]
        elif process.exitcode:
            raise UserError(
                f"{heading}: the process that draws ended with {process.exitcode} at "
                f"{missing[0]}; run again, it goes on there"
            )
        clock = Clock(heading, len(svgs), len(missing))
    files.write_text(folder / COMPLETE, f"{len(svgs)} pictures\n")


def is_complete(folder: Path) -> bool:
    """Return whether :func:`draw_all` came to its end for a folder."""
    return (folder / COMPLETE).exists()


def open_drawing(folder: Path, name: str) -> Image.Image:
    """Open a picture that :func:`draw_all` drew.

    Raises:
        ValueError: it could not be drawn; says why.
        FileNotFoundError: nobody tried.
    """
    failure = _failure_file(folder, name)
    if failure.exists():
        raise ValueError(f"it cannot be drawn: {failure.read_text(encoding='utf-8')}")
    return Image.open(_picture_file(folder, name))


def draw(svg: bytes) -> Image.Image:
    """Draw an SVG: what is on its page, as large as fits, in the middle of white.

    Args:
        svg: The content of the file.

    Returns:
        RGB, SIDE x SIDE; all white if there is nothing on the page.

    Raises:
        ValueError: it is no SVG, too large, or names another file.
    """
    if len(svg) > MOST_BYTES:
        raise ValueError(f"it has {len(svg):,} bytes, more than {MOST_BYTES:,}")
    check_names_no_file(svg)
    inner_side = SIDE - 2 * MARGIN
    page = _draw_page(svg, SIDE)
    box = _box_of_drawing(page)
    if box is None:
        return Image.new("RGB", (SIDE, SIDE), "white")

    # A small drawing on a large page is drawn anew, not blown up (but at MOST_ZOOM).
    longer_side = max(box[2] - box[0], box[3] - box[1])
    page_side = min(round(SIDE * inner_side / longer_side), SIDE * MOST_ZOOM)
    if page_side > SIDE:
        page = _draw_page(svg, page_side)
        box = _box_of_drawing(page)
    drawing = ImageOps.pad(page.crop(box), (inner_side, inner_side), color="white")
    return ImageOps.expand(drawing, MARGIN, "white")


def check_names_no_file(svg: bytes) -> None:
    """Check that an SVG shows no picture of another file.

    The renderer would open what an absolute path names, so that the picture would
    depend on the machine.

    Raises:
        ValueError: it does, or it is no XML.
    """
    try:
        root = ElementTree.fromstring(svg)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"it is no XML: {error}") from None
    for element in root.iter():
        if local_name(element.tag) not in NAMING_FILES:
            continue
        for attribute, value in element.attrib.items():
            is_inside = value.strip().startswith(("#", "data:"))
            if local_name(attribute) == "href" and not is_inside:
                raise ValueError(f"it names another file, {value.strip()[:80]!r}")


def local_name(tag: str) -> str:
    """Return the name of an element or attribute without its namespace."""
    return tag.rpartition("}")[2]


def _draw_page(svg: bytes, side: int) -> Image.Image:
    import resvg_py

    # What fonts a machine has must not matter: text is not drawn.
    png = resvg_py.svg_to_bytes(
        svg_string=svg.decode(),
        width=side,
        height=side,
        dpi=DPI,
        background="white",
        skip_system_fonts=True,
    )
    return Image.open(io.BytesIO(png)).convert("RGB")


def _box_of_drawing(page: Image.Image) -> tuple[int, int, int, int] | None:
    white = Image.new("RGB", page.size, "white")
    return ImageChops.difference(page, white).getbbox()


def _draw_each(
    names: list[str], svgs: Mapping[str, bytes], folder: Path, clock: Clock
) -> None:
    """Draw SVGs one after the other, or write why one cannot be drawn."""
    _limit_memory()
    for name in names:
        # Processor time, so that a busy machine draws what an idle one does. The signal
        # ends this process even in the middle of the renderer.
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            picture = draw(svgs[name])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # Whatever it is, it is of this picture: a panic of the renderer, which is
            # no `Exception`, or too little memory.
            reason = str(error) or type(error).__name__
            files.write_text(_failure_file(folder, name), reason)
        else:
            with files.atomic_file(_picture_file(folder, name)) as temporary:
                picture.save(temporary, "png")
        clock.tell(1)


def _limit_memory() -> None:
    """Let this process take at most `MOST_MEMORY` bytes more than it has now."""
    # The renderer then ends by a signal. Only Linux says what a process has, and holds
    # it to a limit; on another system there is none.
    import resource  # Not on Windows.

    sizes_in_pages = Path("/proc/self/statm")
    if not sizes_in_pages.exists():
        return
    pages = int(sizes_in_pages.read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    if hard_limit == resource.RLIM_INFINITY or most < hard_limit:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard_limit))


def _missing(names: list[str], folder: Path) -> list[str]:
    return [
        name
        for name in names
        if not _picture_file(folder, name).exists()
        and not _failure_file(folder, name).exists()
    ]


def _picture_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.png"


def _failure_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.txt"
