"""ImageNet's classes, and what WordNet says they are: a tench is a fish, and an animal.

Its files are those that ImageNet gives beside its images: `wordnet.is_a.txt`, a line
`PARENT CHILD` of WordNet IDs for each link, and `words.txt`, a line `ID<tab>NAMES` for
each synset (Fellbaum 1998, WordNet 3.0). Where they are not there, the classes alone
are concepts.
"""

import logging
import re
from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data.annotations import classes
from sae.data.concepts import KEYWORDS, Annotations, no_attributes

VERSION = 1
FILES = ("{root}/wordnet.is_a.txt", "{root}/words.txt")
# A training image is named after its class: n01440764_10026.
TRAINING_IMAGE = re.compile(r"(n\d{8})_\d+")
progress = logging.getLogger("sae.progress")


class Options(options.Options):
    """Options say where the files lie."""

    root: str
    """The folder of `wordnet.is_a.txt` and `words.txt`."""


def load(
    spec: Options, artifacts_root: str | Path | None, index: pd.DataFrame
) -> Annotations:
    """Load what `sae.data.annotations` says.

    Raises:
        UserError: a line of a file is not right, or no training image of a class is
            named after its WordNet ID.
    """
    is_a_file, words_file = (Path(file.format(root=spec.root)) for file in FILES)
    absent = [str(file) for file in (is_a_file, words_file) if not file.exists()]
    if absent:
        progress.warning(
            "concepts are the classes alone, since %s is not there", absent[0]
        )
        return classes.load(classes.Options(), artifacts_root, index)

    parents = read_parents(is_a_file)
    wnid_of_label = find_wnids(index)
    synsets_of_label = {
        label: [wnid, *ancestors(wnid, parents)]
        for label, wnid in wnid_of_label.items()
    }
    used = {wnid for wnids in synsets_of_label.values() for wnid in wnids}
    name_of_synset = read_names(words_file, used)

    by_label = pd.DataFrame(
        [
            (label, name_of_synset[wnid])
            for label, wnids in synsets_of_label.items()
            for wnid in wnids
        ],
        columns=["label", "concept"],
    )
    images = index[["image_id", "label"]].astype({"label": "int64"})
    keywords = images.merge(by_label.astype({"concept": "str"}), on="label")
    return Annotations(keywords[KEYWORDS], no_attributes())


def find_wnids(index: pd.DataFrame) -> dict[int, str]:
    """Return {label: WordNet ID}, by the names of training images.

    Raises:
        UserError: a class has no training image with such a name.
    """
    wnids: dict[int, str] = {}
    first_of_class = index.groupby(["label", "split"], sort=True)["image_id"].first()
    for (label, _), image_id in first_of_class.items():
        matched = TRAINING_IMAGE.fullmatch(image_id)
        if matched:
            wnids[int(label)] = matched[1]
    unknown = sorted(set(index["label"].astype("int64")) - wnids.keys())
    if unknown:
        raise UserError(
            f"concepts of source wordnet: no training image of class {unknown[0]} is "
            "named after its WordNet ID, as n01440764_10026: use the source classes"
        )
    return wnids


def read_parents(file: Path) -> dict[str, list[str]]:
    """Return {WordNet ID: IDs of what it directly is}.

    Raises:
        UserError: a line is not `PARENT CHILD`.
    """
    parents: dict[str, list[str]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        wnids = line.split()
        if not wnids:
            continue
        if len(wnids) != 2 or not all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids):
            raise UserError(
                f"{file} line {number} is {line!r}, expected two WordNet IDs, PARENT "
                "CHILD"
            )
        parent, child = wnids
        parents.setdefault(child, []).append(parent)
    return parents


def ancestors(wnid: str, parents: dict[str, list[str]]) -> list[str]:
    """Return all that a synset is, each once, near ones first."""
    ancestor_ids: dict[str, None] = {}
    waiting = list(parents.get(wnid, []))
    while waiting:
        ancestor = waiting.pop(0)
        if ancestor not in ancestor_ids:
            ancestor_ids[ancestor] = None
            waiting += parents.get(ancestor, [])
    return list(ancestor_ids)


def read_names(file: Path, used: set[str]) -> dict[str, str]:
    """Return {WordNet ID: name} of some synsets: the first of its names.

    Two synsets of one name are told apart by their IDs: "crane (n02012849)".

    Raises:
        UserError: a line is not `ID<tab>NAMES`, or a synset has none.
    """
    first_name: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        wnid, tab, names = line.partition("\t")
        if not line.strip():
            continue
        if not tab or not names.strip():
            raise UserError(
                f"{file} line {number} is {line!r}, expected a WordNet ID, a tab and "
                "names"
            )
        if wnid in used:
            first_name[wnid] = names.split(",")[0].strip()
    unnamed = sorted(used - first_name.keys())
    if unnamed:
        raise UserError(f"{file} has no name of {unnamed[0]}")

    counts = pd.Series(first_name).value_counts()
    return {
        wnid: name if counts[name] == 1 else f"{name} ({wnid})"
        for wnid, name in first_name.items()
    }
