"""What people call pictures: where it comes from, and what is refused."""

import pandas as pd
import pytest
from support.archives import tar, write_artifact

from sae.core import files
from sae.core.errors import UserError
from sae.data import concepts, indexing
from sae.data.annotations import classes, cldr_emoji, wordnet

INDEX = indexing.frame(
    ["a.png", "b.png", "c.png"],
    ["a.png", "b.png", "c.png"],
    ["train", "train", "test"],
    [0, 1, 1],
    ["cat", "dog", "dog"],
)


@pytest.fixture
def dataset_dir(tmp_path):
    """A dataset of three images as `sae.data.dataset.build` leaves it."""
    folder = tmp_path / "dataset"
    files.write_parquet(folder / "index.parquet", INDEX)
    digest = files.sha256(folder / "index.parquet")
    files.write_json(folder / "manifest.json", {"sha256": digest})
    return folder


def write_csv(folder, text):
    (folder / "mine.csv").write_text(text)
    return {"source": "csv", "file": str(folder / "mine.csv")}


def test_keywords_of_ones_own_are_read_in_the_order_of_a_split(dataset_dir, tmp_path):
    text = "image,concept\nc.png,animal\na.png,pet\na.png,animal\n"
    concepts.build(dataset_dir, write_csv(tmp_path, text), None)
    annotations = concepts.load_annotations(dataset_dir)
    split = concepts.of_images(annotations, pd.Series(["b.png", "a.png"]))
    assert split.names == ["animal", "pet"]
    assert split.holds.toarray().tolist() == [[0, 0], [1, 1]]
    assert split.attributes == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,concept\na.png,pet\nd.png,pet\n", "row 3 names the image 'd.png'"),
        ("image,concept\na.png, \n", "row 2 is"),
        ("image,concept\na.png,pet\n\na.png,pet\n", "row 4 says the same as row 2"),
    ],
)
def test_a_wrong_row_is_one_line_with_its_number(dataset_dir, tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        concepts.build(dataset_dir, write_csv(tmp_path, text), None)
    assert not (dataset_dir / "concepts.json").exists()


def test_classes_are_concepts_where_nothing_else_is_said(dataset_dir):
    concepts.build(dataset_dir, {"source": "classes"}, None)
    split = concepts.of_images(
        concepts.load_annotations(dataset_dir), INDEX["image_id"]
    )
    assert split.names == ["cat", "dog"]
    assert split.holds.toarray().tolist() == [[1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        # A firefighter: a woman of medium skin tone.
        (
            ["1F469", "1F3FD", "200D", "1F692"],
            {
                ("vendor", "google", "1F469-1F3FD-200D-1F692"),
                ("tone", "medium", "google/1F469-200D-1F692"),
                ("sex", "female", "google/adult-1F3FD-200D-1F692"),
            },
        ),
        # A person running, as a man: the sign says so, and a selector says nothing.
        (
            ["1F3C3", "200D", "2642", "FE0F"],
            {
                ("vendor", "google", "1F3C3-200D-2642"),
                ("sex", "male", "google/1F3C3-200D-sign"),
            },
        ),
        # Two people of two tones and sexes have no single value.
        (
            ["1F469", "1F3FB", "200D", "1F468", "1F3FF"],
            {("vendor", "google", "1F469-1F3FB-200D-1F468-1F3FF")},
        ),
    ],
)
def test_attributes_follow_from_code_points(points, expected):
    assert set(cldr_emoji.attributes_of("google", points)) == expected


def write_nouns(root, lines):
    """Write an artifact `wordnet` that has these lines of `data.noun`."""
    content = "".join(f"{line}\n" for line in lines).encode()
    archive = tar((wordnet.MEMBER, content), mode="w:gz")
    write_artifact(root / "wordnet", {"a.tgz": archive})


def test_an_image_is_all_that_wordnet_says_its_class_is(tmp_path):
    names = ["n00000004_1", "train/n00000005/x.jpg", "ILSVRC2012_val_00000001", "d"]
    index = indexing.frame(
        names,
        names,
        ["train", "train", "test", "test"],
        [0, 1, 1, 2],
        ["tench", "crane", "crane", "own class"],
    )
    # Place, file, type, words in hexadecimal with a number each, pointers, gloss.
    lines = [
        "  1 This software and database is being provided to you, the LICENSEE, by",
        "00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | that which is",
        "00000002 05 n 02 living_animal 0 beast 0 001 @ 00000001 n 0000 | it moves",
        "00000003 06 n 01 crane 4 002 #p 00000002 n 0000 @i 00000001 n 0000 | @ lifts",
        "00000004 05 n 0a " + "tench 0 " * 10 + "001 @ 00000002 n 0000 | a fish",
        "00000005 05 n 01 crane 5 002 @ 00000003 n 0000 @ 00000002 n 0000 | a bird",
    ]
    write_nouns(tmp_path, lines)

    spec = wordnet.Options(artifacts=["wordnet"])
    keywords = wordnet.load(spec, tmp_path, index).keywords
    by_image = keywords.groupby("image_id")["concept"].agg(set).to_dict()
    of_crane = {"crane (n00000005)", "crane (n00000003)", "living animal", "entity"}
    assert by_image == {
        "n00000004_1": {"tench", "living animal", "entity"},
        "train/n00000005/x.jpg": of_crane,
        "ILSVRC2012_val_00000001": of_crane,
        "d": {"own class"},
    }

    with pytest.raises(UserError, match="'d' is not named after a WordNet ID"):
        wordnet.load(spec, tmp_path, index[3:])
    write_nouns(tmp_path, ["00000001 03 n"])
    with pytest.raises(UserError, match=r"a\.tgz has no package/.* of WordNet"):
        wordnet.load(spec, tmp_path, index)


def test_several_labels_in_one_class_name_are_parted():
    index = indexing.frame(
        ["a", "b"], ["a", "b"], ["train", "test"], label_name=["Cat; Pet", ""]
    )
    spec = classes.Options(separator="; ")
    rows = classes.load(spec, None, index).keywords.to_numpy().tolist()
    assert rows == [["a", "Cat"], ["a", "Pet"]]


def test_a_class_whose_name_parts_keywords_is_named_with_an_image():
    index = pd.DataFrame(
        {
            "image_id": ["plain/1.png", "a | b/2.png"],
            "label_name": ["plain", "a | b"],
            "label_coarse_name": [None, None],
        }
    )
    with pytest.raises(UserError, match=r"'a \| b', of image 'a \| b/2.png'.*rename"):
        classes.load(classes.Options(), None, index)
