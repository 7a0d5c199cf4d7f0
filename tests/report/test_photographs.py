"""The words of docs/results/photographs, said of numbers whose word is known."""

import pandas as pd
import pytest
from conftest import ROOT

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "bench")
    import photographs


@pytest.mark.parametrize(
    ("low", "high", "low_one_sided", "high_one_sided", "said"),
    [
        (-0.02, -0.001, -0.018, -0.003, photographs.MORE_GAIN),
        (-0.02, 0.001, -0.018, -0.001, "inconclusive"),
        (-0.012, 0.002, -0.0099, 0.001, photographs.NO_MATTER),
        (-0.002, 0.012, -0.001, 0.0101, "inconclusive"),
        (0.001, 0.02, 0.003, 0.018, "inconclusive"),
    ],
)
def test_what_is_said_of_the_number_of_images(
    low, high, low_one_sided, high_one_sided, said
):
    row = {
        "blocks": 4,
        "low": low,
        "high": high,
        "low_one_sided": low_one_sided,
        "high_one_sided": high_one_sided,
    }
    assert photographs.say_of_number_of_images(row) == said
    row["blocks"] = 2  # One of the two sets.
    assert photographs.say_of_number_of_images(row) == "inconclusive"


@pytest.mark.parametrize(
    ("of_photographs", "of_not_read", "caltech", "said"),
    [
        ("better", "better", 0.01, (True, True)),
        ("better", "inconclusive", 0.01, (True, False)),
        ("better", "better", -0.01, (False, True)),
        ("better, by less than .01", "worse", 0.01, (True, False)),
    ],
)
def test_a_sentence_needs_the_word_and_the_sign_of_sets_read_before(
    of_photographs, of_not_read, caltech, said
):
    words = {
        "all": "better",
        "photographs": of_photographs,
        "untouched": of_not_read,
    }
    about = {"method": "reg1", "score": "ms"}
    means = pd.DataFrame(
        [
            {"size": sets, **about, "effect": 0.02, "outcome": word}
            for sets, word in words.items()
        ]
    )
    effects = {"caltech101": caltech, "imagenette_6k": 0.01}
    datasets = pd.DataFrame(
        [
            {**about, "dataset": dataset, "effect": effect}
            for dataset, effect in effects.items()
        ]
    )
    row = photographs.sentences(means, datasets).iloc[0]
    assert (row["on photographs"], row["on sets that nobody had read"]) == said
