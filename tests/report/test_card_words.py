"""What a card says of a score, by where the front of Top-k was read."""

import pytest

from sae.comparison import card
from sae.report.card_words import headline, sentences


def content_of(read_at, word, **reading):
    """Return a card of one score, of an SAE with R2 .773 of which 96 % of latents fire."""
    return {
        "scores": {
            "r2": 0.78,
            "r2_val": 0.773,
            "r2_reach": 0.77,
            "r2_untrained": 0.2,
            "l0": 16.0,
            "live_latents": 96,
            "m": 100,
        },
        "references": {"trials": [{"firing": 0.6}, {"firing": 0.89}]},
        "controls": {},
        "readings": [
            {
                "score": "ms",
                "word": word,
                "point": {"read_at": read_at, "r2": 0.77, "reach": 0.77},
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
    ("read_at", "word", "sentence"),
    [
        (
            card.AT_OWN_R2,
            card.BELOW,
            "MS: At its R2 of .773 tuned Top-k has .700; yours has .650, three quarters "
            "of the way from an untrained SAE. Below tuned Top-k [-.060, -.040].",
        ),
        (
            card.AT_REACH,
            card.BELOW,
            "MS: At .770, the highest R2 that it reaches (yours has .773), tuned Top-k "
            "has .700; yours has .650, three quarters of the way from an untrained SAE. "
            "Below tuned Top-k [-.060, -.040].",
        ),
        (
            card.OUT_OF_REACH,
            card.NOT_COMPARABLE,
            "MS: not comparable: its R2 on validation images, .773, is above what tuned "
            "Top-k reaches with as many latents, .770.",
        ),
        (
            card.NO_FRONT,
            card.NOT_COMPARABLE,
            "MS: not comparable: yours keeps more latents: 96.0% fire on training "
            "images, and 89.0% at most of any Top-k here.",
        ),
    ],
)
def test_a_sentence_says_where_the_front_was_read(read_at, word, sentence):
    assert sentences(content_of(read_at, word))[1] == sentence


def test_the_headline_has_the_r2_and_the_verdicts():
    content = content_of(card.AT_OWN_R2, card.BELOW)
    other = content["readings"][0] | {"score": "detection_auc"}
    content["readings"] += [other, other | {"score": "names_share", "word": ""}]
    assert headline(content) == (
        "Yours has an R2 of .773 on validation images, where tuned Top-k reaches .770, "
        "and is below tuned "
        "Top-k in MS, detection."
    )


def test_without_a_verdict_the_headline_says_why():
    content = content_of(card.AT_OWN_R2, card.NO_VERDICT, score="detection_auc")
    content["judges_at_chance"] = ["dinov2"]
    assert headline(content) == (
        "Yours has an R2 of .773 on validation images, where tuned Top-k reaches .770. "
        "Detection: no verdict: the encoder dinov2 does not know these images, or its "
        "rows are in another order."
    )
    assert sentences(content)[1].startswith("Detection: no verdict: the encoder din")
