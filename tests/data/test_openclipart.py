"""Clip art: what is taken, how it is drawn, and which drawings are near-copies."""

import faulthandler
import io
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sae.core import files
from sae.core.errors import UserError
from sae.data import concepts, dataset, drawing, near_copies
from sae.data.datasets import openclipart

FOLDER = "./usr/share/openclipart/svg"
PUBLIC = "http://web.resource.org/cc/PublicDomain"
SPEC = {
    "type": "openclipart",
    "artifacts": ["clips"],
    "without": ["shapes"],
    "fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
    "split_seed": 0,
}
SPECK = '<rect x="75" y="75" width="5" height="5" fill="red" opacity=".5"/>'
SQUARE = '<rect x="58" y="2" width="40" height="40" fill="red"/>'


def svg(content, licence=PUBLIC, keywords=(), page='width="100" height="100"'):
    """Return an SVG with the RDF that Open Clip Art's tools wrote."""
    keyword_items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    mark = f'<cc:license rdf:resource="{licence}"/>' if licence is not None else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {page} '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
        '<metadata><rdf:RDF xmlns:cc="http://web.resource.org/cc/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"<cc:Work>{mark}<dc:subject><rdf:Bag>{keyword_items}</rdf:Bag></dc:subject>"
        "</cc:Work>"
        f"</rdf:RDF></metadata>{content}</svg>"
    )


def striped(seed):
    """Return a drawing that looks like no other: bars at random, of random colours."""
    rng = np.random.default_rng(seed)
    bars = zip(rng.integers(0, 70, (12, 4)), rng.integers(0, 230, (12, 3)), strict=True)
    return "".join(
        f'<rect x="{x}" y="{y}" width="{5 + width // 2}" height="{5 + height // 2}" '
        f'fill="rgb({r},{g},{b})"/>'
        for (x, y, width, height), (r, g, b) in bars
    )


def ar_member(name, content):
    """Return a member of an ar archive: a header of 60 bytes, then an even number."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
    return header.encode() + content + b"\n" * (len(content) % 2)


def write_package(root, pictures, links=()):
    """Write an artifact `clips` with a Debian package of {name: SVG}, and links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name, text in pictures.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}.svg")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        for name in links:
            member = tarfile.TarInfo(f"{FOLDER}/{name}.svg")
            member.type = tarfile.SYMTYPE
            member.linkname = "somewhere.svg"
            archive.addfile(member)
    package = root / "clips" / "clips.deb"
    package.parent.mkdir(parents=True)
    package.write_bytes(
        b"!<arch>\n"
        + ar_member("debian-binary", b"2.0\n")
        + ar_member("control.tar.xz", b"odd")
        + ar_member("data.tar.xz", stream.getvalue())
    )
    files.write_json(
        package.parent / "artifact.json",
        {"files": {"clips.deb": files.sha256(package)}},
    )
    return package


@pytest.fixture
def package(tmp_path):
    """A package with pictures that are taken, and with all kinds that are not."""
    cats = {
        f"animals/cats/cat{number}": svg(striped(number), keywords=["Cat", "hash"])
        for number in range(3)
    }
    food = {
        f"food/thing_{letter}bcd": svg(striped(10 + number))
        for number, letter in enumerate("abcdefgh")
    }
    left_out = {
        "food/other": svg(
            striped(30), licence="http://creativecommons.org/licenses/GPL"
        ),
        "food/unmarked": svg(striped(31), licence=None),
        "food/empty_mark": svg(striped(32), licence=""),
        "food/no_xml": "<svg",
        "food/white": svg('<rect width="9" height="9" fill="white"/>'),
        "food/broken": svg(striped(33), page='width="0" height="0"'),
        "food/names_a_file": svg('<image xlink:href="/etc/picture.png"/>'),
        "shapes/square": svg(striped(34)),
    }
    write_package(tmp_path, cats | food | left_out, links=["animals/cats/linked"])
    return tmp_path


def test_only_public_pictures_are_taken_and_the_others_are_counted(package, caplog):
    caplog.set_level("INFO", "sae.progress")
    dataset_folder = package / "out"
    dataset.build("clips", SPEC | {"max_broken": 2}, package, dataset_folder)

    manifest = files.read_json(dataset_folder / "manifest.json")
    assert sum(manifest["images"].values()) == 11
    assert manifest["broken"].keys() == {"food/broken", "food/names_a_file"}
    assert "'/etc/picture.png'" in manifest["broken"]["food/names_a_file"]
    for line in (
        "1 links to pictures are left out, such as 'animals/cats/linked'",
        "3 pictures without a mark of public domain are left out, such as 'food/other'",
        "1 pictures that are no XML are left out, such as 'food/no_xml'",
        "1 pictures in shapes are left out",
        "1 pictures of one colour are left out, such as 'food/white'",
    ):
        assert line in caplog.text

    index = files.read_parquet(dataset_folder / "index.parquet").set_index("image_id")
    assert index.loc["animals/cats/cat0", "label_name"] == "animals/cats"
    assert index.loc["animals/cats/cat0", "label_coarse_name"] == "animals"
    assert index["label_coarse"].tolist() == [0] * 3 + [1] * 8


def test_the_index_is_the_same_again_and_nothing_is_drawn_twice(package, monkeypatch):
    first = dataset.load(SPEC, package)
    monkeypatch.setattr(drawing, "draw", lambda svg: pytest.fail("drawn again"))
    assert dataset.load(SPEC, package).index.equals(first.index)
    name = "food/thing_abcd"
    opened = dataset.reader(SPEC, package)(name)
    assert opened.size == (drawing.SIDE, drawing.SIDE)
    assert opened.tobytes() == first.open(name).tobytes()

    splits = dataset.load(SPEC | {"split_seed": 1}, package).index["split"]
    assert not splits.equals(first.index["split"])


def test_near_copies_are_in_one_split_and_series_stay_what_they_are(tmp_path):
    same = svg(striped(1))
    pictures = {
        # By their names: the same drawing in another colour, or the next of a series.
        "food/muffin1_bw": svg(striped(2)),
        "food/muffin_2": svg(striped(3)),
        # To the pixel, in another folder.
        "food/anything": same,
        "animals/whatever": same,
        # By what they show: only one corner differs a little.
        "food/plain": svg(striped(4)),
        "food/nearly": svg(
            striped(4) + '<rect x="75" y="75" width="5" height="5" fill="red"/>'
        ),
        # A flag is that of another land unless its name says the same as well, be it in
        # another folder, where its keyword says that it is a flag.
        "signs_and_symbols/flags/land": svg(striped(5)),
        "signs_and_symbols/flags/state": svg(striped(5) + SPECK),
        "signs_and_symbols/land_by_jane": svg(
            striped(5) + SPECK * 2, keywords=["Flag"]
        ),
        "signs_and_symbols/flags/land_region": svg(striped(9)),
        # The same card in two decks, and another card.
        "recreation/games/cards/simple/simple_c_10": svg(striped(6)),
        "recreation/games/cards/white/white_c_10": svg(striped(7)),
        "recreation/games/cards/white/white_c_1": svg(striped(8)),
    }
    # Enough further pictures for three splits.
    further = {f"food/{letter}bcd": svg(striped(ord(letter))) for letter in "qrstuv"}
    write_package(tmp_path, pictures | further | {"shapes/x": same})
    index = dataset.load(SPEC, tmp_path).index.set_index("image_id")
    groups = {frozenset(rows) for rows in index.groupby("group").groups.values()}
    assert groups == {
        frozenset({"food/muffin1_bw", "food/muffin_2"}),
        frozenset({"food/anything", "animals/whatever"}),
        frozenset({"food/plain", "food/nearly"}),
        frozenset({"signs_and_symbols/flags/land", "signs_and_symbols/land_by_jane"}),
        frozenset({"signs_and_symbols/flags/state"}),
        frozenset({"signs_and_symbols/flags/land_region"}),
        frozenset(
            {
                "recreation/games/cards/simple/simple_c_10",
                "recreation/games/cards/white/white_c_10",
            }
        ),
        frozenset({"recreation/games/cards/white/white_c_1"}),
        *(frozenset({name}) for name in further),
    }
    assert (index.groupby("group")["split"].nunique() == 1).all()


def test_a_stem_that_was_cut_off_is_that_of_the_longer_one():
    stems = ["glace jean victor bal", "glace jean victor", "glace", "glacecar"]
    assert near_copies.common_stems(stems) == [
        "glace jean victor",
        "glace jean victor",
        "glace",
        "glacecar",
    ]


def test_a_drawing_is_as_large_as_fits_in_the_middle_of_white():
    picture = np.asarray(drawing.draw(svg(SQUARE).encode()))
    inner = slice(drawing.MARGIN + 2, drawing.SIDE - drawing.MARGIN - 2)
    assert (picture[inner, inner] == [255, 0, 0]).all()
    assert (picture[: drawing.MARGIN] == 255).all()
    assert (picture[:, -drawing.MARGIN :] == 255).all()


def test_a_drawing_that_hangs_or_is_hostile_ends_alone(tmp_path, monkeypatch):
    def draw(content):
        while content == b"hangs":
            pass
        if content == b"crashes":
            faulthandler.disable()  # Which would print where.
            os.abort()
        return Image.new("RGB", (4, 4), "red")

    monkeypatch.setattr(drawing, "draw", draw)
    monkeypatch.setattr(drawing, "MOST_SECONDS", 0.2)
    svgs = {"a": b"", "b/hangs": b"hangs", "c/crashes": b"crashes", "d": b""}
    drawing.draw_all(svgs, tmp_path, "clips")
    for name in ("a", "d"):
        assert drawing.open_drawing(tmp_path, name).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(ValueError, match=r"cannot be drawn: it took more than 0\.2 s"):
        drawing.open_drawing(tmp_path, "b/hangs")
    with pytest.raises(ValueError, match="the renderer ended by signal 6"):
        drawing.open_drawing(tmp_path, "c/crashes")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone")
def test_a_drawing_that_takes_all_memory_ends_alone(tmp_path, monkeypatch):
    draw = drawing.draw

    def draw_quietly(content):
        faulthandler.disable()  # Which would print where the process ended.
        return draw(content)

    monkeypatch.setattr(drawing, "draw", draw_quietly)
    # A tile takes 2.3 GB, of which 100 x 100 units are seen.
    tile = (
        '<pattern id="p" width="10600" height="10600" patternUnits="userSpaceOnUse">'
        '<rect width="10000" height="10000" fill="red"/></pattern>'
        '<rect width="100" height="100" fill="url(#p)"/>'
    )
    svgs = {"a": svg(tile).encode(), "b": svg(SQUARE).encode()}
    drawing.draw_all(svgs, tmp_path, "clips")
    with pytest.raises(ValueError, match="the renderer ended by signal 6"):
        drawing.open_drawing(tmp_path, "a")
    assert drawing.open_drawing(tmp_path, "b").size == (drawing.SIDE, drawing.SIDE)


def test_a_process_that_somebody_else_ends_is_no_picture_s_fault(tmp_path, monkeypatch):
    def draw(content):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(drawing, "draw", draw)
    with pytest.raises(UserError, match="ended with -15 at a; run again"):
        drawing.draw_all({"a": b""}, tmp_path, "clips")
    assert not drawing.is_complete(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("place", ["/etc/picture.png", "a.svg", "//h/a"])
def test_a_picture_of_another_file_is_not_opened(place):
    text = svg(f'<g><image width="9" height="9" xlink:href="{place}"/></g>')
    with pytest.raises(ValueError, match="names another file"):
        drawing.draw(text.encode())


def test_what_is_too_large_or_grows_without_end_is_not_drawn():
    with pytest.raises(ValueError, match="4,000,001 bytes"):
        drawing.draw(b" " * 4_000_001)
    entities = "".join(
        f'<!ENTITY e{number} "{f"&e{number - 1};" * 99}">' for number in range(1, 9)
    )
    bomb = f'<!DOCTYPE svg [<!ENTITY e0 "ha">{entities}]><svg>&e8;</svg>'
    with pytest.raises(ValueError, match="no XML"):
        drawing.draw(bomb.encode())


def test_keywords_are_concepts_but_for_those_that_say_of_a_file(package):
    dataset_folder = package / "out"
    dataset.build("clips", SPEC | {"max_broken": 2}, package, dataset_folder)
    concepts.build(
        dataset_folder, {"source": "openclipart", "artifacts": ["clips"]}, package
    )
    keywords = concepts.load_annotations(dataset_folder).keywords
    assert keywords["concept"].unique().tolist() == ["cat"]
    assert keywords["image_id"].tolist() == [f"animals/cats/cat{n}" for n in range(3)]


@pytest.mark.parametrize("name", ["../../../../above", "/above"])
def test_a_name_that_leads_out_of_the_package_s_folder_is_refused(tmp_path, name):
    package = write_package(tmp_path, {name: svg(SQUARE)})
    with pytest.raises(UserError, match=r"clips\.deb: the name .*above.* leads out of"):
        openclipart.read_package(package)


def test_an_encoding_that_nobody_knows_is_no_xml_and_a_cut_package_is_told(tmp_path):
    svg = (
        b'<?xml version="1.0" encoding="foo"?><svg xmlns="http://www.w3.org/2000/svg"/>'
    )
    with pytest.raises(ValueError, match="it is no XML"):
        drawing.draw(svg)

    header = b"data.tar.xz".ljust(48) + b"9".ljust(10) + b"`\n"
    package = tmp_path / "cut.deb"
    package.write_bytes(openclipart.AR_START + header + b"\xfd7zXZ\x00\x00\x04\xe6")
    with pytest.raises(UserError, match=r"cut\.deb has no data\.tar that can be read"):
        openclipart.read_package(package)
