"""What a card says, in lines: a table of scores, sentences, and notes."""

from collections.abc import Mapping
from typing import Any

from sae.comparison import card as cards
from sae.comparison.scores import SCORES

WORDS = {
    cards.BELOW: "below tuned Top-k",
    cards.LEVEL: "level with tuned Top-k",
    cards.ABOVE: "above tuned Top-k",
    cards.INCONCLUSIVE: "inconclusive",
    cards.NOT_COMPARABLE: "not comparable",
    "": "",
}
# Shares of the way from untrained SAEs to Top-k: from each on, what is said.
WAYS = (
    (1.1, "beyond Top-k, seen from an untrained SAE"),
    (0.95, "all the way from an untrained SAE"),
    (0.85, "nine tenths of the way from an untrained SAE"),
    (0.7, "three quarters of the way from an untrained SAE"),
    (0.58, "two thirds of the way from an untrained SAE"),
    (0.42, "half of the way from an untrained SAE"),
    (0.29, "a third of the way from an untrained SAE"),
    (0.17, "a quarter of the way from an untrained SAE"),
    (0.05, "a tenth of the way from an untrained SAE"),
    (-0.05, "no further than an untrained SAE"),
)
# The controls that have a line of their own.
CONTROLS = {"frozen_decoder": "A frozen decoder", "pca": "PCA"}
LESS = "less than an untrained SAE has"


def number(value: float | None, style: str = ".3f") -> str:
    """Write a score without the 0 before its point; "-" where there is none."""
    if value is None:
        return "-"
    text = format(value, style)
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def label(score: str) -> str:
    """Return how a score is printed."""
    return SCORES[score].label or SCORES[score].heading


def way_in_words(way: float) -> str:
    """Say how far from an untrained SAE to Top-k an SAE is."""
    for least, text in WAYS:
        if way >= least:
            return text
    return LESS


def table(content: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a card's table; the first one is the head."""
    rows = [
        ["score", "untrained", "yours", "Top-k there", "yours - Top-k [95 %]", "", ""]
    ]
    scores = content["scores"]
    reach = "its reach" if scores["r2_reach"] is not None else ""
    r2 = (number(scores[key]) for key in ("r2_untrained", "r2", "r2_reach"))
    rows.append(["R2", *r2, "", reach, ""])
    for reading in content["readings"]:
        difference = ""
        if reading["low"] is not None:
            low, high = (number(reading[end], "+.3f") for end in ("low", "high"))
            difference = f"{number(reading['difference'], '+.3f')} [{low}, {high}]"
        elif reading["difference"] is not None:
            difference = number(reading["difference"], "+.3f")
        rows.append(
            [
                label(reading["score"]),
                number(reading["untrained"]),
                number(reading["value"]),
                number(reading["topk"]),
                difference,
                WORDS[reading["word"]],
                "*" if reading["front"] != reading["score"] else "",
            ]
        )
    return rows


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what a card says in sentences."""
    scores = content["scores"]
    said = [
        f"It reconstructs {number(scores['r2'], '.2f')} of the variance of the test "
        f"images (R2) with {scores['l0']:.1f} latents an image; {scores['live_latents']} "
        f"of {scores['m']} latents fire on training images. An untrained SAE has an R2 "
        f"of {number(scores['r2_untrained'], '.2f')}."
    ]
    said += [
        _sentence(reading, scores) for reading in content["readings"] if reading["word"]
    ]
    compared = [reading["score"] for reading in content["readings"] if reading["word"]]
    said += [
        f"{CONTROLS[method]}: R2 {number(values['r2'], '.2f')}"
        + "".join(
            f", {label(score)} {number(values[score], '.2f')}" for score in compared
        )
        + "."
        for method, values in content["controls"].items()
        if method in CONTROLS
    ]
    return said


def _sentence(reading: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    name = label(reading["score"])
    point = reading["point"]
    place = point["place"]
    r2 = number(scores["r2_val"], ".2f")
    if place == cards.OUT_OF_REACH:
        return (
            f"{name}: not comparable: its R2 on validation images, {r2}, is above what "
            f"tuned Top-k reaches with as many latents, {number(point['reach'], '.2f')}."
        )
    if place == cards.NO_FRONT:
        return (
            f"{name}: not comparable: {place}: with these m and L0 on these images, "
            "every Top-k leaves more than a tenth of its latents without an image."
        )
    if place == cards.DIVERGED:
        return f"{name}: not comparable: {place}."
    if reading["word"] == cards.NOT_COMPARABLE:
        return f"{name}: not comparable: it is not measured on the test images."
    where = f"At its R2 of {r2}"
    if place == cards.AT_LOWEST:
        where = (
            f"At {number(point['r2'], '.2f')}, the lowest R2 of its front (yours, {r2}, "
            "is lower),"
        )
    topk, yours = (number(reading[key], ".2f") for key in ("topk", "value"))
    sentence = f"{where} tuned Top-k has {topk} of {name}; yours has {yours}"
    if reading["way"] is not None:
        sentence += f": {way_in_words(reading['way'])}"
    low, high = (number(reading[end], "+.3f") for end in ("low", "high"))
    word = WORDS[reading["word"]]
    if reading["low"] is None:
        return f"{sentence}. Inconclusive: too few images for an interval."
    if reading["word"] == cards.INCONCLUSIVE:
        return f"{sentence}. Inconclusive: anything from {low} to {high} fits."
    return f"{sentence}. {word[0].upper()}{word[1:]} [{low}, {high}]."


def notes(content: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of a card."""
    references = content["references"]
    images = content["images"]
    said = [
        f"Top-k: {references['m']} latents, k = {references['k']}, "
        f"{references['steps']} steps, the best of {len(references['trials'])} trials "
        "by validation, read on test with seeds of its own. The interval is over groups "
        "of test images and these seeds. Level: within .01.",
        *content["notes"],
    ]
    if references["still_improving"]:
        said.append("The references were still improving: longer ones would be better.")
    if any(row[-1] for row in table(content)[1:]):
        said.append(
            "*: read at the vertices of the first score's front, of which no word is "
            "said."
        )
    if not images["judges"]:
        said.append(
            "Detection needs the embeddings of the same images by another backbone: "
            "--judge."
        )
    if not images["looks"] and images["judges"]:
        said.append("Detection by looks needs pictures: --images.")
    if not images["concepts"]:
        said.append("Names need keywords of the images: --concepts.")
    return said


def lines(content: Mapping[str, Any]) -> list[str]:
    """Return the lines of a card on the console."""
    rows = table(content)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    printed = [
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return ["", *printed, "", *sentences(content), "", *notes(content)]
