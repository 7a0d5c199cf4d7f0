"""What a card says of a score, beside the best Top-k that reconstructs as well."""

import pytest

from sae.comparison import card
from sae.report.card_words import headline, notes, sentences, table


def content_of(word, *, chosen="lr0.001", seeds=3, **reading):
    """Return a card of one score, of an SAE with R2 .773 on validation.

    Args:
        word: What is said of the score.
        chosen: The trial of Top-k that reconstructs as well, if any.
        seeds: How many SAEs trained at it.
        reading: Other values of the score.
    """
    return {
        "scores": {
            "r2": 0.78,
            "r2_val": 0.773,
            "best_r2": 0.77,
            "r2_topk": 0.765,
            "r2_untrained": 0.2,
            "l0": 16.0,
            "live_latents": 96,
            "m": 100,
        },
        "images": {"judges": ["dinov2"], "looks": True, "concepts": True},
        "references": {
            "trials": [{}, {}],
            "chosen": chosen,
            "seeds": seeds,
            "m": 100,
            "k": 16,
            "steps": 250,
            "still_improving": False,
        },
        "controls": {},
        "notes": [],
        "judges_at_chance": [],
        "readings": [
            {
                "score": "ms",
                "word": word,
                "value": 0.65,
                "untrained": 0.5,
                "topk": 0.7,
                "difference": -0.05,
                "way": 0.75,
                "low": -0.06,
                "high": -0.04,
            }
            | reading
        ],
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            content_of(card.BELOW),
            "MS: tuned Top-k has .700; yours has .650, three quarters of the way from an "
            "untrained SAE. Below tuned Top-k [-.060, -.040].",
        ),
        (
            content_of(card.INCONCLUSIVE, low=-0.06, high=0.02),
            "MS: tuned Top-k has .700; yours has .650, three quarters of the way from an "
            "untrained SAE. Inconclusive: anything from -.060 to +.020 fits.",
        ),
        (
            content_of(card.NOT_COMPARABLE, chosen=None, seeds=0),
            "MS: not comparable: no Top-k here reconstructs as well as yours, whose R2 is "
            ".773.",
        ),
        (
            content_of(card.NOT_COMPARABLE, seeds=0),
            "MS: not comparable: Top-k diverged with other seeds.",
        ),
        (
            content_of(card.NOT_COMPARABLE),
            "MS: not comparable: Top-k has too few latents that it is measured of.",
        ),
    ],
)
def test_a_sentence_says_where_the_sae_stands(content, sentence):
    assert sentences(content)[1] == sentence


def test_the_note_says_which_saes_the_column_of_topk_is_of():
    content = content_of(card.BELOW)
    head, r2, ms = table(content)
    assert head[3] == "Top-k *"
    assert r2[:4] == ["R2", ".200", ".780", ".765"]
    assert ms[1:] == [
        ".500",
        ".650",
        ".700",
        "-.050 [-.060, -.040]",
        "below tuned Top-k",
    ]
    note = notes(content)[0]
    assert "Of 2 trials of Top-k" in note and "mean of 3 other seeds" in note
    assert "the one of highest detection whose R2 is at least yours minus 0.01" in note
    content["images"]["judges"] = []
    assert "the one of highest R2 whose R2" in notes(content)[0]
    assert not any("Above what Top-k reaches" in note for note in notes(content))
    content["references"]["chosen"] = None
    assert any("Above what Top-k reaches" in note for note in notes(content))


AS_WELL = (
    "Yours reconstructs as well as Top-k SAEs tuned on the same embeddings: R2 .773, "
    "their best .770, on validation images."
)


def test_the_headline_has_a_verdict_on_reconstruction_then_on_latents():
    content = content_of(card.BELOW)
    other = content["readings"][0] | {"score": "detection"}
    content["readings"] += [
        other,
        other | {"score": "concepts_match", "word": card.LEVEL},
        other | {"score": "names_share", "word": ""},
    ]
    assert headline(content) == (
        f"{AS_WELL} Beside the best Top-k that reconstructs as well as it (R2 .765 on "
        "test images) it is below in MS, detection; level in match with concepts."
    )


@pytest.mark.parametrize(
    ("r2", "said"),
    [
        (0.7801, "more than Top-k"),
        (0.7801 - 0.001, "as well as Top-k"),
        (0.7599, "less than Top-k"),
        # Untrained SAEs have .2, so that the middle is .485.
        (0.484, "far less than Top-k"),
        (0.486, "less than Top-k"),
    ],
)
def test_how_an_sae_reconstructs_is_said_first(r2, said):
    content = content_of(card.NOT_COMPARABLE)
    content["scores"] |= {"r2_val": r2, "r2_topk": None}
    text = headline(content)
    assert text.startswith(
        f"Yours reconstructs {said} SAEs tuned on the same embeddings"
    )
    assert text.endswith("on validation images. It is not comparable in MS.")


def test_without_a_verdict_the_headline_says_why():
    content = content_of(card.NO_VERDICT, score="detection")
    content["judges_at_chance"] = ["dinov2"]
    assert headline(content) == (
        f"{AS_WELL} Detection: no verdict: the encoder dinov2 does not know these images, "
        "or its rows are in another order."
    )
    assert sentences(content)[1].startswith("Detection: no verdict: the encoder din")
