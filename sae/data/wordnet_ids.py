"""Words for WordNet IDs, which name ImageNet's classes: n02084071 is *dog*.

An ID is a part of speech, `n`, and the place of a synset in WordNet 3.0.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

WORDNET_ID = re.compile(r"n\d{8}")


def class_words(class_names: Iterable[str]) -> dict[str, str]:
    """Return a word for each class that is a WordNet ID; other names stay as they are.

    The words are the first in timm's list of 21,844 synsets. An ID that it lacks stays
    as it is, too.

    Returns:
        {name of a class: what it is called}.
    """
    word_of_class = {name: name for name in class_names}
    wordnet_ids = [name for name in word_of_class if WORDNET_ID.fullmatch(name)]
    if not wordnet_ids:
        return word_of_class

    # It takes a second, and brings the list along.
    from timm.data import ImageNetInfo

    imagenet = ImageNetInfo()
    for wordnet_id in wordnet_ids:
        try:
            names = imagenet.label_name_to_description(wordnet_id)
        except KeyError:
            continue
        word_of_class[wordnet_id] = names.split(",")[0].strip()
    words = {wordnet_id: word_of_class[wordnet_id] for wordnet_id in wordnet_ids}
    return word_of_class | tell_apart(words)


def tell_apart(word_of_id: Mapping[str, str]) -> dict[str, str]:
    """Return words of which no two are the same: "crane (n02012849)" of two cranes.

    Args:
        word_of_id: {WordNet ID: word}.
    """
    counts = Counter(word_of_id.values())
    return {
        wordnet_id: word if counts[word] == 1 else f"{word} ({wordnet_id})"
        for wordnet_id, word in word_of_id.items()
    }
