"""What a card says of a score, beside the best Top-k that reconstructs as well."""

import pytest

from sae.comparison import card
from sae.report.card_words import headline, sentences


def content_of(word, *, seeds=3, chosen="a", **reading):
    """Return a card of one score, of an SAE with R2 .773."""
    return {
        "scores": {
            "r2": 0.78,
            "r2_val": 0.773,
            "best_r2": 0.77,
            "r2_untrained": 0.2,
            "l0": 16.0,
            "live_latents": 96,
            "m": 100,
        },
        "references": {"seeds": seeds, "chosen": chosen},
        "controls": {},
        "judges_at_chance": ["dinov2"],
        "readings": [
            {
                "score": "ms",
                "word": word,
                "value": 0.65,
                "topk": 0.7,
                "way": 0.75,
                "low": -0.06,
                "high": -0.04,
            }
            | reading
        ],
    }


@pytest.mark.parametrize(
    ("word", "changed", "sentence"),
    [
        (
            card.BELOW,
            {},
            "MS: tuned Top-k has .700; yours has .650, three quarters of the way from "
            "an untrained SAE. Below tuned Top-k [-.060, -.040].",
        ),
        (
            card.INCONCLUSIVE,
            {"way": None, "low": -0.06, "high": 0.01},
            "MS: tuned Top-k has .700; yours has .650. Inconclusive: anything from "
            "-.060 to +.010 fits.",
        ),
        (
            card.NOT_COMPARABLE,
            {"seeds": 0, "chosen": None},
            "MS: not comparable: no Top-k here reconstructs as well as yours, whose R2 "
            "is .773.",
        ),
        (
            card.NO_VERDICT,
            {},
            "MS: no verdict: the encoder dinov2 does not know these images, or its rows "
            "are in another order: by it even the best Top-k here may be at chance, .5.",
        ),
    ],
)
def test_a_sentence_says_beside_what_and_how_sure(word, changed, sentence):
    assert sentences(content_of(word, **changed))[1] == sentence


def test_the_headline_has_the_r2_and_the_verdicts():
    content = content_of(card.BELOW)
    other = content["readings"][0] | {"score": "detection"}
    content["readings"] += [other, other | {"score": "names_share", "word": ""}]
    assert headline(content) == (
        "Yours has an R2 of .773 on validation images, where tuned Top-k reaches .770, "
        "and is below tuned Top-k in MS, detection."
    )


def test_without_a_verdict_the_headline_says_why():
    content = content_of(card.NO_VERDICT, score="detection")
    assert headline(content) == (
        "Yours has an R2 of .773 on validation images, where tuned Top-k reaches .770. "
        "Detection: no verdict: the encoder dinov2 does not know these images, or its "
        "rows are in another order."
    )
