"""What a card says, in lines: a table of scores, sentences, and notes."""

from collections.abc import Mapping
from typing import Any

from sae.comparison import card as cards
from sae.comparison.scores import SCORES
from sae.scoring.choice import MARGIN

WORDS = {
    cards.BELOW: "below tuned Top-k",
    cards.LEVEL: "level with tuned Top-k",
    cards.ABOVE: "above tuned Top-k",
    cards.INCONCLUSIVE: "inconclusive",
    cards.NOT_COMPARABLE: "not comparable",
    cards.NO_VERDICT: "no verdict",
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
CONTROLS = {
    "frozen_decoder": "An SAE whose decoder was never trained",
    "pca": "PCA in place of an SAE",
}
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
    scores = content["scores"]
    r2 = [number(scores[name]) for name in ("r2_untrained", "r2", "r2_topk")]
    rows = [
        ["", "untrained", "yours", "Top-k *", "difference [95 %]", "yours is"],
        ["R2", *r2, "", ""],
    ]
    for reading in content["readings"]:
        difference = ""
        if reading["low"] is not None:
            difference = f"{number(reading['difference'], '+.3f')} {_interval(reading)}"
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
            ]
        )
    return rows


def _interval(reading: Mapping[str, Any]) -> str:
    low, high = (number(reading[end], "+.3f") for end in ("low", "high"))
    return f"[{low}, {high}]"


def headline(content: Mapping[str, Any]) -> str:
    """Return the verdicts of a card in short: on reconstruction, then on latents."""
    scores = content["scores"]
    said = (
        f"Yours reconstructs {_reconstruction(scores)}: R2 {number(scores['r2_val'])}, "
        f"their best {number(scores['best_r2'])}, on validation images."
    )
    labels_by_word: dict[str, list[str]] = {}
    for reading in content["readings"]:
        if reading["word"]:
            labels = labels_by_word.setdefault(reading["word"], [])
            labels.append(label(reading["score"]))
    without_verdict = labels_by_word.pop(cards.NO_VERDICT, [])
    verdicts = "; ".join(
        f"{word.removesuffix(' with')} in {', '.join(labels)}"
        for word, labels in labels_by_word.items()
    )
    if verdicts and scores["r2_topk"] is None:
        said += f" It is {verdicts}."
    elif verdicts:
        said += (
            " Beside the best Top-k that reconstructs as well as it (R2 "
            f"{number(scores['r2_topk'])} on test images) it is {verdicts}."
        )
    for name in without_verdict:
        said += f" {name[0].upper()}{name[1:]}: no verdict: {_says_at_chance(content)}."
    return said


def _reconstruction(scores: Mapping[str, Any]) -> str:
    """Say how an SAE reconstructs beside tuned Top-k."""
    yours, best = scores["r2_val"], scores["best_r2"]
    tuned = "Top-k SAEs tuned on the same embeddings"
    if yours > best + MARGIN:
        return f"more than {tuned}"
    if yours >= best - MARGIN:
        return f"as well as {tuned}"
    is_nearer_to_untrained = yours < (best + scores["r2_untrained"]) / 2
    return f"{'far less' if is_nearer_to_untrained else 'less'} than {tuned}"


def _says_at_chance(content: Mapping[str, Any]) -> str:
    encoders = " and ".join(content["judges_at_chance"])
    return (
        f"the encoder {encoders} does not know these images, or its rows are in "
        "another order"
    )


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what a card says in sentences, beside its headline."""
    scores = content["scores"]
    said = [
        f"Yours reconstructs {number(scores['r2'])} of the variance of the test images "
        f"(R2) with {scores['l0']:.1f} active latents an image (L0); "
        f"{scores['live_latents']:,} of its {scores['m']:,} latents fire on training "
        f"images. An untrained SAE has an R2 of {number(scores['r2_untrained'])}."
    ]
    said += [
        _sentence(reading, content)
        for reading in content["readings"]
        if reading["word"]
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


def _sentence(reading: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    name = label(reading["score"])
    name = f"{name[0].upper()}{name[1:]}"
    if reading["word"] == cards.NO_VERDICT:
        return (
            f"{name}: no verdict: {_says_at_chance(content)}: by it even the best Top-k "
            "here may be at chance, .5."
        )
    if reading["word"] == cards.NOT_COMPARABLE:
        r2 = number(content["scores"]["r2_val"])
        why = f"no Top-k here reconstructs as well as yours, whose R2 is {r2}"
        if content["references"]["seeds"]:
            why = "Top-k has too few latents that it is measured of"
        elif content["references"]["chosen"]:
            why = "Top-k diverged with other seeds"
        return f"{name}: not comparable: {why}."
    topk, yours = (number(reading[key]) for key in ("topk", "value"))
    sentence = f"{name}: tuned Top-k has {topk}; yours has {yours}"
    if reading["way"] is not None and reading["word"] != cards.LEVEL:
        sentence += f", {way_in_words(reading['way'])}"
    if reading["low"] is None:
        return f"{sentence}. Inconclusive: too few images for an interval."
    if reading["word"] == cards.INCONCLUSIVE:
        low, high = (number(reading[end], "+.3f") for end in ("low", "high"))
        return f"{sentence}. Inconclusive: anything from {low} to {high} fits."
    word = WORDS[reading["word"]]
    return f"{sentence}. {word[0].upper()}{word[1:]} {_interval(reading)}."


def notes(content: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of a card."""
    references = content["references"]
    images = content["images"]
    by = "highest detection" if images["judges"] else "highest R2"
    said = [
        f"* Of {len(references['trials'])} trials of Top-k, of {references['m']:,} "
        f"latents and k = {references['k']}, trained here for {references['steps']} "
        f"steps and some for fewer, the one of {by} whose R2 is at least yours minus "
        f"{MARGIN:g}, on validation images; mean of {references['seeds']} other seeds, "
        "on test images. All its scores are of these SAEs.",
        "The interval is over test images, by groups, and these seeds. Level: it lies "
        "within .01 of 0.",
        *(
            f"{label(reading['score'])}: {SCORES[reading['score']].what}"
            for reading in content["readings"]
        ),
        *content["notes"],
    ]
    if references["still_improving"]:
        longer = "without --quick" if references["quick"] else "trained longer"
        said.append(
            f"Top-k was still improving when its training ended: {longer} it would "
            "reach a higher R2 and be better, so that yours would stand lower."
        )
    if references["chosen"] is None:
        said.append(
            "Above what Top-k reaches: if yours was trained on more images than these, "
            "name their embeddings: --train."
        )
    if not images["judges"]:
        said.append(
            "Detection needs the embeddings of the same images by another backbone: "
            "--judge."
        )
    if not images["looks"] and images["judges"]:
        said.append("Detection by 8 x 8 pixels needs pictures: --images.")
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
    return [
        "",
        headline(content),
        "",
        *printed,
        "",
        *sentences(content),
        "",
        *notes(content),
    ]
